"""critest, the validation suite of the Container Runtime Interface (cri-tools), on containerd and on CRI-O.

    PYTHONPATH=src:tests python -m peers.critest RUNTIME [containerd|crio [FOCUS]]  runs it, prints the row of the table

Its images come from a registry of the premises' own, filled from the test images; all names of registries lead there.
`critest` is looked for where `crictl` is (callers.crio). The cases about images are about the caller and are left out,
but for those that run something.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from harness.callers import Premises
from harness.callers.archives import derived
from harness.callers.containerd import Containerd
from harness.callers.crio import CAPABLE, NETWORK, Crio, program
from harness.engine import cgroups_of
from harness.programs import compile_static, peer
from registryfixture import DockerRegistry

from peers.tap import Case, report

SUITE_SECONDS = 1500
# About images alone; benchmarks.
LEFT_OUT = "Image (Manager|Identifier|Consistency)|benchmark"
PORT = 5000  # in the premises' own network
REGISTRIES = ("registry.k8s.io", "gcr.io", "k8s.gcr.io")
CONTAINERD = """
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"

[plugins."io.containerd.grpc.v1.cri".registry.mirrors."*"]
endpoint = ["http://127.0.0.1:{port}"]
"""
# CRI-O's sandboxes want an oom_score_adj below the machine's, which takes CAP_SYS_RESOURCE. (containerd can do without:
# restrict_oom_score_adj.) Where it is missing, this stands before the runtime.
CLAMP = """#!{python}
import json, os, sys
if "create" in sys.argv:
    path = sys.argv[sys.argv.index("--bundle") + 1] + "/config.json"
    with open(path) as file:
        config = json.load(file)
    least = int(open("/proc/self/oom_score_adj").read())
    config["process"]["oomScoreAdj"] = max(config["process"].get("oomScoreAdj", least), least)
    with open(path, "w") as file:
        json.dump(config, file)
os.execv("{runtime}", ["{runtime}", *sys.argv[1:]])
"""
NGINX = """user nginx;
worker_processes 1;
error_log /dev/stderr notice;
pid /var/run/nginx.pid;
events {{ worker_connections 64; }}
http {{ access_log /dev/stdout; server {{ listen {port}; root /usr/share/nginx/html; }} }}
"""
PAGE = "<html><head><title>Welcome to nginx!</title></head></html>\n"
USERS = "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home:/bin/sh\nwww-data:x:33:33::/home:/bin/sh\n"
GROUPS = "root:x:0:\ndefault-user:x:1000:\nwww-data:x:33:\ngroup-defined-in-image:x:50000:default-user\n"


def _nginx(port: int) -> dict[str, str | Path]:
    return {"etc/nginx/nginx.conf": NGINX.format(port=port), "usr/share/nginx/html/index.html": PAGE, "var/run/.x": ""}


# {name in the registry: (test image, what its configuration says besides, files on top of it)}
# Debian's busybox has not all that the real image's has.
BUSYBOX: dict[str, str | Path] = {
    "bin/pgrep": "#!/bin/sh\nps -o pid,comm | awk -v name=$1 '$2 ~ name { print $1; found = 1 } END { exit !found }'\n",
    "bin/ipcs": "#!/bin/sh\ncat /proc/sysvipc/shm\n",
}
EFFECTIVE = Path(__file__).with_name("effective.c")  # which is compiled, and gets the set-user-ID bit
STAGING = "k8s-staging-cri-tools"
HTTPD = ["sh", "-c", "echo httpd; exec nginx -g 'daemon off;'"]
IMAGES: dict[str, tuple[str, dict[str, Any], dict[str, str | Path]]] = {
    "e2e-test-images/busybox:1.29-2": ("busybox", {}, BUSYBOX),
    "e2e-test-images/nginx:1.14-2": ("nginx", {}, _nginx(80)),
    "e2e-test-images/httpd:2.4.39-4": ("nginx", {"Cmd": HTTPD}, _nginx(80)),
    "e2e-test-images/nonewprivs:1.3": ("busybox", {"Cmd": ["/bin/effective"]}, {"bin/effective": EFFECTIVE}),
    f"{STAGING}/test-image-tag:test": ("busybox", {}, {"etc/passwd": USERS}),
    f"{STAGING}/hostnet-nginx-amd64:latest": ("nginx", {}, _nginx(12003)),
    f"{STAGING}/test-image-predefined-group:latest": (
        "busybox", {"User": "1000"}, {"etc/passwd": USERS, "etc/group": GROUPS},
    ),
}  # fmt: skip


def run(runtime: str, log: TextIO, caller: str = "containerd", focus: str = "") -> list[Case]:
    """Every case with `runtime`, the path of one executable; what the suite writes goes to `log`."""
    critest = program("critest")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, caller)
        folder.mkdir()
        with Premises(folder) as premises, _registry(premises, Path(place)), _serving(caller, premises, runtime) as at:
            words = [critest, "--runtime-endpoint", f"unix://{at}", "--ginkgo.no-color"]
            words += ["--ginkgo.junit-report", f"{place}/report.xml"]
            words += ["--ginkgo.skip", LEFT_OUT, "--ginkgo.focus", focus]
            done = premises.run(words, check=False, timeout_s=SUITE_SECONDS)
            log.write(done.stdout + done.stderr)
        _tidy()
        return _cases(Path(place, "report.xml"))


def _tidy() -> None:
    """The suite names no cgroup for its pods: the callers make them at the top. What nobody uses is removed."""
    for folder in sorted([*cgroups_of("crio"), *cgroups_of("k8s.io")], reverse=True):
        try:
            os.rmdir(folder)
        except OSError:
            pass


@contextmanager
def _serving(caller: str, premises: Premises, runtime: str) -> Iterator[Path]:
    """The caller, with masu-oci's place taken by `runtime`; its socket."""
    if caller == "crio":
        if not CAPABLE:
            runtime = str(clamped(runtime, premises.folder / "clamp"))
        lines = "".join(
            f'[[registry]]\nprefix = "{name}"\nlocation = "127.0.0.1:{PORT}"\ninsecure = true\n' for name in REGISTRIES
        )
        (premises.folder / "registries.conf").write_text(lines)
        premises.run(["mount", "--bind", premises.folder / "registries.conf", "/etc/containers/registries.conf"])
        with Crio(premises, runtime=runtime) as crio:
            yield crio.socket
        return
    (premises.folder / "cni").mkdir()
    (premises.folder / "cni" / "masu.conflist").write_text(json.dumps(NETWORK))
    more = CONTAINERD.format(folder=premises.folder, port=PORT)
    with Containerd(premises, runtime=runtime, more=more) as containerd:
        containerd.load("redis", "k8s.io")  # of which the sandbox is made
        yield containerd.socket


def clamped(runtime: str, at: Path) -> Path:
    """A program at that path that stands before the runtime (CLAMP)."""
    at.write_text(CLAMP.format(python=sys.executable, runtime=runtime))
    at.chmod(0o755)
    return at


@contextmanager
def _registry(premises: Premises, place: Path) -> Iterator[None]:
    """A registry at 127.0.0.1:5000 of the premises that has the suite's images."""
    with DockerRegistry(place) as filling:
        for name, (base, config, files) in IMAGES.items():
            if EFFECTIVE in files.values():
                program = shutil.copy(compile_static(EFFECTIVE), place / "effective")
                os.chmod(program, 0o4755)
                files = {"bin/effective": Path(program)}
            made = derived(base, place / "image", config, files)
            words = [peer("skopeo"), "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{made}:latest"]
            subprocess.run([*words, f"docker://{filling.host}/{name}"], check=True)
            shutil.rmtree(made)
        (kept,) = place.glob("registry-*")
        data = place / "data"
        shutil.copytree(kept / "data", data)
    config_file = place / "registry.yml"
    config_file.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp: {{addr: 127.0.0.1:{PORT}}}\n"
    )
    ready = [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {PORT}))"]
    with premises.daemon([peer("docker-registry"), "serve", config_file], ready):
        yield


def _cases(reported: Path) -> list[Case]:
    """What a JUnit report says; a case that was left out is marked as skipped there, without a reason."""
    found = []
    for case in xml.parse(reported).iter("testcase"):
        title, status, skipped = case.get("name", ""), case.get("status", ""), case.find("skipped")
        reason = "" if skipped is None else skipped.get("message", "").partition(" - ")[2]
        if title.startswith("[It]") and (status != "skipped" or reason):
            verdict = {"passed": "ok", "skipped": "skip"}.get(status, "failed")
            found.append(Case(title.removeprefix("[It] [k8s.io] "), verdict, reason))
    return found


if __name__ == "__main__":
    name = Path(sys.argv[1]).name
    with Path(f"critest-{'-'.join(sys.argv[2:3])}-{name}.log").open("w") as said:
        print(report(name, run(os.path.abspath(sys.argv[1]), said, *sys.argv[2:])))
