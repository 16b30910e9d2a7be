"""What callers and images put into our mouth: ids, texts, sizes, environments, annotations; and what we leave about."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, base_config
from harness.programs import peer
from kernel.security.staging import Config, Outside, Victim, probe

pytestmark = pytest.mark.root

CLIMBING = ["..", "", "../outside", "/outside"]
IDS = [
    *CLIMBING, ".", "../../outside", "a/b", "a/../../outside", "a\nb", "a b", "a\x1b[2J", "é", "x" * 1025, "%2e",
]  # fmt: skip
VERBS = ["state", "start", "kill", "delete", "delete --force", "exec", "pause", "resume", "ps", "create", "run"]


@pytest.mark.parametrize("verb", VERBS)
def test_ids_that_lead_out(masu_oci: Runtime, probe_rootfs: Path, outside: Outside, verb: str) -> None:
    """Ids are names of directories and cgroups: none leads out of --root. (What is outside looks like a container.)"""
    facts = {"version": 1, "id": "outside", "pid": os.getpid(), "start_time": 0, "cgroup_paths": {}}
    (outside.path / "state.json").write_text(json.dumps(facts))
    (outside.path / "config.json").write_text(json.dumps(base_config()))
    outside.before = outside._state()
    masu_oci.root.mkdir(mode=0o700)
    bundle = str(masu_oci.bundle(probe_rootfs))
    word, *options = verb.split()
    if word in ("create", "run"):
        options += ["--bundle", bundle]
    more = {"exec": ["/bin/probe"]}.get(word, [])
    for id in IDS if verb == "create" else CLIMBING:
        done = masu_oci(word, *options, "--", id, *more, check=False)
        assert done.returncode != 0 or options == ["--force"], (id, done)
        assert "Traceback" not in done.stderr
        assert sorted(path.name for path in masu_oci.root.iterdir()) == []
    outside.check()


NULS: dict[str, Any] = {
    "args": lambda config: probe(config, "a\0b"),
    "program": lambda config: config["process"].update(args=["/bin/probe\0x"]),
    "env": lambda config: config["process"]["env"].append("A=b\0LD_PRELOAD=x"),
    "cwd": lambda config: config["process"].update(cwd="/\0x"),
    "root": lambda config: config["root"].update(path=config["root"]["path"] + "\0x"),
    "hostname": lambda config: config.update(hostname="a\0b"),
    "destination": lambda config: config["mounts"][0].update(destination="/proc\0/x"),
    "source": lambda config: config["mounts"][0].update(source="proc\0"),
    "type": lambda config: config["mounts"][0].update(type="proc\0x"),
    "option": lambda config: config["mounts"][1]["options"].append("mode=777\0"),
    "masked": lambda config: config["linux"].update(maskedPaths=["/proc/keys\0"]),
    "read-only": lambda config: config["linux"].update(readonlyPaths=["/proc/keys\0"]),
    "cgroup": lambda config: config["linux"].update(cgroupsPath="/a\0b"),
    "sysctl": lambda config: config["linux"].update(sysctl={"net.ipv4.ip_forward": "1\0"}),
    "sysctl key": lambda config: config["linux"].update(sysctl={"net.ipv4.ip_forward\0": "1"}),
    "device": lambda config: config["linux"].update(
        devices=[{"path": "/dev/x\0", "type": "c", "major": 1, "minor": 3}]
    ),
    "namespace": lambda config: config["linux"]["namespaces"][0].update(path="/proc/self/ns/pid\0"),
    "hook": lambda config: config.update(hooks={"createRuntime": [{"path": "/bin/true\0"}]}),
    "hook env": lambda config: config.update(hooks={"createContainer": [{"path": "/bin/true", "env": ["A=\0B=x"]}]}),
    "label": lambda config: config["process"].update(apparmorProfile="a\0b"),
    "annotation": lambda config: config.update(annotations={"a\0": "b"}),
    "seccomp": lambda config: config["linux"].update(
        seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["rea\0d"], "action": "SCMP_ACT_ERRNO"}]}
    ),
}


@pytest.mark.parametrize("what", NULS)
def test_nul_in_config(masu_oci: Runtime, probe_rootfs: Path, what: str) -> None:
    """A NUL ends a text for the kernel and not for us: what was checked would not be what is used."""
    done = masu_oci("run", "--bundle", str(masu_oci.bundle(probe_rootfs, NULS[what])), masu_oci.id(), check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert "null byte" in done.stderr


DOCUMENTS = {
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "cut": b'{"ociVersion": "1.0.2", "process": {',
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "big number": b'{"ociVersion": "1.0.2", "process": {"user": {"uid": ' + b"9" * 100_000 + b"}}}",
    "exponent": b'{"ociVersion": "1.0.2", "process": {"user": {"uid": 1e999999999}}}',
    "no UTF-8": b'{"ociVersion": "\xff\xfe"}',
    "surrogate": b'{"ociVersion": "1.0.2", "hostname": "\\ud800"}',
    "NaN": b'{"ociVersion": NaN}',
    "huge": b" " * (17 << 20),
}


@pytest.mark.parametrize("what", DOCUMENTS)
def test_documents_that_are_none(masu_oci: Runtime, tmp_path: Path, what: str) -> None:
    """Depth, numbers and size are bounded (rule 6): an error, not a crash, and soon."""
    (tmp_path / "config.json").write_bytes(DOCUMENTS[what])
    (tmp_path / "rootfs").mkdir()
    done = masu_oci("create", "--bundle", str(tmp_path), masu_oci.id(), check=False, timeout=20)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 4096


@pytest.mark.parametrize("size", [0xFFFF, 0x10000, 0x10001, 100_000])
def test_cve_2021_43784(masu_oci: Runtime, probe_rootfs: Path, size: int) -> None:
    """Texts longer than 16 bits can count: a length that wraps would let their end be read as operations of ours."""
    forged = "x" * (size - 64) + "\x15\x08" * 32

    def change(config: Config) -> None:
        config["process"]["env"].append("LONG=" + forged)
        config["annotations"] = {"long": forged}

    seen = masu_oci.run(probe_rootfs, "env", "--", "caps", change=change).stdout
    assert "LONG=" + forged in seen
    assert "effective=20000420" in seen


def test_cve_2021_43784_beyond(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """More than a plan may hold: refused."""

    def change(config: Config) -> None:
        config["process"]["env"] += [f"V{n}=" + "x" * 100_000 for n in range(160)]

    done = masu_oci.run(probe_rootfs, "env", change=change, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


HOOKS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


@pytest.mark.parametrize("kind", HOOKS)
def test_cve_2025_23266(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path, kind: str) -> None:
    """A hook's environment is what the config gives it and nothing of the container's, nor then of ours: an image's
    LD_PRELOAD would run the image's code on the host."""
    inside = kind == "startContainer"
    out = "/tmp/environment" if inside else str(tmp_path / "environment")
    (own_probe_rootfs / "tmp/environment").touch()
    (tmp_path / "environment").touch()

    def hooked(config: Config) -> None:
        config["process"]["env"] += ["LD_PRELOAD=./evil.so", "FROM_THE_IMAGE=1"]
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat /proc/self/environ > {out}"], "env": ["GIVEN=1"]}
        if inside:
            hook = {"path": "/bin/probe", "args": ["probe", "env"], "env": ["GIVEN=1"]}
        config["hooks"] = {kind: [hook]}

    environment = {**os.environ, "FROM_THE_CALLER": "1", "LD_LIBRARY_PATH": "/nowhere"}
    bundle = str(masu_oci.bundle(own_probe_rootfs, hooked))
    if inside:
        # Its output is told only when it fails.
        config = json.loads(Path(bundle, "config.json").read_text())
        config["hooks"][kind][0]["args"] += ["--", "exit", "3"]
        Path(bundle, "config.json").write_text(json.dumps(config))
        done = masu_oci("run", "--bundle", bundle, masu_oci.id(), check=False, env=environment)
        seen = done.stderr
        assert done.returncode != 0
        assert "GIVEN=1" in seen
    else:
        masu_oci("run", "--bundle", bundle, masu_oci.id(), env=environment)
        seen = (tmp_path / "environment").read_text()
        own = ("PWD=", "SHLVL=", "_=")  # the shell's
        assert [item for item in seen.split("\0") if item and not item.startswith(own)] == ["GIVEN=1"]
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "FROM_THE"):
        assert name not in seen


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("env", [None, []], ids=["without", "empty"])
def test_cve_2025_23266_nothing_given(
    masu_oci: Runtime, own_probe_rootfs: Path, probe: Path, tmp_path: Path, kind: str, env: list[str] | None
) -> None:
    """Without `env` hooks of the host have ours, as with runc and crun, an empty one is empty; what the image says is
    in neither. Only a hook that runs where the program will has the program's."""
    out = tmp_path / "environment"

    def hooked(config: Config) -> None:
        config["process"]["env"] += ["LD_PRELOAD=./evil.so", "FROM_THE_IMAGE=1"]
        config["annotations"] = {"run.oci.hooks.stdout": str(out)}
        path = "/bin/probe" if kind == "startContainer" else str(probe)
        hook = {"path": path, "args": ["probe", "env"], **({} if env is None else {"env": env})}
        config["hooks"] = {kind: [hook]}

    caller = {**os.environb, b"FROM_THE_CALLER": b"1", b"BYTES": b"\xff"}
    masu_oci("run", "--bundle", str(masu_oci.bundle(own_probe_rootfs, hooked)), masu_oci.id(), env=caller)
    seen = out.read_bytes().splitlines()
    if kind == "startContainer":
        assert seen == [b"PATH=/bin", b"LD_PRELOAD=./evil.so", b"FROM_THE_IMAGE=1", b"HOME=/root"]
    elif env is None and kind != "createContainer":
        assert {b"FROM_THE_CALLER=1", b"BYTES=\xff"} <= set(seen)
        assert not any(b"evil" in item or b"FROM_THE_IMAGE" in item for item in seen)
    else:
        assert seen == []


ANNOTATIONS = {
    "run.oci.mount_context_type": "context",
    "module.wasm.image/variant": "compat",
    "org.systemd.property.ExecStart": "'/bin/owned'",
    "org.criu.config": "/tmp/masu-test-annotation",
    "io.kubernetes.cri-o.Devices": "/dev/mem:/dev/mem:rwm",
    "io.kubernetes.cri-o.UnifiedCgroup": "memory.max=max",
    "io.katacontainers.config.hypervisor.path": "/tmp/masu-test-annotation",
    "containerd.io/restart.loguri": "binary:///tmp/masu-test-annotation",
    "io.podman.annotations.privileged": "TRUE",
    "io.podman.annotations.seccomp": "unconfined",
    "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
}


def test_cve_2026_94603(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Annotations that other runtimes obey change nothing: the plan is the same, word for word. Those that masu-oci
    obeys are told to its callers as such (features.md, "Unsafe annotations"); no image can set one, see
    test_cve_engine.py."""
    unsafe = json.loads(masu_oci("features").stdout)["potentiallyUnsafeConfigAnnotations"]
    assert unsafe == ["org.criu.config", "org.systemd.property.", "run.oci."]
    plans = []
    for bundle in (
        masu_oci.bundle(probe_rootfs),
        masu_oci.bundle(probe_rootfs, lambda config: config.update(annotations=ANNOTATIONS)),
    ):
        plans.append(masu_oci("plan", "--bundle", str(bundle), "masu-test-plan").stdout)
    assert plans[0]
    assert plans[0].count("\n") > 20
    assert plans[0] == plans[1]
    with Victim(masu_oci, probe_rootfs, change=lambda config: config.update(annotations=ANNOTATIONS)) as victim:
        assert masu_oci.state(victim.id)["annotations"] == ANNOTATIONS
        assert victim.exec("/bin/probe", "caps").stdout.split()[-1] == "seccomp=0"
    assert not Path("/tmp/masu-test-annotation").exists()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_cve_2021_41103(masu_oci: Runtime, probe_rootfs: Path, tmp_path: Path, umask: int) -> None:
    """Directories of state are 0700, files 0600, whatever the umask, those on the way included: whoever may search
    them would find the containers' setuid programs and sockets. (CVE-2024-25621)"""
    masu_oci.root = tmp_path / "run" / "masu" / "oci"
    masu_oci.command[-1] = str(masu_oci.root)

    def change(config: Config) -> None:
        probe(config, "sleep")
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}],
        }

    id = masu_oci.id()
    bundle = str(masu_oci.bundle(probe_rootfs, change))
    masu_oci("create", "--bundle", bundle, id, umask=umask)
    found = {path: path.lstat().st_mode for path in (tmp_path / "run", *(tmp_path / "run").rglob("*"))}
    names = {path.name for path in found}
    assert {"run", "masu", "oci", id, "state.json", "config.json", "exec.fifo", "oci-cache", "seccomp"} <= names
    for path, mode in found.items():
        allowed = 0o700 if stat.S_ISDIR(mode) else 0o600
        assert stat.S_IMODE(mode) & ~allowed == 0, (path, oct(mode))
    # Nor by another user's eyes.
    ls = ["ls", str(tmp_path / "run")]
    other = subprocess.run(ls, user=65534, group=65534, extra_groups=[], capture_output=True, check=False)
    assert other.returncode != 0
    masu_oci("delete", "--force", id)


def test_cve_2020_15257(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Abstract sockets belong to a network namespace, not to a file system: a container with the host's network would
    reach them. There are none of ours."""

    def abstract() -> set[str]:
        return {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " @" in line}

    def host_network(config: Config) -> None:
        config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] != "network"]

    with Victim(masu_oci, probe_rootfs, change=host_network) as victim:
        assert not [name for name in abstract() if "masu" in name]
        # The check sees what there is, from inside as well.
        import socket

        with socket.socket(socket.AF_UNIX) as control:
            control.bind("\0masu-test-control")
            control.listen()
            assert "@masu-test-control" in abstract()
            assert "@masu-test-control" in victim.exec("/bin/probe", "cat", "/proc/net/unix").stdout


PROPERTIES = [
    ("PIDs", "[uint32 1]"),
    ("FailureAction", "'reboot-force'"),
    ("OnFailure", "['rescue.target']"),
    ("Conflicts", "['ssh.service']"),
    ("ExecStart2", "'/bin/sh'"),
    ("Description", "'a"),
    ("Description", "'\\U7fffffff'"),
    ("Description", "<" * 5000),
    ("Description", "'x\n[Service]\\nExecStart=/bin/sh' more"),
]


@pytest.mark.parametrize(("name", "value"), PROPERTIES, ids=[f"{name}-{value[:16]}" for name, value in PROPERTIES])
def test_cve_2024_3154(masu_oci: Runtime, probe_rootfs: Path, name: str, value: str) -> None:
    """Properties of systemd's units by annotation: what reaches beyond the container's unit, and what is no value, is
    refused before any bus is asked."""
    where, harmless = f"org.systemd.property.{name}", {"org.systemd.property.TimeoutStopUSec": "uint64 5"}

    def annotated(config: Config) -> None:
        config["annotations"] = {where: value}
        config["linux"]["cgroupsPath"] = f"system.slice:masu:{name}"

    # A machine of systemd's, whose systemd does not answer.
    alone = 'mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$@"'
    masu_oci.command[:0] = [peer("unshare"), "--mount", "sh", "-c", alone, "sh"]
    masu_oci.command.append("--systemd-cgroup")
    bundle = str(masu_oci.bundle(probe_rootfs, annotated))
    done = masu_oci("run", "--bundle", bundle, masu_oci.id(), check=False)
    assert done.returncode == 1
    assert where in done.stderr
    assert "D-Bus" not in done.stderr
    assert list(masu_oci.root.iterdir()) == []
    # The control: what may be asked for comes as far as the bus.
    bundle = str(masu_oci.bundle(probe_rootfs, lambda config: config.update(annotations=harmless)))
    assert "D-Bus" in masu_oci("run", "--bundle", bundle, masu_oci.id(), check=False).stderr


# All that masu-oci may call on the host, and what others call.
HELPERS = ("criu", "newuidmap", "newgidmap", "masu-launch", "sh", "python3", "ip", "passt", "iptables-restore")


def test_cve_2026_84042(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """The image has programs by the names of helpers of the host, and its PATH leads to them there as well: crun ran
    one of them as root. No verb of ours does."""
    traces = tmp_path / "traces"
    traces.mkdir()
    for name in HELPERS:
        program = own_probe_rootfs / "bin" / name
        program.write_text(f"#!/bin/sh\necho $0 > {traces}/$$\n")
        program.chmod(0o755)

    def led(config: Config) -> None:
        config["process"]["env"] = [f"PATH={own_probe_rootfs}/bin:/bin", f"LD_LIBRARY_PATH={own_probe_rootfs}/bin"]
        mapping = [{"containerID": 0, "hostID": 0, "size": 1000}]
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"].update(uidMappings=mapping, gidMappings=mapping)

    with Victim(masu_oci, own_probe_rootfs, change=led) as victim:
        victim.exec("/bin/probe", "id")
        masu_oci("checkpoint", "--image-path", str(tmp_path / "images"), "--leave-running", victim.id, check=False)
        for verb in ("pause", "resume", "ps", "state"):
            masu_oci(verb, victim.id)
        masu_oci("update", "--pids-limit", "20", victim.id)
    assert list(traces.iterdir()) == []
    # They do what they are made for.
    subprocess.run([own_probe_rootfs / "bin/criu"], check=True)
    assert len(list(traces.iterdir())) == 1
