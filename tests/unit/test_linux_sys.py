"""The extension against its contract, and what it does with arguments that cannot be."""

from __future__ import annotations

import ast
import errno
import os
import struct
from pathlib import Path

import pytest

from masu.linux import _sys

CONTRACT = Path(_sys.__file__ or "").with_name("_sys.pyi")


def declared() -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(CONTRACT.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_contract_and_module_have_the_same_functions() -> None:
    compiled = {name for name in vars(_sys) if not name.startswith("__")}
    assert compiled == set(declared())


@pytest.mark.parametrize("name", sorted(declared()))
def test_arguments_are_those_of_the_contract(name: str) -> None:
    node = declared()[name]
    assert ast.get_docstring(node), f"{name} has no docstring"
    arguments = node.args
    assert not arguments.args, "positional-only, as PyArg_ParseTuple is"
    assert not arguments.kwonlyargs
    most = len(arguments.posonlyargs)
    function = getattr(_sys, name)
    with pytest.raises(TypeError):
        function(*[object()] * (most + 1))
    if most > len(arguments.defaults):
        with pytest.raises(TypeError):
            function()


def test_errors_carry_errno_and_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        _sys.openat2(-100, "/none/such", os.O_RDONLY)
    assert caught.value.filename == "/none/such"
    with pytest.raises(OSError, match="Invalid argument") as refused:
        _sys.openat2(-100, "/", os.O_RDONLY, 0o600)
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="none") as renamed:
        _sys.renameat2(-100, "/none/a", -100, "/none/b")
    assert (renamed.value.filename, renamed.value.filename2) == ("/none/a", "/none/b")
    with pytest.raises(ValueError, match="null byte"):
        _sys.openat2(-100, "a\0b", 0)


def test_a_path_that_is_no_utf8() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        _sys.openat2(-100, b"/none/\xff", os.O_RDONLY)
    assert caught.value.filename == "/none/\udcff"


def test_paths_may_be_path_objects(tmp_path: Path) -> None:
    fd = _sys.openat2(-100, tmp_path / "x", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.close(fd)
    (tmp_path / "y").write_text("y")
    _sys.renameat2(-100, tmp_path / "x", -100, tmp_path / "y", 2)  # RENAME_EXCHANGE
    assert (tmp_path / "x").read_text() == "y"
    with pytest.raises(FileExistsError):
        _sys.renameat2(-100, tmp_path / "x", -100, tmp_path / "y", 1)  # RENAME_NOREPLACE
    _sys.linkat(-100, tmp_path / "x", -100, tmp_path / "z")
    assert (tmp_path / "z").stat().st_nlink == 2


def test_file_systems_and_mounts_are_told_apart() -> None:
    fd = os.open("/proc", os.O_PATH)
    assert _sys.fstatfs_type(fd) == 0x9FA0
    proc_id, is_root = _sys.mount_of(fd, "", 0x1000)
    os.close(fd)
    assert is_root
    assert _sys.mount_of(-100, "/proc/self") == (proc_id, False)
    assert _sys.mount_of(-100, "/")[0] != proc_id


def test_bpf_refuses_pointers_outside_of_the_attribute() -> None:
    for offset in (-8, 4, 16, 1 << 40):
        with pytest.raises(ValueError, match="no pointer can be"):
            _sys.bpf(0, bytes(16), ((offset, b"x"),))
    with pytest.raises(ValueError, match="at most"):
        _sys.bpf(0, bytes(257))
    with pytest.raises(ValueError, match="at most"):
        _sys.bpf(0, bytes(8), tuple((0, b"") for _ in range(17)))
    with pytest.raises(TypeError):
        _sys.bpf(0, bytes(8), ((0,),))  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r".*") as caught:
        _sys.bpf(0xFFFF, struct.pack("QQ", 0, 0), ((8, bytearray(8)),))
    assert caught.value.errno in (errno.EINVAL, errno.EPERM)


def test_close_range_marks(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        fd = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(fd, True)
        _sys.close_range(fd, fd, 4)
        marked = not os.get_inheritable(fd)
        _sys.close_range(fd, fd)
        try:
            os.fstat(fd)
            os._exit(2)
        except OSError:
            os._exit(0 if marked else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_process_name() -> None:
    before = Path("/proc/thread-self/comm").read_text().rstrip("\n")
    _sys.set_process_name("masu:[0:test]")
    try:
        assert Path("/proc/thread-self/comm").read_text() == "masu:[0:test]\n"
    finally:
        _sys.set_process_name(before)
