"""From a failed operation to a sentence."""

from __future__ import annotations

import errno

import pytest

from masu.errors import KernelError, MasuError
from masu.linux import capabilities
from masu.plan.ops import TABLE, Op
from masu.runtime import failure
from masu.runtime.failure import HookError, ProgramError, explain


def said(op: Op, number: int, detail: str = "") -> MasuError:
    """The error of the second operation of a plan."""
    return explain([Op("ready"), op], 1, number, detail)


def test_place_call_and_hint() -> None:
    error = said(
        Op("mount", "mounts[3]", target="/dev/shm", fstype="tmpfs"), errno.EINVAL, "tmpfs: Unknown parameter 'siz'"
    )
    assert isinstance(error, KernelError)
    assert str(error) == (
        "mounts[3]: mount /dev/shm: EINVAL: Invalid argument: tmpfs: Unknown parameter 'siz' "
        "(an option that this file system does not know)"
    )
    assert error.to_json()["where"] == "mounts[3]"


def test_a_class_of_service_that_takes_nobody() -> None:
    """Not the hint of the other writes, whether resctrl is there to say why or not."""
    error = said(Op("write", "linux.intelRdt", path="/sys/fs/resctrl/gold/tasks", data=b"0"), errno.EACCES)
    assert str(error).startswith("linux.intelRdt: write /sys/fs/resctrl/gold/tasks: EACCES: Permission denied")
    assert not error.hint


def test_an_operation_that_nobody_planned() -> None:
    assert "operation 7" in str(explain([Op("ready")], 7, errno.EINVAL, ""))


@pytest.mark.parametrize("name", TABLE)
def test_every_operation_can_fail(name: str) -> None:
    kinds: dict[str, int | str | bytes | tuple[str, ...]] = {"u": 0, "s": "x", "b": b"", "l": ("x",)}
    fields = {field.partition(":")[0]: kinds[field.partition(":")[2]] for field in TABLE[name][2].split()}
    where = "hooks.startContainer[0]" if name == "hook" else "process"
    for number in (errno.EPERM, errno.ENOENT, errno.EINVAL, errno.EACCES):
        error = said(Op(name, where, **fields), number, "detail")
        assert error.errno == number
        assert str(error).startswith(where + ": ")


@pytest.mark.parametrize(
    ("program", "number", "words", "status"),
    [
        ("nothing", errno.ENOENT, 'exec: "nothing": executable file not found in $PATH', 127),
        ("/no/thing", errno.ENOENT, 'exec: "/no/thing": stat /no/thing: no such file or directory', 127),
        ("/etc", errno.EACCES, 'exec: "/etc": permission denied', 126),
        ("a\nb", errno.ENOENT, "exec: 'a\\nb': executable file not found in $PATH", 127),
    ],
)
def test_a_program_that_is_not_found(program: str, number: int, words: str, status: int) -> None:
    error = said(Op("find_program", "process.args[0]", program=program, path="/bin"), number)
    assert isinstance(error, ProgramError)
    assert error.message() == words
    assert failure.exit_status(error) == status


def test_a_program_that_cannot_be_executed() -> None:
    detail = "/run.sh: interpreter /x: not found"
    error = said(Op("exec", "process.args", args=("/run.sh",), env=()), errno.ENOENT, detail)
    assert error.message() == "exec /run.sh: no such file or directory: " + detail
    assert failure.exit_status(error) == 127
    assert failure.exit_status(ValueError()) == 0


def hook(number: int, detail: str) -> str:
    return str(said(Op("hook", "hooks.createContainer[2]", path="/bin/h"), number, detail))


def test_hooks() -> None:
    where = "hooks.createContainer[2]: error running createContainer hook #2: /bin/h: "
    assert hook(errno.EIO, "the hook exited with status 3: oh") == where + "the hook exited with status 3: oh"
    assert hook(errno.ENOENT, "execve of the hook /bin/h").startswith(where + "ENOENT")
    killed = hook(errno.EIO, "the hook was killed by signal 31: oh")
    assert killed == where + "the hook was killed by signal 31 (SIGSYS, bad system call): oh"
    assert "signal 9 (SIGKILL, killed)" in hook(errno.EIO, "the hook was killed by signal 9")
    assert isinstance(said(Op("hook", "hooks.startContainer[0]", path="/h"), errno.EIO), HookError)


def test_a_deadline_and_a_cpuset() -> None:
    op = Op("scheduler", "process.scheduler", policy=6)
    assert "process scheduler can't be used together with AllowedCPUs" in str(said(op, errno.EPERM))
    realtime = str(said(Op("scheduler", "process.scheduler", policy=1), errno.EPERM))
    assert "AllowedCPUs" not in realtime
    able = capabilities.current().effective >> capabilities.NUMBERS["CAP_SYS_NICE"] & 1
    assert ("CONFIG_RT_GROUP_SCHED" if able else "needs CAP_SYS_NICE") in realtime
