"""masu-oci killed at every step, with broken input, on a kernel that lacks something, several at once."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.chaos import PYTHON_WORDS, Brood, cgroup_roots, finish, kill_after, kill_when, wait_exit
from harness.engine import alive, wait_until
from harness.oci import Runtime, wait_exited
from harness.programs import ROOT

pytestmark = pytest.mark.root

STEPS = 10


class Oci(Runtime):
    """masu-oci whose containers have their cgroups below one parent."""

    def __init__(self, folder: Path) -> None:
        super().__init__("masu-oci", folder)
        # without the shell of ./masu-oci: killed is who was started
        self.command = [f"{ROOT}/src/masu/libexec/masu-oci", "--root", str(self.root)]
        self.cgroup = f"/masu-chaos-{os.urandom(4).hex()}"

    def bundle(self, rootfs: Path, change: Callable[[dict[str, Any]], object] | None = None) -> Path:
        def with_cgroup(config: dict[str, Any]) -> None:
            config["linux"]["cgroupsPath"] = f"{self.cgroup}/box"
            if change is not None:
                change(config)

        return super().bundle(rootfs, with_cgroup)

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        return subprocess.Popen([*self.command, *args], stdin=subprocess.DEVNULL, **options)

    def fails(self, *args: str, **options: Any) -> str:
        """The one line of a command that fails."""
        done = self(*args, check=False, **options)
        assert done.returncode not in (0, -signal.SIGSEGV), done.stdout
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        for word in PYTHON_WORDS:
            assert word not in lines[0], lines[0]
        return lines[0]

    def check_nothing_left(self) -> None:
        left = sorted(self.root.iterdir()) if self.root.exists() else []
        assert left == []
        assert self.cgroups() == []
        assert str(self.folder) not in Path("/proc/self/mountinfo").read_text()

    def cgroups(self) -> list[str]:
        return [path for root in cgroup_roots() for path in (f"{root}{self.cgroup}/box",) if os.path.exists(path)]

    def remove_parents(self) -> None:
        for root in cgroup_roots():
            if os.path.isdir(root + self.cgroup):
                os.rmdir(root + self.cgroup)


@pytest.fixture
def oci(tmp_path: Path, brood: Brood) -> Iterator[Oci]:
    it = Oci(tmp_path)
    yield it
    it.close()
    brood.wait_gone()
    it.check_nothing_left()
    it.remove_parents()


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]


def moments(whole_s: float, steps: int = STEPS) -> list[float]:
    return [whole_s * 1.2 * (i + 0.5) / steps for i in range(steps)]


def duration_s(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


# --- killed ---


def test_create_killed_at_any_moment(oci: Oci, probe_rootfs: Path, brood: Brood) -> None:
    bundle = str(oci.bundle(probe_rootfs, sleeping))
    id = oci.id()
    words = ["create", "--bundle", bundle, id]
    wholes = []
    for _ in range(3):
        wholes.append(duration_s(lambda: oci(*words)))
        oci("delete", "--force", id)
    killed = 0
    for moment in moments(min(wholes), 20):
        killed += kill_after(oci.start(*words), moment)
        known = oci("list", "-q").stdout.split()
        if known and oci.state(id)["status"] == "created":
            # ready before the end: all that is missing is the exit status
            oci("start", id)
            oci("delete", "--force", id)
        elif known:
            assert oci.state(id)["status"] == "stopped"
            brood.wait_gone()
            oci("delete", id)
        # no `delete` where nothing is known: the next create with this id finds what is left and clears it
        oci(*words)
        oci("delete", "--force", id)
        brood.wait_gone()
        oci.check_nothing_left()
    assert killed >= 5


def test_start_killed_at_any_moment(oci: Oci, probe_rootfs: Path, brood: Brood) -> None:
    bundle = str(oci.bundle(probe_rootfs, sleeping))
    id = oci.id()
    oci("create", "--bundle", bundle, id)
    whole = duration_s(lambda: oci("start", id))
    for moment in moments(whole):
        oci("delete", "--force", id)
        oci("create", "--bundle", bundle, id)
        kill_after(oci.start("start", id), moment)
        if oci.state(id)["status"] == "created":
            # By a brain the killed one may be about to start it, and be faster.
            done = oci("start", id, check=False)
            assert done.returncode == 0 or "already running" in done.stderr, done.stderr
        wait_until(lambda: oci.state(id)["status"] == "running")


def test_delete_killed_at_any_moment(oci: Oci, probe_rootfs: Path) -> None:
    bundle = str(oci.bundle(probe_rootfs, sleeping))
    id = oci.id()
    oci("create", "--bundle", bundle, id)
    whole = duration_s(lambda: oci("delete", "--force", id))
    for moment in moments(whole):
        oci("create", "--bundle", bundle, id)
        oci("start", id)
        kill_after(oci.start("delete", "--force", id), moment)
        oci("delete", "--force", id)
        oci.check_nothing_left()


def test_run_killed_at_any_moment(oci: Oci, probe_rootfs: Path, brood: Brood) -> None:
    bundle = str(oci.bundle(probe_rootfs))
    id = oci.id()
    words = ["run", "--bundle", bundle, id]
    whole = duration_s(lambda: oci(*words))
    for moment in moments(whole, 16):
        kill_after(oci.start(*words), moment)
        brood.wait_gone()  # the program ends by itself; nobody is left to remove it
        oci("delete", "--force", id)
        oci.check_nothing_left()
    assert oci(*words).returncode == 0


def test_exec_killed_at_any_moment(oci: Oci, probe_rootfs: Path, brood: Brood) -> None:
    id = oci.id()
    oci("run", "-d", "--bundle", str(oci.bundle(probe_rootfs, sleeping)), id)
    first = oci.state(id)["pid"]
    words = ["exec", id, "/bin/probe", "echo", "hi"]
    whole = duration_s(lambda: oci(*words))
    for moment in moments(whole):
        kill_after(oci.start(*words), moment)
        brood.wait_gone(keep=[first])
        assert oci(*words).stdout == "hi\n"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_killed_while_a_hook_runs(oci: Oci, probe_rootfs: Path, brood: Brood, kind: str, tmp_path: Path) -> None:
    """Deterministic: the hook has begun, and does not end by itself."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    started = tmp_path / "started"
    script = f"echo > {started}; read x < {gate}"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
    bundle = str(oci.bundle(probe_rootfs, lambda c: c.update(hooks={kind: [hook]})))
    id = oci.id()
    kill_when(oci.start("create", "--bundle", bundle, id), started.exists)
    # The hook is its author's: it may go on. With its end everything has gone away.
    fd = os.open(gate, os.O_RDWR)
    os.write(fd, b"go\n" * 3)
    brood.wait_gone()
    os.close(fd)
    wait_until(lambda: oci.state(id)["status"] == "stopped")  # a brain's process ends a moment after its caller
    oci("delete", id)
    oci.check_nothing_left()


def test_killed_while_the_console_socket_is_slow(oci: Oci, probe_rootfs: Path, brood: Brood, tmp_path: Path) -> None:
    """The process waits at `start` without masu-oci; a container whose caller died is still a container."""
    id = oci.id()
    oci("create", "--bundle", str(oci.bundle(probe_rootfs, sleeping)), id)
    pid = oci.state(id)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_exited(pid)
    assert "cannot start a container that has stopped" in oci.fails("start", id)
    oci("delete", id)


# --- broken input ---


def broken(text: str) -> dict[str, bytes]:
    data = text.encode()
    return {
        "empty": b"",
        "truncated": data[: len(data) // 2],
        "no JSON": b"\x7fELF\x02\x01\x01",
        "not UTF-8": data.replace(b'"box"', b'"\xff\xfe"'),
        "a list": b"[]",
        "null": b"null",
        "trailing": data + b"}",
        "deep": b"[" * 100_000,
        "deep and closed": b'{"process":' * 5000 + b"1" + b"}" * 5000,
        "huge": data[:-1] + b" " * (40 << 20) + b"}",
        "a huge number": data.replace(b'"uid": 0', b'"uid": ' + b"9" * 5000),
        "nan": data.replace(b'"uid": 0', b'"uid": NaN'),
        "a NUL": data.replace(b'"box"', b'"b\\u0000x"'),
    }


WRONG: list[tuple[str, Any]] = [
    ("process", "sh"), ("process.args", "sh"), ("process.args", [1]), ("process.args", []), ("process.env", {}),
    ("process.env", ["A\0=b"]), ("process.cwd", "relative"), ("process.user.uid", -1), ("process.user.uid", "root"),
    ("process.user.uid", 1 << 40), ("process.capabilities.bounding", "all"), ("root", []), ("root.path", 7),
    ("root.path", "/no/such/root"), ("root.path", "/etc/passwd"), ("mounts", {}), ("mounts", [{}]),
    ("mounts", [{"destination": "/x", "type": "nosuchfs", "source": "none"}]), ("linux", 1),
    ("linux.namespaces", [{"type": "mind"}]), ("linux.namespaces", [{"type": "pid", "path": "/no/such"}]),
    ("linux.resources.memory.limit", "much"), ("linux.cgroupsPath", "/../.."), ("hostname", 5),
    ("linux.uidMappings", [{"containerID": 0}]), ("ociVersion", 1), ("ociVersion", "9.9.9"), ("hooks", [1]),
    ("process.rlimits", [{"type": "RLIMIT_WHAT", "soft": 1, "hard": 1}]), ("linux.seccomp.defaultAction", "SCMP_NO"),
]  # fmt: skip


def test_broken_config_json(oci: Oci, probe_rootfs: Path) -> None:
    bundle = oci.bundle(probe_rootfs)
    config = bundle / "config.json"
    for name, data in broken(config.read_text()).items():
        config.write_bytes(data)
        said = oci.fails("run", "--bundle", str(bundle), oci.id())
        places = ("config.json", "hostname", "process.user", "ociVersion")
        assert any(place in said for place in places), f"{name}: {said}"
        assert len(said) < 1000, name
    config.unlink()
    assert "config.json" in oci.fails("run", "--bundle", str(bundle), oci.id())
    config.mkdir()
    assert "config.json" in oci.fails("run", "--bundle", str(bundle), oci.id())


def test_wrong_types_and_values(oci: Oci, probe_rootfs: Path) -> None:
    for path, value in WRONG:

        def change(config: dict[str, Any], path: str = path, value: Any = value) -> None:
            *parents, last = path.split(".")
            place = config
            for name in parents:
                place = place.setdefault(name, {})
            place[last] = value

        said = oci.fails("run", "--bundle", str(oci.bundle(probe_rootfs, change)), oci.id())
        # The place in the user's file, however deep.
        assert path.split(".")[-1] in said, f"{path}={value}: {said}"
    assert oci("list", "-q").stdout == ""


def elf_for_another_machine(program: Path) -> bytes:
    """The same program, said to be for a machine that this is not (e_machine, elf(5))."""
    data = bytearray(program.read_bytes())
    data[18:20] = struct.pack("<H", 22)  # EM_S390
    return bytes(data)


def test_programs_that_cannot_run(oci: Oci, own_probe_rootfs: Path, probe: Path) -> None:
    cases: dict[str, tuple[bytes, int, str]] = {
        "script": (b"#!/no/such/interpreter\n", 0o755, "interpreter"),
        "foreign": (elf_for_another_machine(probe), 0o755, "format"),
        "text": (b"hello\n", 0o755, "format"),
        "empty": (b"", 0o755, "format"),
        "closed": (probe.read_bytes(), 0o644, "permission denied"),
        "torn": (probe.read_bytes()[:100], 0o755, ""),
    }
    for name, (data, mode, word) in cases.items():
        path = own_probe_rootfs / "bin" / name
        path.write_bytes(data)
        path.chmod(mode)
        bundle = oci.bundle(own_probe_rootfs, lambda c, name=name: c["process"].update(args=[f"/bin/{name}"]))  # type: ignore[misc]
        done = oci("run", "--bundle", str(bundle), oci.id(), check=False)
        assert done.returncode not in (0, -signal.SIGSEGV)
        # What the container itself says comes first.
        *own, said = done.stderr.strip().splitlines()
        assert word in said.lower(), f"{name}: {said}"
        assert f"/bin/{name}" in said
        assert not own or own == [f"exec /bin/{name}: {own[0].rpartition(': ')[2]}"]
    assert oci("list", "-q").stdout == ""


# --- state that is broken ---


@pytest.mark.parametrize("damage", ["torn", "empty", "gone", "old", "list", "wrong"])
def test_state_json_damaged(oci: Oci, probe_rootfs: Path, damage: str) -> None:
    id, other = oci.id(), oci.id()
    bundle = str(oci.bundle(probe_rootfs, sleeping))
    oci("run", "-d", "--bundle", bundle, id)
    pid = oci.state(id)["pid"]
    state = oci.root / id / "state.json"
    text = state.read_text()
    facts = json.loads(text)
    # what a power cut or another program leaves
    if damage == "gone":
        state.unlink()
    else:
        state.write_text(
            {
                "torn": text[:40], "empty": "", "old": json.dumps({**facts, "version": 99}), "list": "[]",
                "wrong": json.dumps({**facts, "pid": "x", "creator": 1}),
            }[damage]
        )  # fmt: skip
    os.kill(pid, signal.SIGKILL)
    wait_exited(pid)
    said = oci.fails("state", id)
    assert id in said or str(state) in said
    for word in ("list", "list -q", "list -f json"):
        assert oci(*word.split()).returncode == 0
    oci.fails("start", id)
    oci("delete", "--force", id)
    assert not (oci.root / id).exists()
    oci("run", "-d", "--bundle", str(oci.bundle(probe_rootfs, sleeping)), other)
    oci("delete", "--force", other)


def test_root_wiped_while_a_container_ran(oci: Oci, probe_rootfs: Path, brood: Brood) -> None:
    id = oci.id()
    bundle = str(oci.bundle(probe_rootfs, sleeping))
    oci("run", "-d", "--bundle", bundle, id)
    pid = oci.state(id)["pid"]
    subprocess.run(["rm", "-r", str(oci.root)], check=True)
    assert "container does not exist" in oci.fails("state", id)
    # The cgroup is still in use: said so, instead of two containers in one.
    assert "is not empty" in oci.fails("create", "--bundle", bundle, id)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    wait_exited(pid)
    oci("run", "-d", "--bundle", bundle, id)


# --- a kernel without something ---


SYSCALLS = {  # the same on every architecture
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438, "mount_setattr": 442,
}  # fmt: skip


def without(*names: str) -> Callable[[], None]:
    """For preexec_fn: a filter that answers ENOSYS to these system calls, as a kernel that has not got them."""
    numbers = [SYSCALLS[name] for name in names]
    program = b"".join(
        [struct.pack("<HBBI", 0x20, 0, 0, 0)]  # the number
        + [struct.pack("<HBBI", 0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
        + [struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000), struct.pack("<HBBI", 0x06, 0, 0, 0x00050000 | 38)]
    )
    code = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> None:
        if libc.prctl(22, 2, fprog, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")
        assert code is not None  # the filter's memory lives as long as this function

    return install


MISSING = ["openat2", "open_tree", "move_mount", "mount_setattr", "fsopen", "clone3", "pidfd_open", "close_range"]


@pytest.mark.parametrize("name", [*MISSING, "the mount API"])
def test_a_kernel_that_lacks_a_call(oci: Oci, probe_rootfs: Path, brood: Brood, name: str) -> None:
    """Either it does without, or it says at which step the kernel has not got it, and which kernel has."""
    bundle = str(oci.bundle(probe_rootfs, lambda c: c["process"].update(args=["/bin/probe", "echo", "hi"])))
    names = [*SYSCALLS][:6] if name == "the mount API" else [name]
    done = oci("run", "--bundle", bundle, oci.id(), check=False, preexec_fn=without(*names))
    if done.returncode == 0:
        assert done.stdout == "hi\n"
    else:
        (line,) = done.stderr.strip().splitlines()
        assert not [word for word in PYTHON_WORDS if word in line], line
        assert "ENOSYS" in line or "not implemented" in line, line
        assert "5.14" in line, line  # what is needed
    brood.wait_gone()
    assert oci("list", "-q").stdout == ""


# --- several at once ---


def test_one_of_many_creates_wins(oci: Oci, probe_rootfs: Path) -> None:
    id = oci.id()
    bundle = str(oci.bundle(probe_rootfs, sleeping))
    # Files, not pipes: the container that is made keeps its stderr.
    files = [(oci.folder / f"stderr{i}").open("w+b") for i in range(5)]
    several = [oci.start("create", "--bundle", bundle, id, stderr=file) for file in files]
    said = []
    for process, file in zip(several, files, strict=True):
        status = process.wait(60)
        file.seek(0)
        said.append((status, file.read().decode()))
        file.close()
    assert sorted(status for status, _ in said) == [0, 1, 1, 1, 1], said
    for status, text in said:
        assert status == 0 or "container with given ID already exists" in text, text
    assert oci.state(id)["status"] == "created"


def test_one_of_many_starts_wins(oci: Oci, probe_rootfs: Path) -> None:
    id = oci.id()
    oci("create", "--bundle", str(oci.bundle(probe_rootfs, sleeping)), id)
    several = [oci.start("start", id, stderr=subprocess.PIPE) for _ in range(4)]
    said = []
    for process in several:
        assert process.stderr
        said.append((process.wait(60), process.stderr.read().decode()))
        finish(process)
    assert sorted(status for status, _ in said) == [0, 1, 1, 1], said
    for status, text in said:
        assert status == 0 or "cannot start an already running container" in text, text
    assert oci.state(id)["status"] == "running"


def test_many_deletes_at_once(oci: Oci, probe_rootfs: Path) -> None:
    for _ in range(3):
        id = oci.id()
        oci("run", "-d", "--bundle", str(oci.bundle(probe_rootfs, sleeping)), id)
        several = [oci.start("delete", "--force", id, stderr=subprocess.PIPE) for _ in range(4)]
        said = []
        for process in several:
            assert process.stderr
            said.append((process.wait(60), process.stderr.read().decode()))
            finish(process)
        assert said == [(0, "")] * 4
        assert "container does not exist" in oci.fails("state", id)


def test_exec_into_a_container_that_ends(oci: Oci, probe_rootfs: Path, brood: Brood) -> None:
    bundle = str(oci.bundle(probe_rootfs, sleeping))
    id = oci.id()
    for moment in moments(0.06):
        oci("run", "-d", "--bundle", bundle, id)
        pid = oci.state(id)["pid"]
        running = oci.start("exec", id, "/bin/probe", "sleep", stderr=subprocess.PIPE)
        wait_exit(running, moment)
        os.kill(pid, signal.SIGKILL)
        assert wait_exit(running, 20)
        assert running.stderr
        said = running.stderr.read().decode()
        assert finish(running) != 0
        assert not [word for word in PYTHON_WORDS if word in said], said
        assert said.count("\n") <= 1, said
        brood.wait_gone()
        oci("delete", id)
