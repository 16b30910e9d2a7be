"""features: every word of the document is tried, for the document has to say what is done and no more."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, base_config
from harness.programs import MASU_OCI

from masu.linux import mountinfo

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    done = subprocess.run([MASU_OCI, "features"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_versions(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path) -> None:
    for version in (document["ociVersionMin"], document["ociVersionMax"]):
        masu_oci.run(probe_rootfs, "exit", "0", change=partial(dict.update, ociVersion=version))


def test_hooks(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path) -> None:
    trace = masu_oci.folder / "trace"
    trace.write_text("")

    def hooked(config: dict[str, Any]) -> None:
        # startContainer runs in the container, whose only program is the probe.
        outside = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $0 >> {trace}", "NAME"]}
        config["hooks"] = {
            name: [{**outside, "args": [*outside["args"][:3], name]}]
            for name in document["hooks"]
            if name not in ("startContainer", "createContainer")
        }
        config["mounts"].append(
            {"destination": "/trace", "type": "bind", "source": str(trace), "options": ["bind", "rw"]}
        )
        config["hooks"]["startContainer"] = [
            {"path": "/bin/probe", "args": ["probe", "write", "/trace", "startContainer\n"]}
        ]

    masu_oci.run(probe_rootfs, "exit", "0", change=hooked)
    assert set(document["hooks"]) == {
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
    }  # fmt: skip
    text = trace.read_text()
    assert "startContainer" in text
    assert text.splitlines()[-1] == "poststop"


# Words that say something of where the mount comes from, so that they need more around them.
_BIND = {"bind", "rbind", "src-nofollow", "copy-symlink", "idmap", "ridmap"}


def test_mount_options(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    words = document["mountOptions"]
    assert {"ro", "rro", "rbind", "idmap", "tmpcopyup", "nosymfollow"} <= set(words)

    def mounted(config: dict[str, Any]) -> None:
        for word in words:
            mount: dict[str, Any] = {"destination": f"/try/{word}", "type": "tmpfs", "source": "t", "options": [word]}
            if word in _BIND:
                mount |= {"type": "bind", "source": str(source), "options": [*{word, "rbind"}]}
            if word in ("idmap", "ridmap"):
                mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
                mount |= {"uidMappings": mapping, "gidMappings": mapping}
            if word == "remount":
                mount["destination"] = "/try/ro"
            config["mounts"].append(mount)
        config["mounts"].sort(key=lambda mount: mount["options"] == ["remount"] if "options" in mount else False)

    text = masu_oci.run(probe_rootfs, "mounts", change=mounted).stdout
    for word in words:
        if word != "remount":
            assert f"/try/{word}" in text


def test_namespaces(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path) -> None:
    kinds = document["linux"]["namespaces"]

    def inside(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = [{"type": kind} for kind in kinds]
        mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}

    text = masu_oci.run(probe_rootfs, "ns", change=inside).stdout
    files = {"mount": "mnt", "network": "net"}
    for kind in kinds:
        own = Path("/proc/self/ns", files.get(kind, kind)).readlink()
        assert str(own) not in text, kind


def test_capabilities(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path) -> None:
    names = document["linux"]["capabilities"]

    def given(config: dict[str, Any]) -> None:
        config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)

    done = masu_oci.run(probe_rootfs, "cat", "/proc/self/status", change=given)
    # More than the caller may pass on nobody gets.
    assert capability_mask(done.stdout, "CapEff") == capability_mask(Path("/proc/self/status").read_text(), "CapBnd")
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert len(names) > last


def capability_mask(status: str, name: str) -> int:
    (line,) = [line for line in status.splitlines() if line.startswith(name)]
    return int(line.split()[1], 16)


def test_seccomp(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path) -> None:
    seccomp = document["linux"]["seccomp"]
    assert seccomp["enabled"] is True

    def filtered(profile: dict[str, Any]) -> None:
        def change(config: dict[str, Any]) -> None:
            config["linux"]["seccomp"] = profile

        masu_oci.run(probe_rootfs, "exit", "0", change=change)

    # A call that the probe never makes.
    rare = {"names": ["acct"]}
    for action in seccomp["actions"]:
        if action == "SCMP_ACT_NOTIFY":
            continue  # wants somebody who listens: test_oci_sockets.py
        filtered({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**rare, "action": action}]})
    rules = [
        {**rare, "action": "SCMP_ACT_ERRNO", "args": [{"index": index % 6, "value": index, "valueTwo": 1, "op": op}]}
        for index, op in enumerate(seccomp["operators"])
    ]
    filtered({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    for arch in seccomp["archs"]:
        # Those of the other endianness cannot be in one filter with this machine's, which libseccomp says by itself.
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch]}
        linux = {**base_config()["linux"], "seccomp": profile}
        bundle = masu_oci.bundle(probe_rootfs, partial(dict.update, linux=linux))
        done = masu_oci("plan", "--bundle", str(bundle), check=False)
        assert done.returncode == 0 or "not to be combined with this machine's" in done.stderr, (arch, done.stderr)
    assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"])
    for flag in seccomp["supportedFlags"]:
        rules = [{**rare, "action": "SCMP_ACT_ERRNO"}]
        filtered({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": rules})


def test_memory_policy(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path) -> None:
    policy = document["linux"]["memoryPolicy"]
    for mode in policy["modes"]:
        nodes = "" if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else "0"

        def change(config: dict[str, Any], mode: str = mode, nodes: str = nodes) -> None:
            config["linux"]["memoryPolicy"] = {"mode": mode, "nodes": nodes, "flags": []}

        masu_oci.run(probe_rootfs, "exit", "0", change=change)


def test_resctrl_groups(document: dict[str, Any], masu_oci: Runtime, probe_rootfs: Path) -> None:
    assert document["linux"]["intelRdt"] == {"enabled": True, "schemata": True, "monitoring": True}
    rdt: dict[str, Any] = {"enableMonitoring": True}
    done = masu_oci.run(
        probe_rootfs, "exit", "0", change=lambda config: config["linux"].update(intelRdt=rdt), check=False
    )
    if "resctrl" in {mount.fstype for mount in mountinfo.read()}:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1
        assert "intelRdt is specified in config, but Intel RDT is not enabled" in done.stderr


def test_takes_no_argument(masu_oci: Runtime) -> None:
    assert masu_oci("features", "now", check=False).returncode == 1
