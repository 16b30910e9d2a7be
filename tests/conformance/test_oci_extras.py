"""crun's annotations (`run.oci.*`): what config.json has no field for."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime

pytestmark = pytest.mark.root


def annotated(**extras: str) -> dict[str, str]:
    return {f"run.oci.{name}": value for name, value in extras.items()}


def test_what_hooks_say_is_appended_to_files(masu_oci: Runtime, probe_rootfs: Path, tmp_path: Path) -> None:
    out, err = tmp_path / "hooks.out", tmp_path / "hooks.err"
    out.write_text("before\n")

    def hooked(config: dict[str, Any]) -> None:
        config["annotations"] = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
        outside = {
            kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind}; echo {kind} failed >&2"]}]
            for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        }
        inside = [{"path": "/bin/probe", "args": ["probe", "echo", "startContainer"]}]
        config["hooks"] = {**outside, "startContainer": inside}

    masu_oci.run(probe_rootfs, "exit", "0", change=hooked)
    lines = out.read_text().split()
    assert lines[:4] == ["before", "prestart", "createRuntime", "createContainer"]
    assert sorted(lines[4:]) == ["poststart", "poststop", "startContainer"]
    assert err.read_text().splitlines()[2] == "createContainer failed"
    assert out.stat().st_uid == 0
    assert err.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_made(masu_oci: Runtime, probe_rootfs: Path) -> None:
    def hooked(config: dict[str, Any]) -> None:
        config["annotations"] = {"run.oci.hooks.stdout": "/nonexistent/out"}

    done = masu_oci.run(probe_rootfs, "exit", "0", change=hooked, check=False)
    assert done.returncode == 1
    assert "/nonexistent/out" in done.stderr
    assert masu_oci("list", "-q").stdout == ""


def bpf(*instructions: tuple[int, int, int, int]) -> str:
    return base64.b64encode(b"".join(struct.pack("=HBBI", *each) for each in instructions)).decode()


def test_a_filter_as_it_stands(masu_oci: Runtime, probe_rootfs: Path) -> None:
    # uname answers with EACCES, whatever linux.seccomp says.
    load_number, return_ = (0x20, 0, 0, 0), 0x06
    number = {"x86_64": 63, "aarch64": 160}[os.uname().machine]
    program = bpf(load_number, (0x15, 0, 1, number), (return_, 0, 0, 0x0005000D), (return_, 0, 0, 0x7FFF0000))

    def filtered(config: dict[str, Any]) -> None:
        config["annotations"] = {"run.oci.seccomp_bpf_data": program}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}

    assert "hostname=box" in masu_oci.run(probe_rootfs, "uname").stdout
    assert "hostname=box" not in masu_oci.run(probe_rootfs, "uname", change=filtered).stdout


@pytest.mark.parametrize("data", ["", "%%%", base64.b64encode(b"12345").decode(), bpf((6, 0, 0, 0)) * 4097])
def test_filters_that_are_none(masu_oci: Runtime, probe_rootfs: Path, data: str) -> None:
    def filtered(config: dict[str, Any]) -> None:
        config["annotations"] = {"run.oci.seccomp_bpf_data": data}

    done = masu_oci.run(probe_rootfs, "exit", "0", change=filtered, check=False)
    assert done.returncode == 1
    assert "annotations[run.oci.seccomp_bpf_data]" in done.stderr


@pytest.mark.parametrize("strict", [False, True])
def test_system_calls_that_nobody_knows(masu_oci: Runtime, probe_rootfs: Path, strict: bool) -> None:
    def filtered(config: dict[str, Any]) -> None:
        config["annotations"] = annotated(seccomp_fail_unknown_syscall="1") if strict else {}
        rule = {"names": ["acct", "no_such_call"], "action": "SCMP_ACT_ERRNO"}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}

    done = masu_oci.run(probe_rootfs, "exit", "0", change=filtered, check=False)
    assert "no_such_call" in done.stderr
    assert done.returncode == int(strict)
    assert ("linux.seccomp.syscalls[0].names" in done.stderr) == strict


def test_the_callers_groups_are_kept(masu_oci: Runtime, probe_rootfs: Path) -> None:
    def kept(config: dict[str, Any]) -> None:
        config["annotations"] = annotated(keep_original_groups="1")

    bundle = masu_oci.bundle(probe_rootfs, kept)
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = ["/bin/probe", "cat", "/proc/self/status"]
    (bundle / "config.json").write_text(json.dumps(config))
    status = masu_oci("run", "--bundle", str(bundle), masu_oci.id(), extra_groups=[12, 34]).stdout
    assert "Groups:\t12 34 \n" in status


def test_sockets(masu_oci: Runtime, probe_rootfs: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as pidfds, socket.socket(socket.AF_UNIX) as listeners:
        for server, name in ((pidfds, "pidfd"), (listeners, "seccomp")):
            server.bind(str(tmp_path / name))
            server.listen()
            server.settimeout(20)

        def given(config: dict[str, Any]) -> None:
            config["process"]["args"] = ["/bin/probe", "sleep"]
            config["annotations"] = {
                "run.oci.pidfd_receiver": str(tmp_path / "pidfd"),
                "run.oci.seccomp.receiver": str(tmp_path / "seccomp"),
            }
            rule = {"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}
            config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}

        id = masu_oci.id()
        masu_oci("create", "--bundle", str(masu_oci.bundle(probe_rootfs, given)), id)
        pid = masu_oci.state(id)["pid"]
        with pidfds.accept()[0] as connection:
            _, (pidfd,), _, _ = socket.recv_fds(connection, 1024, 1)
            assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
            os.close(pidfd)
        with listeners.accept()[0] as connection:
            text, (listener,), _, _ = socket.recv_fds(connection, 65536, 1)
            assert json.loads(text)["state"]["id"] == id
            os.close(listener)


@pytest.mark.parametrize(
    "name", ["handler", "seccomp.plugins", "systemd.force_cgroup_v1", "systemd.subgroup", "delegate-cgroup"]
)
def test_what_is_not_offered_says_so(masu_oci: Runtime, probe_rootfs: Path, name: str) -> None:
    def wished(config: dict[str, Any]) -> None:
        config["annotations"] = {f"run.oci.{name}": "/x"}

    done = masu_oci.run(probe_rootfs, "exit", "0", change=wished, check=False)
    assert done.returncode == 1
    assert f"annotations[run.oci.{name}]" in done.stderr
    assert "not implemented" in done.stderr


def test_no_subgroup_is_what_there_is(masu_oci: Runtime, probe_rootfs: Path) -> None:
    masu_oci.run(
        probe_rootfs,
        "exit",
        "0",
        change=lambda config: config.update(annotations=annotated(**{"systemd.subgroup": ""})),
    )
