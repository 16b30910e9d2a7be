"""The device rules of cgroup v2: an eBPF program, made here instruction by instruction.

cgroup v2 has no device files. Instead a program of type BPF_PROG_TYPE_CGROUP_DEVICE is attached to the cgroup's
directory and asked for every open and mknod of a device in it and below (cgroup-v2.rst, "Device controller"); 0 means
EPERM. It gets struct bpf_cgroup_dev_ctx:

    u32 access_type     (BPF_DEVCG_ACC_* << 16) | BPF_DEVCG_DEV_*
    u32 major, minor

The program made of a devices.Table keeps these in registers, compares them with one exception after the other and
falls through to the default:

    r2 = type   r3 = access wanted   r4 = major   r5 = minor
    for each exception:   if r2 != type or r4 != major or r5 != minor or access does not match: next
                          r0 = 1 - default; exit
    r0 = default; exit
"""

from __future__ import annotations

import errno
import os

from masu.errors import KernelError, MasuError
from masu.linux.cgroups.devices import ANY, Table, in_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _struct import Struct

# <linux/bpf.h>
BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 1 << 1
BPF_F_REPLACE = 1 << 2
ACCESS = {"m": 1, "r": 2, "w": 4}
ACCESS_ALL = 7
TYPE = {"b": 1, "c": 2}

# Instructions: class | operation | source, bpf(2) and Documentation/bpf/standardization/instruction-set.rst.
LDX_W = 0x61  # dst = *(u32 *)(src + off)
MOV_K = 0xB4  # dst = imm           (32 bit, upper half zeroed)
MOV_X = 0xBC  # dst = src
AND_K = 0x54  # dst &= imm
RSH_K = 0x74  # dst >>= imm
JNE_K = 0x56  # if dst != imm: skip off      (32 bit compare)
JEQ_K = 0x16  # if dst == imm: skip off
EXIT = 0x95

LOG_SIZE = 64 << 10
# A cgroup takes at most this many programs of one type (BPF_CGROUP_MAX_PROGS).
PROGRAMS_MAX = 64
EAGAIN_RETRIES = 30


class Program:
    """Instructions being collected; `code()` is what the kernel takes."""

    __slots__ = ("instructions",)

    def __init__(self) -> None:
        self.instructions: list[tuple[int, int, int, int, int]] = []

    def add(self, code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> None:
        self.instructions.append((code, dst, src, offset, immediate))

    def code(self) -> bytes:
        import sys
        from _struct import Struct

        pack = Struct("=BBhI").pack
        # Two registers share a byte, in the order of the machine's bit fields.
        little = sys.byteorder == "little"
        return b"".join(
            pack(code, dst | src << 4 if little else dst << 4 | src, offset, immediate & 0xFFFFFFFF)
            for code, dst, src, offset, immediate in self.instructions
        )


def assemble(table: Table) -> bytes:
    """The program for a table, as an array of struct bpf_insn."""
    program = Program()
    program.add(LDX_W, 2, 1, 0)
    program.add(MOV_X, 3, 2)
    program.add(AND_K, 2, immediate=0xFFFF)
    program.add(RSH_K, 3, immediate=16)
    program.add(LDX_W, 4, 1, 4)
    program.add(LDX_W, 5, 1, 8)
    default = 1 if table.default_allow else 0
    for (kind, major, minor), letters in table.exceptions.items():
        # Checks, each of which leaves for the next exception: how far that is, is known at the end.
        checks: list[tuple[int, int, int]] = [(JNE_K, 2, TYPE[kind])]
        bits = sum(ACCESS[letter] for letter in letters)
        masked = bits != ACCESS_ALL
        if major != ANY:
            checks.append((JNE_K, 4, major))
        if minor != ANY:
            checks.append((JNE_K, 5, minor))
        length = len(checks) + (3 if masked else 0) + 2
        for position, (code, register, value) in enumerate(checks):
            program.add(code, register, 0, length - position - 1, value)
        if masked:
            program.add(MOV_X, 1, 3)
            if table.default_allow:
                # Denied as soon as one of these is wanted.
                program.add(AND_K, 1, immediate=bits)
                program.add(JEQ_K, 1, 0, 2, 0)
            else:
                # Allowed only if nothing else is wanted.
                program.add(AND_K, 1, immediate=ACCESS_ALL & ~bits)
                program.add(JNE_K, 1, 0, 2, 0)
        program.add(MOV_K, 0, immediate=1 - default)
        program.add(EXIT)
    program.add(MOV_K, 0, immediate=default)
    program.add(EXIT)
    return program.code()


def load(code: bytes, *, where: str = "") -> int:
    """Load a program; returns a descriptor that the caller closes. Raises KernelError with the verifier's words."""
    from masu.linux import _sys

    log = bytearray(LOG_SIZE)
    for logged in (False, True):
        attr = _struct("=IIQQIIQII16sII").pack(
            BPF_PROG_TYPE_CGROUP_DEVICE,
            len(code) // 8,
            0,
            0,
            1 if logged else 0,
            LOG_SIZE if logged else 0,
            0,
            0,
            0,
            b"masu_devices",
            0,
            BPF_CGROUP_DEVICE,
        )
        pointers: list[tuple[int, bytes | bytearray]] = [(8, code), (16, b"Apache-2.0\0")]
        if logged:
            pointers.append((32, log))
        for attempt in range(EAGAIN_RETRIES):
            try:
                return _sys.bpf(BPF_PROG_LOAD, attr, tuple(pointers))[0]
            except OSError as e:
                # A signal interrupts the verifier (since Linux 4.20).
                if e.errno == errno.EAGAIN and attempt < EAGAIN_RETRIES - 1:
                    continue
                if logged or e.errno in (errno.EPERM, errno.ENOSYS):
                    words = log.rstrip(b"\0").decode("utf-8", "replace").strip()
                    raise KernelError(
                        "bpf", "BPF_PROG_LOAD", e.errno or 0, where=where, detail=words[-2000:], hint=_hint(e)
                    ) from e
                break
    raise AssertionError("unreachable")


def attach(directory: str, table: Table, *, where: str = "linux.resources.devices") -> None:
    """Make a cgroup's device program that of `table`, in the place of any it has.

    A single old one is exchanged at once (BPF_F_REPLACE, Linux 5.6); several are detached after the new one is there,
    so that no device is open to all in between. In a user namespace, where programs cannot be loaded and device
    nodes cannot be made, nothing is done. Raises KernelError.
    """
    from masu.linux import _sys

    try:
        program = load(assemble(table), where=where)
    except MasuError as e:
        if e.errno == errno.EPERM and in_user_namespace():
            return
        raise
    old: list[int] = []
    fd = -1
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        old = _attached(fd)
        flags, replaced = BPF_F_ALLOW_MULTI, 0
        if len(old) == 1:
            flags, replaced = BPF_F_ALLOW_MULTI | BPF_F_REPLACE, old[0]
        try:
            _sys.bpf(BPF_PROG_ATTACH, _struct("=IIIII").pack(fd, program, BPF_CGROUP_DEVICE, flags, replaced))
        except OSError:
            if not replaced:
                raise
            # Attached by somebody without BPF_F_ALLOW_MULTI, who must have been alone: takes its place as well.
            _sys.bpf(BPF_PROG_ATTACH, _struct("=IIIII").pack(fd, program, BPF_CGROUP_DEVICE, 0, 0))
        if len(old) > 1:
            for each in old:
                _sys.bpf(BPF_PROG_DETACH, _struct("=III").pack(fd, each, BPF_CGROUP_DEVICE))
    except OSError as e:
        if e.errno == errno.EPERM and in_user_namespace():
            return
        raise KernelError("bpf", directory, e.errno or 0, where=where, hint=_hint(e)) from e
    finally:
        for each in (*old, program, fd):
            if each >= 0:
                os.close(each)


def attached(directory: str) -> int:
    """How many device programs a cgroup has itself. Raises KernelError."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = _attached(fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise KernelError("bpf", directory, e.errno or 0, hint=_hint(e)) from e
    for each in found:
        os.close(each)
    return len(found)


def _attached(directory_fd: int) -> list[int]:
    """Descriptors of the device programs attached to this cgroup itself. Raises OSError."""
    from masu.linux import _sys

    ids = bytearray(4 * PROGRAMS_MAX)
    # The whole of the kernel's structure is given: 6.17 writes its last field whatever size it is told.
    attr = _struct("=IIIIQIIQQQQ").pack(directory_fd, BPF_CGROUP_DEVICE, 0, 0, 0, PROGRAMS_MAX, 0, 0, 0, 0, 0)
    _, answer = _sys.bpf(BPF_PROG_QUERY, attr, ((16, ids),))
    count = memoryview(answer).cast("I")[6]
    fds: list[int] = []
    for number in memoryview(ids).cast("I")[:count]:
        try:
            fds.append(_sys.bpf(BPF_PROG_GET_FD_BY_ID, _struct("=III").pack(number, 0, 0))[0])
        except OSError as e:
            # Gone meanwhile, or kept from us by an LSM: another program can only forbid more, so it may stay.
            if e.errno in (errno.ENOENT, errno.EPERM, errno.EACCES):
                continue
            for fd in fds:
                os.close(fd)
            raise
    return fds


def _hint(e: OSError) -> str:
    if e.errno == errno.EPERM:
        return "loading a device program needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, outside of user namespaces"
    if e.errno == errno.ENOSYS:
        return "the kernel has no bpf(2) (CONFIG_BPF_SYSCALL)"
    if e.errno == errno.EINVAL:
        return "the kernel may lack CONFIG_CGROUP_BPF"
    return ""


def _struct(form: str) -> Struct:
    from _struct import Struct

    return Struct(form)
