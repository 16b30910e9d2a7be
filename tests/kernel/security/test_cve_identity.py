"""Who the container's process is: capabilities, ids, groups, and what an image's files say about them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness.oci import CAPABILITIES, Runtime
from kernel.security.staging import UP, Config, Outside, Victim

from masu.linux import _sys, capabilities

pytestmark = pytest.mark.root


def with_inheritable() -> None:
    """In the child, before the exec: as a caller that was itself started by something careless."""
    effective, permitted, _ = _sys.capget()
    _sys.capset(effective, permitted, permitted)


def sets(text: str) -> dict[str, int]:
    return {key: int(value, 16) for key, _, value in (word.partition("=") for word in text.split())}


NAMED = capabilities.bits(tuple(CAPABILITIES), "", [])


def test_cve_2022_29162(masu_oci: Runtime, probe_rootfs: Path, probe: Path) -> None:
    """Inheritable capabilities that nobody asked for: files with inheritable bits would turn them into real ones."""
    import subprocess

    direct = subprocess.run([probe, "caps"], capture_output=True, text=True, check=True, preexec_fn=with_inheritable)
    assert sets(direct.stdout)["inheritable"] != 0
    options: dict[str, Any] = {"preexec_fn": with_inheritable}

    def bundle(*args: str) -> str:
        return str(masu_oci.bundle(probe_rootfs, lambda config: config["process"].update(args=["/bin/probe", *args])))

    seen = [sets(masu_oci("run", "--bundle", bundle("caps"), masu_oci.id(), **options).stdout)]
    with Victim(masu_oci, probe_rootfs) as victim:
        seen.append(sets(victim.exec("/bin/probe", "caps", **options).stdout))
        added = sets(victim.exec("/bin/probe", "caps", options=("--cap", "CAP_NET_RAW"), **options).stdout)
    for one in seen:
        assert one == {"bounding": NAMED, "effective": NAMED, "permitted": NAMED, "inheritable": 0, "ambient": 0,
                       "nnp": 1, "seccomp": 0}  # fmt: skip
    more = NAMED | capabilities.bits(("CAP_NET_RAW",), "", [])
    assert (added["bounding"], added["effective"], added["inheritable"], added["ambient"]) == (more, more, 0, 0)


def test_no_capabilities_means_none(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """A config, or a process for exec, that does not speak of capabilities."""

    def silent(config: Config) -> None:
        del config["process"]["capabilities"]

    seen = sets(masu_oci.run(probe_rootfs, "caps", change=silent).stdout)
    assert [seen[name] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")] == [0] * 5
    process = masu_oci.folder / "process.json"
    process.write_text(json.dumps({"args": ["/bin/probe", "caps"], "cwd": "/", "user": {"uid": 0, "gid": 0}}))
    with Victim(masu_oci, probe_rootfs) as victim:
        seen = sets(masu_oci("exec", "--process", str(process), victim.id).stdout)
    assert (seen["bounding"], seen["effective"], seen["permitted"]) == (NAMED, NAMED, NAMED)


WORDS = [
    "", ":", "0:", "-1", "-0", "+0", " 0", "0 ", "0\n", "0x0", "00x", "1e0", "0.0", "٠", "²", "root", "root:root",
    "4294967295", "4294967296", "18446744073709551616", "0:4294967295", "0:4294967296", "0:-1", "0:root", "1000:0:0",
    "9" * 5000, "1000:" + "9" * 5000, ",0", "0,0",
]  # fmt: skip


def test_cve_2026_30892(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """exec --user with a word that is no id: it must not come out as somebody, least of all as root."""
    with Victim(masu_oci, probe_rootfs) as victim:
        for word in WORDS:
            done = victim.exec("/bin/probe", "id", options=("--user", word), check=False)
            assert done.returncode == 255, (word[:30], done.stdout)
            assert "uid=" not in done.stdout
            assert "Traceback" not in done.stderr
        for word in ("x", "-1", "4294967296", ""):
            done = victim.exec("/bin/probe", "id", options=("--additional-gids", word), check=False)
            assert done.returncode == 255, word
        # The highest there is; without a group it stays the container's.
        for word, user, group in (("1000:1001", 1000, 1001), ("4294967294", 4294967294, 0)):
            seen = victim.exec("/bin/probe", "id", options=("-u", word)).stdout
            assert seen.startswith(f"uid={user} euid={user} gid={group} ")


@pytest.mark.parametrize("id", [-1, 4294967295, 4294967296, 2**64, 1.5, "0", True, []])
@pytest.mark.parametrize("field", ["uid", "additionalGids"])
def test_cve_2024_40635(masu_oci: Runtime, probe_rootfs: Path, field: str, id: object) -> None:
    """Ids beyond 32 bits and what is no id: the low bits of 4294967296 are root's."""

    def change(config: Config) -> None:
        config["process"]["user"][field] = [id] if field == "additionalGids" else id

    done = masu_oci.run(probe_rootfs, "id", change=change, check=False)
    assert done.returncode == 1
    assert "uid=" not in done.stdout
    assert f"process.user.{field}" in done.stderr


def test_cve_2022_36109(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Supplementary groups are those of the config, whatever groups our caller is in."""
    options: dict[str, Any] = {"extra_groups": [7, 4242]}

    def run(**user: object) -> str:
        bundle = masu_oci.bundle(
            probe_rootfs, lambda config: config["process"].update(args=["/bin/probe", "id"], user=user)
        )
        return masu_oci("run", "--bundle", str(bundle), masu_oci.id(), **options).stdout.split()[-1]

    assert run(uid=0, gid=0) == "groups="
    assert run(uid=1000, gid=1000) == "groups="
    assert run(uid=1000, gid=1000, additionalGids=[1000, 2000]) == "groups=1000,2000"
    with Victim(masu_oci, probe_rootfs) as victim:
        assert victim.exec("/bin/probe", "id", **options).stdout.split()[-1] == "groups="


HOMES = {
    "newline": "root:x:0:0::/root\x0b\n:/bin/sh\n",
    "escape": "root:x:0:0::/\x1b[2J:/bin/sh\n",
    "relative": "root:x:0:0::etc:/bin/sh\n",
    "no number": "root:x:zero:0::/wrong:/bin/sh\n",
    "negative": "root:x:-0:0::/wrong:/bin/sh\n",
    "short": "root:x:0\n",
    "NUL": "root:x:0:0::/ro\0ot:/bin/sh\n",
    "beyond": "a:x:4294967296:0::/wrong:/bin/sh\n",
}


@pytest.mark.parametrize("what", HOMES)
def test_cve_2022_4318(masu_oci: Runtime, own_probe_rootfs: Path, what: str) -> None:
    """HOME comes from the image's passwd: nothing in it ends a line or a string, and odd lines are no entries."""
    (own_probe_rootfs / "etc/passwd").write_text(HOMES[what])
    seen = masu_oci.run(own_probe_rootfs, "env").stdout
    assert [line for line in seen.splitlines() if line.startswith("HOME=")] == ["HOME=/"], seen


def test_cve_2022_4318_config(masu_oci: Runtime, probe_rootfs: Path, outside: Outside) -> None:
    """HOME of the config with a newline, and a name beside it: it stays one variable, and is written nowhere."""
    value = "HOME=/x\nroot::0:0::/:/bin/sh"
    done = masu_oci.run(probe_rootfs, "env", change=lambda config: config["process"]["env"].append(value))
    assert value in done.stdout
    assert "root::0" not in (probe_rootfs / "etc/passwd").read_text()


@pytest.mark.parametrize("what", ["fifo", "huge", "device", "outside", "loop", "directory"])
def test_cve_2025_4437(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, what: str) -> None:
    """/etc/passwd of the image is endless, blocks, or is the host's: it is read within bounds, in the image."""
    passwd = own_probe_rootfs / "etc/passwd"
    passwd.unlink()
    if what == "fifo":
        os.mkfifo(passwd)
    elif what == "huge":
        with passwd.open("wb") as file:
            file.truncate(1 << 40)
    elif what == "device":
        os.mknod(passwd, 0o020666, os.makedev(1, 5))
    elif what == "directory":
        passwd.mkdir()
    else:
        passwd.symlink_to("passwd" if what == "loop" else UP + str(outside.path / "file")[1:])
    if what == "outside":
        (outside.path / "file").write_text("root:x:0:0::/of-the-host:/bin/sh\n")
    # As little memory as a limit on address space can say: a gigabyte read would not fit.
    options: dict[str, Any] = {"preexec_fn": limit_memory, "timeout": 20}
    bundle = masu_oci.bundle(own_probe_rootfs, lambda config: config["process"].update(args=["/bin/probe", "env"]))
    seen = masu_oci("run", "--bundle", str(bundle), masu_oci.id(), **options).stdout
    assert "HOME=/\n" in seen


def limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
