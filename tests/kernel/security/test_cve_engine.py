"""Images made to reach the host through the engine: VOLUME, WORKDIR, USER, labels, what `masu cp` meets."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.engine import Masu, wait_until
from kernel.layermaker import GZIP, digest_of, directory, file, layer, symlink
from kernel.security.staging import UP, Outside, attacker

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def masu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masu]:
    it = Masu(tmp_path_factory.mktemp("masu"))
    yield it
    it.close()


class Images:
    """Loads images made of the probe, a few directories, `entries` and `config`."""

    def __init__(self, masu: Masu, folder: Path, probe: Path) -> None:
        self.masu = masu
        self.folder = folder
        self.base = [
            *(directory(name) for name in ("bin", "dev", "etc", "proc", "sys", "root")),
            directory("tmp", 0o1777),
            file("bin/probe", probe.read_bytes(), 0o755),
        ]
        self.made = 0

    def make(self, *entries: Any, passwd: bytes | None = None, annotations: Any = None, **config: Any) -> str:
        self.made += 1
        name = f"{self.folder.name[:40].lower().replace('_', '-').rstrip('-')}-{self.made}"
        target = self.folder / name
        (target / "blobs/sha256").mkdir(parents=True)
        accounts = b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n" if passwd is None else passwd
        raw = layer(*self.base, file("etc/passwd", accounts), file("etc/group", "extra:x:2000:user\n"), *entries)
        notes = {"annotations": annotations} if annotations else {}

        def blob(data: bytes, kind: str) -> dict[str, object]:
            digest = digest_of(data)
            (target / "blobs" / digest.replace(":", "/")).write_bytes(data)
            return {"mediaType": kind, "digest": digest, "size": len(data)}

        document = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Entrypoint": ["/bin/probe"], "Env": ["PATH=/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(raw)]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [blob(gzip.compress(raw, 1, mtime=0), GZIP)],
            **notes,
        }
        index = blob(json.dumps(manifest).encode(), str(manifest["mediaType"]))
        (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index], **notes}))
        (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        loaded = self.masu("load", "-i", str(target))
        self.masu("tag", loaded.rpartition(": ")[2].strip(), name)
        return name


@pytest.fixture
def images(masu: Masu, tmp_path: Path, probe: Path) -> Images:
    return Images(masu, tmp_path, probe)


def ways(target: Path) -> dict[str, list[Any]]:
    """{what leads to `target` if taken literally: entries of the image that it needs}"""
    climb = UP + str(target)[1:]
    return {
        "/" + climb: [],
        "/absolute": [symlink("absolute", str(target))],
        "/climbing": [symlink("climbing", climb)],
        "/a/folder": [directory("b"), symlink("a", f"{climb}/../{target.name}")],
        "/magic": [symlink("magic", f"/proc/self/root{target}")],
    }


def test_cve_2022_23648(images: Images, masu: Masu, outside: Outside) -> None:
    """VOLUME: what the image has there is copied into a new volume; a path that leads out copied the host's files."""
    name = images.make(directory("data"), file("data/inside", "x"), Volumes={"/data": {}})
    assert masu("run", "--rm", name, "ls", "/data") == "inside\n"
    for path, entries in ways(outside.path).items():
        name = images.make(*entries, Volumes={path: {}})
        done = masu.try_("run", "--rm", name, "ls", path)
        assert "Traceback" not in done.stderr
        assert done.returncode != 0 or done.stdout in ("", "ERROR ENOENT\n"), (path, done)
        assert "folder" not in done.stdout
    outside.check()


def test_cve_2026_55686(images: Images, masu: Masu, outside: Outside) -> None:
    """WORKDIR that is missing is made: through a symlink of the image, on the host."""
    made = 0
    # The image has directories of the same names, in which it is harmless.
    above = [str(folder)[1:] for folder in reversed((outside.path, *outside.path.parents)) if str(folder) not in "/tmp"]
    same = [directory(name, 0o777) for name in above]
    for path, entries in ways(outside.path).items():
        name = images.make(*same, *entries, WorkingDir=path + "/made/deep", User="1000")
        done = masu.try_("run", "--rm", name, "cwd")
        assert done.returncode != 0 or done.stdout.endswith("/made/deep\n"), (path, done)
        masu.try_("run", "--rm", "--workdir", path + "/other", name, "cwd")
        outside.check()
        made += done.returncode == 0
    assert made >= 4


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf", "mtab"])
def test_cve_2024_5154(images: Images, masu: Masu, outside: Outside, name: str) -> None:
    """A file that an engine gives each container is a symlink of the image (cri-o wrote /etc/mtab through one): it is
    followed in the container, if at all."""
    climb = UP + str(outside.path)[1:]
    for target in (str(outside.path), climb, f"/proc/self/root{outside.path}"):
        for end in ("file", "missing"):
            image = images.make(symlink(f"etc/{name}", f"{target}/{end}"))
            done = masu.try_("run", "--rm", "--hostname", "box", image, "cat", "/etc/hostname", "--", "ls", target)
            assert done.returncode != 0 or done.stdout.startswith("box\n"), done
            assert "folder" not in done.stdout
            outside.check()


@pytest.mark.parametrize("what", ["manifest", "config", "layer", "diff_id"])
@pytest.mark.parametrize(
    "digest", ["", "sha256", "sha256:", "sha256:" + "g" * 64, "sha256:../../../etc/passwd", ":", 7]
)
def test_cve_2026_95839(images: Images, masu: Masu, what: str, digest: object) -> None:
    """A digest that is none, wherever an image has one (containerd's daemon died of it): an error with its place."""
    name = images.make()
    folder = images.folder / name
    index = json.loads((folder / "index.json").read_text())

    def changed(descriptor: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
        """The document behind a descriptor anew."""
        document = json.loads((folder / "blobs" / descriptor["digest"].replace(":", "/")).read_text())
        change(document)
        data = json.dumps(document).encode()
        descriptor.update(digest=digest_of(data), size=len(data))
        (folder / "blobs" / descriptor["digest"].replace(":", "/")).write_bytes(data)

    (manifest,) = index["manifests"]
    if what == "manifest":
        manifest["digest"] = digest
    elif what == "config":
        changed(manifest, lambda document: document["config"].update(digest=digest))
    elif what == "layer":
        changed(manifest, lambda document: document["layers"][0].update(digest=digest))
    else:
        changed(
            manifest,
            lambda document: changed(document["config"], lambda config: config["rootfs"].update(diff_ids=[digest])),
        )
    (folder / "index.json").write_text(json.dumps(index))
    done = masu.try_("load", "-i", str(folder))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert ("diff_ids[0]" if what == "diff_id" else "digest") in done.stderr, done.stderr
    assert name in masu("images")


def test_cve_2024_21626_workdir(images: Images, masu: Masu) -> None:
    for number in range(3, 12):
        name = images.make(WorkingDir=f"/proc/self/fd/{number}")
        done = masu.try_("run", "--rm", name, "ls", UP)
        assert done.returncode != 0 or done.stdout.split() == ["bin", "dev", "etc", "proc", "root", "sys", "tmp"], done


USERS = ["4294967295", "4294967296", "-1", "0x0", "nobody-here", "root\n", "user:", "0:-1", "٠", "1" * 5000]


def test_cve_2024_40635(images: Images, masu: Masu) -> None:
    """USER of an image, and --user: what is no id and no name is nobody, above all not root. (CVE-2026-46680: the same
    answer in `exec`.)"""
    id = masu("run", "-d", images.make(), "sleep").strip()
    for user in USERS:
        done = masu.try_("run", "--rm", images.make(User=user), "id")
        assert done.returncode != 0, (user, done.stdout)
        assert "uid=" not in done.stdout
        assert "Traceback" not in done.stderr
        done = masu.try_("exec", "--user", user, id, "/bin/probe", "id")
        assert done.returncode != 0, (user, done.stdout)
        assert "uid=" not in done.stdout
    named, numbered = (masu("exec", "--user", user, id, "/bin/probe", "id") for user in ("user", "1000"))
    assert named == numbered
    assert named == masu("run", "--rm", images.make(User="user"), "id")
    masu("rm", "-f", id)


def test_cve_2022_36109(images: Images, masu: Masu) -> None:
    """The primary group is among the supplementary ones: without it a setgid program takes a denial by group away."""
    seen = masu("run", "--rm", images.make(User="user"), "id", preexec_fn=lambda: os.setgroups([7, 4242]))
    assert seen.split()[-1] == "groups=1000,2000"
    seen = masu("run", "--rm", "--user", "1000:5", "--group-add", "6", images.make(), "id")
    assert seen.split()[-1] == "groups=5,6"


def test_cve_2025_4437(images: Images, masu: Masu) -> None:
    """/etc/passwd of the image beyond all measure: refused, not read."""
    name = images.make(passwd=b"a:x:1:1::/:/\n" * 500_000)
    assert "passwd" in masu.fails("run", "--rm", "--user", "user", name, "id")


LABELS = {
    "containerd.io/restart.status": "running",
    "containerd.io/restart.loguri": "binary:///bin/touch?/tmp/masu-test-label",
    "io.containerd.image.label": "x",
    "run.oci.handler": "krun",
    "io.podman.annotations.privileged": "TRUE",
    "org.systemd.property.ExecStart": "/bin/touch /tmp/masu-test-label",
    "devcontainer.metadata": "[]",
    "io.containers.capabilities": "CAP_SYS_ADMIN",
}


def test_cve_2026_53488(images: Images, masu: Masu) -> None:
    """Labels and annotations of an image reach no runtime: the config made of it has neither, and the rest is as it is
    without them. (CVE-2026-94603)"""
    configs = []
    for name in (images.make(), images.make(annotations=LABELS, Labels=LABELS)):
        id = masu("run", "-d", "--name", "masu-test-labels", name, "sleep").strip()
        (found,) = [path for path in masu.run.rglob("config.json") if id in str(path)]
        text = found.read_text()
        configs.append(json.loads(text.replace(id, "ID").replace(id[:12], "ID")))
        masu("rm", "-f", id)
    for config in configs:
        # The directories of either container's own layer; everything else must agree.
        config["root"] = None
    assert configs[0] == configs[1]
    assert "annotations" not in configs[1]
    assert not Path("/tmp/masu-test-label").exists()


def test_defaults(images: Images, masu: Masu) -> None:
    """CVE-2026-31431: no AF_ALG; CVE-2022-24769: nothing inheritable; GHSA-7ww5: no energy counters; devices denied."""
    look = "caps -- socket 38 5 -- socket 40 1 -- ls /sys/devices/virtual/powercap"
    look += " -- write /proc/sys/kernel/domainname x -- mknod /tmp/mem c 1 1 -- open /tmp/mem r"
    look += " -- mknod /tmp/kmsg c 1 11 -- open /tmp/kmsg r -- unshare 0x10000000"
    lines = masu("run", "--rm", images.make(), *look.split()).splitlines()
    assert " inheritable=0 " in lines[0]
    assert lines[0].endswith("seccomp=2")
    # Masked, the directory of counters is empty; a machine without them answers ENOENT.
    rest = [line for line in lines[1:] if line != "ERROR ENOENT"]
    assert rest[:3] == ["ERROR EPERM", "ERROR EPERM", "ERROR EROFS"], lines
    assert rest[3:] == ["ok", "ERROR EPERM", "ok", "ERROR EPERM", "ERROR EPERM"], lines


def test_cve_2021_41103(images: Images, masu: Masu) -> None:
    """Nobody but the owner searches the engine's directories; sockets are files of his (CVE-2020-15257)."""
    id = masu("run", "-d", images.make(), "sleep").strip()
    session = masu.start("exec", "-i", id, "/bin/probe", "stdin")
    wait_until(lambda: len(list(masu.run.rglob("attach.sock"))) == 2)
    for top in (masu.root, masu.run):
        assert stat.S_IMODE(top.stat().st_mode) == 0o700
        other = subprocess.run(
            ["ls", str(top)], user=65534, group=65534, extra_groups=[], capture_output=True, check=False
        )
        assert other.returncode != 0
    for socket in masu.run.rglob("attach.sock"):
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]
    assert not [name for name in names if name.startswith("@") and ("masu" in name or id in name)]
    session.communicate(b"")
    masu("rm", "-f", id)


def test_cve_2018_15664(images: Images, masu: Masu, outside: Outside, tmp_path: Path) -> None:
    """`masu cp` from and to a container that exchanges a directory and a symlink to the host's files all the time.
    (CVE-2019-14271, CVE-2026-41567: nothing of the container is executed for it.)"""
    climb = UP + str(outside.path)[1:]
    name = images.make(
        file("bin/attacker", attacker().read_bytes(), 0o755), directory("d"), file("d/file", "the container's\n"),
        symlink("l", climb), Entrypoint=["/bin/attacker", "swap", "/d", "/l"],
    )  # fmt: skip
    id = masu("run", "-d", name).strip()
    (tmp_path / "new").write_text("new\n")
    seen = set()
    for attempt in range(12):
        target = tmp_path / f"copied-{attempt}"
        if masu.try_("cp", f"{id}:/d/file", str(target)).returncode == 0:
            seen.add(target.read_text())
        masu.try_("cp", str(tmp_path / "new"), f"{id}:/d/new")
        masu.try_("cp", str(tmp_path / "new"), f"{id}:/d/file2")
        outside.check()
    assert seen == {"the container's\n"}
    masu("rm", "-f", id)
