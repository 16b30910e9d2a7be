"""CRI-O's own integration tests (bats), those of their files that have to do with the runtime.

    PYTHONPATH=src:tests python -m peers.criosuite RUNTIME [FILE.bats...]     runs them, prints the row of the table

CRI-O, with the programs of its tests, and crictl are looked for where callers.crio says. The cases run in premises of
their own with the cgroupfs driver. What the suite's images hold is brought by the test images.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TextIO

from harness.callers import Premises
from harness.callers.archives import derived
from harness.callers.crio import CAPABLE, program
from harness.engine import cgroups_of
from harness.programs import compile_static, peer

from peers.critest import clamped
from peers.sources import source
from peers.tap import Case, cases, main

FILES = (
    "cgroups", "ctr", "ctr_pause_unpause", "ctr_seccomp", "ctr_timeout", "ctr_userns", "default_mounts", "devices",
    "drop_infra", "exec_termination", "hooks", "inspect", "namespaces",
    "oci_volumes", "pod", "restore", "runtimeversion", "seccomp_notifier", "seccomp_runtime_handler", "shm",
    "shm_size", "stats", "status", "timeout", "umask_annotation", "userns_annotation", "workloads",
)  # fmt: skip
FILE_SECONDS = 900
USERS = "root:x:0:0:root:/root:/bin/sh\ntest:x:5000:5000::/home/test:/bin/sh\nredis:x:998:998::/data:/bin/sh\n"
GROUPS = "root:x:0:\ntest:x:5000:\nredis:x:998:\n"
# CRI-O and its tests keep more below /etc and /var than they can be told to keep elsewhere. As systemd has it, all
# mounts are shared.
SCRIPT = """
for name in etc var; do
  over=/run/over/$name
  if [ ! -d $over ]; then
    mkdir -p $over $over.work || exit
    mount -t overlay -o lowerdir=/$name,upperdir=$over,workdir=$over.work masu-test /$name || exit
  fi
done
mount --make-rshared / && cd "$0" && exec "$@"
"""
# Of the image that the suite pulls, beside what the test image has: {program: script}.
SCRIPTS = {
    "bin/bash": 'exec /bin/sh "$@"',
    "usr/bin/cp": 'exec /bin/cp "$@"',
    "usr/bin/gcc": 'exec /bin/cp /usr/lib/clone-ns "$3"',  # one file only
    "usr/local/sbin/swapoff": "exec /sbin/swapoff /etc/passwd",
    "usr/bin/findmnt": """exec awk -v target="$3" '$5 == target { print target, / shared:/ ? "shared" : "private" }' \\
  /proc/self/mountinfo""",
}
# crictl, which may have been built without its version; the suite looks for one that is new enough.
CRICTL = """#!/bin/sh
if [ "$1" = --version ]; then echo crictl version 1.36.0; else exec {crictl} "$@"; fi
"""
# CRI-O's `--cgroup-manager cgroupfs` wants a parent that is no slice; where its tests look for it is in helpers.bash.
SLICE, PARENT = "pod_123-456.slice", "/pod_123-456"


def run(runtime: str, log: TextIO, *files: str) -> list[Case]:
    """Every case of the files with `runtime`, the path of one executable."""
    found: list[Case] = []
    for name in ("jq", "socat", "netstat"):
        peer(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "premises")
        folder.mkdir()
        suite = _copy(source("cri-o") / "test", Path(place, "test"))
        called = _called(runtime, Path(place))
        _image("redis", Path(place), "fedora_crio-ci-image", _programs(suite, Path(place)))
        paused = compile_static(Path(__file__).parents[1] / "harness/callers/pause.c")
        _image("busybox", Path(place), "pause-image", {"pause": paused}, Entrypoint=["/pause"])
        crictl = _script(Path(place, "crictl"), CRICTL.format(crictl=program("crictl")))
        with Premises(folder) as premises:
            environment = {
                "ARTIFACTS_PATH": f"{place}/artifacts", "CRIO_ROOT": str(source("cri-o")),
                "CRIO_BINARY_PATH": program("crio"), "PINNS_BINARY_PATH": program("pinns"),
                "CRICTL_BINARY": str(crictl), "CONTAINER_CNI_PLUGIN_DIR": "/usr/lib/cni",
                "CONTAINER_DEFAULT_RUNTIME": called.name, "PATH": f"{called.parent}:{os.environ['PATH']}",
                "CONTAINER_CGROUP_MANAGER": "cgroupfs", "IRQBALANCE_CONFIG_FILE": f"{place}/irqbalance",
                "CONTAINER_SECCOMP_PROFILE": _profile(), "TMPDIR": place,
            }  # fmt: skip
            for name in files or [f"{name}.bats" for name in FILES]:
                words = ["sh", "-c", SCRIPT, str(suite), peer("bats"), "-t", name]
                try:
                    done = premises.run(words, env=environment, check=False, timeout_s=FILE_SECONDS)
                    said = done.stdout + done.stderr
                except subprocess.TimeoutExpired:
                    said = (folder / "out").read_text(errors="replace") + f"not ok 0 {name} did not end\n"
                log.write(f"# {name}\n{said}\n")
                log.flush()
                found += cases(said, f"{name.removesuffix('.bats')}: ")
        _tidy()
    return found


def _copy(tests: Path, target: Path) -> Path:
    """The suite with the parent of its pods for cgroupfs, for Debian 12's bats, without the image for WebAssembly."""
    shutil.copytree(tests, target, ignore=shutil.ignore_patterns("*.go"))
    for file, before, after in (
        ("testdata/sandbox_config.json", SLICE, PARENT),
        ("helpers.bash", "bats_require_minimum_version 1.9.0\n", ""),
        ("common.sh", "quay.io/crio/hello-wasm:latest\n", "\n"),
    ):
        path = target / file
        text = path.read_text()
        assert before in text, f"{file}: not the suite of the commit in sources.py"
        path.write_text(text.replace(before, after))
    return target


def _called(runtime: str, place: Path) -> Path:
    """The runtime, with a sandbox's score raised where the machine cannot lower one."""
    if CAPABLE:
        return Path(runtime)
    folder = place / "bin"
    folder.mkdir()
    return clamped(runtime, folder / Path(runtime).name)


def _programs(suite: Path, place: Path) -> dict[str, str | Path]:
    """What the suite's image has and the test image has not."""
    files: dict[str, str | Path] = {"etc/passwd": USERS, "etc/group": GROUPS}
    files["usr/lib/clone-ns"] = place / "clone-ns"
    subprocess.run(["cc", "-w", "-static", "-o", place / "clone-ns", suite / "testdata/clone-ns.c"], check=True)
    for name, script in SCRIPTS.items():
        files[name] = _script(place / Path(name).name, f"#!/bin/sh\n{script}\n")
    return files


def _script(at: Path, text: str) -> Path:
    at.write_text(text)
    at.chmod(0o755)
    return at


def _image(base: str, place: Path, name: str, files: dict[str, str | Path], **config: object) -> None:
    """A test image as the suite keeps those that it has pulled."""
    made = derived(base, place / "layout", config, files)
    (place / "artifacts").mkdir(exist_ok=True)
    words = [peer("skopeo"), "--insecure-policy", "copy", "-q", f"oci:{made}:latest", f"dir:{place}/artifacts/{name}"]
    subprocess.run(words, check=True)
    shutil.rmtree(made)


def _profile() -> str:
    """The seccomp profile that CRI-O has vendored, or the one of Debian's containers-common."""
    vendored = source("cri-o") / "vendor/go.podman.io/common/pkg/seccomp/seccomp.json"
    return str(vendored) if vendored.exists() else "/usr/share/containers/seccomp.json"


def _tidy() -> None:
    """Cgroups that nobody uses any more, of the suite's fixed names."""
    for folder in sorted([*cgroups_of(PARENT[1:]), *cgroups_of("crio")], reverse=True):
        try:
            os.rmdir(folder)
        except OSError:
            pass


if __name__ == "__main__":
    main("crio", run)
