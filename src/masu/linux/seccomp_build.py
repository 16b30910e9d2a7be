"""Compiling a seccomp profile: libseccomp, since tables of system calls are not ours to keep.

One thing is added to what it makes: calls that are newer than the profile. A profile lists what its author knew; a C
library that tries a newer call falls back to an older one on ENOSYS, but not on the profile's EPERM, so new libraries
fail in strange ways under old profiles. As in runc, a call whose number is above all that the profile names on that
architecture gets ENOSYS, unless the default action lets things through anyway. A name that libseccomp does not know is
left out with a warning.
"""

from __future__ import annotations

import errno
import os

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, ResourceExhausted
from masu.linux.seccomp import (
    FLAG_LOG,
    FLAG_NEW_LISTENER,
    FLAG_SPEC_ALLOW,
    FLAG_WAIT_KILLABLE_RECV,
    INSTRUCTION_SIZE,
    INSTRUCTIONS_MAX,
    LIBRARY,
    Filter,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.seccomp import LinuxSeccomp, LinuxSyscall

FLAGS = {
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
    # The process that loads the filter has one thread: nothing to synchronise, and with NEW_LISTENER it is refused.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
}

# What a filter answers, SECCOMP_RET_*; libseccomp's numbers are the same.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
RET_ERRNO = ACTIONS["SCMP_ACT_ERRNO"]
# A tracer can say ENOSYS by itself, so TRACE counts as letting through.
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

# Above this many rules the library makes a binary tree instead of a list (with no rule that went wrong up to 2.5.4).
TREE_FROM = 32
ATTRIBUTE_OPTIMIZE = 8
ATTRIBUTE_NO_NEW_PRIVS = 3


def build(profile: LinuxSeccomp, *, where: str = "linux.seccomp", strict: bool = False) -> Filter:
    """Compile a profile without looking into the cache; see seccomp.compile."""
    library = Library()
    warnings: list[str] = []
    default = action(profile.default_action, profile.default_errno_ret, f"{where}.defaultAction")
    flags = 0
    for index, flag in enumerate(profile.flags):
        if flag not in FLAGS:
            raise InvalidArgument("seccomp flag", flag, where=f"{where}.flags[{index}]", detail=_allowed(FLAGS))
        flags |= FLAGS[flag]
    notify = any(rule.action == "SCMP_ACT_NOTIFY" for rule in profile.syscalls)
    if notify:
        flags |= FLAG_NEW_LISTENER
    elif flags & FLAG_WAIT_KILLABLE_RECV:
        flags &= ~FLAG_WAIT_KILLABLE_RECV  # EINVAL without a listener
        warnings.append(f"{where}.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no meaning without SCMP_ACT_NOTIFY")

    context = library.new(default)
    try:
        tokens = [library.native]
        for index, name in enumerate(profile.architectures):
            token = library.architecture(name)
            if token == 0:
                raise InvalidArgument(
                    "seccomp architecture",
                    name,
                    where=f"{where}.architectures[{index}]",
                    detail=f"{library.name} does not know it",
                )
            if token not in tokens:
                tokens.append(token)
                library.add_architecture(context, token, f"{where}.architectures[{index}]")
        library.set(context, ATTRIBUTE_NO_NEW_PRIVS, 0)
        unknown: list[str] = []
        added = 0
        for index, rule in enumerate(profile.syscalls):
            place = f"{where}.syscalls[{index}]"
            answer = action(rule.action, rule.errno_ret, f"{place}.action")
            if answer == default:
                continue  # says nothing new, and the library would refuse it
            for name in rule.names:
                number = library.number(name)
                if number == library.UNKNOWN and strict:
                    raise InvalidArgument(
                        "system call", name, where=f"{place}.names", detail=f"{library.name} does not know it"
                    )
                if number == library.UNKNOWN:
                    if name not in unknown:
                        unknown.append(name)
                    continue
                _add(library, context, answer, number, rule, name, place)
                added += 1
        if added > TREE_FROM:
            library.set(context, ATTRIBUTE_OPTIMIZE, 2)
        program = library.export(context)
    finally:
        library.release(context)
    if unknown:
        warnings.append(f"{where}: system calls unknown to {library.name} are ignored: {', '.join(unknown)}")
    if profile.default_action not in PERMISSIVE and default != RET_ERRNO | errno.ENOSYS:
        program = _newer_calls(library, profile, tokens) + program
    if len(program) > INSTRUCTIONS_MAX * INSTRUCTION_SIZE:
        raise ResourceExhausted(
            "seccomp filter",
            where=where,
            detail=f"{len(program) // INSTRUCTION_SIZE} instructions; the kernel takes {INSTRUCTIONS_MAX}",
            hint="fewer architectures or argument comparisons make it shorter",
        )
    return Filter(program, flags, notify=notify, warnings=tuple(warnings))


def action(name: str, errno_ret: int | None, where: str) -> int:
    """SECCOMP_RET_* for an action; ERRNO and TRACE carry a number, EPERM unless told otherwise. Raises
    InvalidArgument."""
    value = ACTIONS.get(name)
    if value is None:
        raise InvalidArgument("seccomp action", name, where=where, detail=_allowed(ACTIONS))
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        return value | (errno.EPERM if errno_ret is None else errno_ret & 0xFFFF)
    return value


def _add(library: Library, context: int, answer: int, number: int, rule: LinuxSyscall, name: str, where: str) -> None:
    comparisons = []
    for index, arg in enumerate(rule.args):
        operator = OPERATORS.get(arg.op)
        if operator is None:
            raise InvalidArgument(
                "seccomp operator", arg.op, where=f"{where}.args[{index}].op", detail=_allowed(OPERATORS)
            )
        comparisons.append((arg.index, operator, arg.value, arg.value_two))
    indexes = [each[0] for each in comparisons]
    if len(set(indexes)) == len(indexes):
        library.rule(context, answer, number, comparisons, name, where)
        return
    # All comparisons of a rule must hold, but the library takes each argument once. What profiles mean by two
    # comparisons of one argument is "either", and so every runtime has read them since Docker's first profile.
    for comparison in comparisons:
        library.rule(context, answer, number, [comparison], name, where)


def _allowed(words: dict[str, int]) -> str:
    return "allowed: " + ", ".join(words)


# --- calls newer than the profile -------------------------------------------------------------------------------------

# AUDIT_ARCH_* (<linux/audit.h>) for libseccomp's names: what seccomp_data.arch holds.
AUDIT_ARCH = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0xC000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102,
    "SCMP_ARCH_MIPS": 0x00000008,
    "SCMP_ARCH_MIPS64": 0x80000008,
    "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008,
    "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x00000014,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_PARISC": 0x0000000F,
    "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_M68K": 0x00000004,
    "SCMP_ARCH_SH": 0x4000002A,
    "SCMP_ARCH_SHEB": 0x0000002A,
}
X32_BIT = 0x40000000

# Classic BPF, <linux/bpf_common.h>: load a word of seccomp_data, jumps, return.
LD = 0x20
JA = 0x05
JEQ = 0x15
JGT = 0x25
JSET = 0x45
RET = 0x06
OFFSET_NUMBER = 0
OFFSET_ARCH = 4

END = "end of the stub, where the filter begins"
NOSYS = "return ENOSYS"


def _newer_calls(library: Library, profile: LinuxSeccomp, tokens: list[int]) -> bytes:
    """The stub before the filter: calls with numbers above the highest one named get ENOSYS.

    load arch; for each architecture: if it is that one, go to its part
    go to the filter
    part: load number; if it is above the highest named: go to ENOSYS; go to the filter
    return ENOSYS
    """
    highest: dict[int, dict[bool, int]] = {}  # audit architecture -> {is x32: highest number}
    multiplexed: set[int] = set()
    names = {library.architecture(name): name for name in AUDIT_ARCH}
    for token in tokens:
        arch = names.get(token)
        if arch is None:
            continue  # calls of that architecture get what the filter itself says
        numbers = (library.number_on(token, name) for rule in profile.syscalls for name in rule.names)
        top = max((number for number in numbers if number >= 0), default=0)
        if top:
            highest.setdefault(AUDIT_ARCH[arch], {})[arch == "SCMP_ARCH_X32"] = top
            if arch in ("SCMP_ARCH_S390", "SCMP_ARCH_S390X"):
                multiplexed.add(AUDIT_ARCH[arch])
    if not highest:
        return b""
    stub = _Stub()
    stub.add(LD, OFFSET_ARCH)
    for audit in highest:
        stub.add(JEQ, audit, yes=f"part {audit}")
    stub.go(END)
    for audit, tops in highest.items():
        stub.label(f"part {audit}")
        stub.add(LD, OFFSET_NUMBER)
        if audit in multiplexed:
            # Numbers that s390 does not know arrive as 0, setup(2), which nobody has called for decades.
            stub.add(JEQ, 0, yes=NOSYS)
        if audit == AUDIT_ARCH["SCMP_ARCH_X86_64"]:
            # x32 is the same audit architecture with a bit set in each number.
            stub.add(JSET, X32_BIT, yes=f"x32 {audit}")
            if False in tops:
                stub.add(JGT, tops[False], yes=NOSYS)
            stub.go(END)
            stub.label(f"x32 {audit}")
            if True in tops:
                stub.add(JGT, tops[True] | X32_BIT, yes=NOSYS)
        else:
            stub.add(JGT, tops[False], yes=NOSYS)
        stub.go(END)
    stub.label(NOSYS)
    stub.add(RET, RET_ERRNO | errno.ENOSYS)
    stub.label(END)
    return stub.code()


class _Stub:
    """Instructions with jumps to labels further down; conditional jumps reach 255, far more than there is."""

    __slots__ = ("instructions", "labels")

    def __init__(self) -> None:
        self.instructions: list[tuple[int, int, str]] = []
        self.labels: dict[str, int] = {}

    def add(self, code: int, k: int, *, yes: str = "") -> None:
        self.instructions.append((code, k, yes))

    def go(self, label: str) -> None:
        self.instructions.append((JA, 0, label))

    def label(self, name: str) -> None:
        self.labels[name] = len(self.instructions)

    def code(self) -> bytes:
        from _struct import pack

        out = []
        for position, (code, k, label) in enumerate(self.instructions):
            distance = self.labels[label] - position - 1 if label else 0
            out.append(pack("=HBBI", code, 0, 0, distance) if code == JA else pack("=HBBI", code, distance, 0, k))
        return b"".join(out)


# --- libseccomp -------------------------------------------------------------------------------------------------------


class Library:
    """The few functions of libseccomp that are used, with errors as ours."""

    UNKNOWN = -1  # __NR_SCMP_ERROR; other negative numbers stand for calls of other architectures

    def __init__(self) -> None:
        import ctypes  # dear, and only needed on a cache miss

        try:
            self._c = ctypes.CDLL(LIBRARY, use_errno=False)
        except OSError as e:
            raise FailedPrecondition(
                "seccomp",
                LIBRARY,
                detail=str(e),
                hint="install libseccomp: package libseccomp2 (Debian, Ubuntu), libseccomp (Fedora, Alpine, Arch)",
            ) from e
        c = self._c
        c.seccomp_init.restype = ctypes.c_void_p
        c.seccomp_init.argtypes = [ctypes.c_uint32]
        c.seccomp_release.restype = None
        c.seccomp_release.argtypes = [ctypes.c_void_p]
        c.seccomp_arch_native.restype = ctypes.c_uint32
        c.seccomp_arch_resolve_name.restype = ctypes.c_uint32
        c.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
        c.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        c.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
        c.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
        c.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
        c.seccomp_rule_add_array.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_char_p,
        ]
        c.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
        c.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
        major, minor, micro = c.seccomp_version().contents
        self.version = (major, minor, micro)
        self.name = f"libseccomp {major}.{minor}.{micro}"
        if self.version < (2, 5, 0):
            # SCMP_ACT_NOTIFY and the binary tree came with it; also what Debian 11 and Ubuntu 20.04 have.
            raise FailedPrecondition("seccomp", self.name, detail="too old", hint="2.5.0 or newer is needed")
        self.native: int = c.seccomp_arch_native()

    def new(self, default: int) -> int:
        context: int | None = self._c.seccomp_init(default)
        if not context:
            raise FailedPrecondition("seccomp", self.name, detail=f"no filter can begin with action {default:#x}")
        return context

    def release(self, context: int) -> None:
        self._c.seccomp_release(context)

    def architecture(self, name: str) -> int:
        """The library's token for SCMP_ARCH_*, 0 for one it does not know."""
        short = name.removeprefix("SCMP_ARCH_").lower()
        token: int = self._c.seccomp_arch_resolve_name(short.encode())
        return token

    def add_architecture(self, context: int, token: int, where: str) -> None:
        result = -self._c.seccomp_arch_add(context, token)
        if result not in (0, errno.EEXIST):
            raise InvalidArgument(
                "seccomp architecture",
                f"{token:#x}",
                result,
                where=where,
                syscall="seccomp_arch_add",
                detail="not to be combined with this machine's" if result in (errno.EINVAL, errno.EDOM) else "",
            )

    def set(self, context: int, attribute: int, value: int) -> None:
        self._c.seccomp_attr_set(context, attribute, value)  # those used here only make it faster or are defaults

    def number(self, name: str) -> int:
        number: int = self._c.seccomp_syscall_resolve_name(name.encode())
        return number

    def number_on(self, token: int, name: str) -> int:
        number: int = self._c.seccomp_syscall_resolve_name_arch(token, name.encode())
        return number

    def rule(
        self,
        context: int,
        answer: int,
        number: int,
        comparisons: list[tuple[int, int, int, int]],
        name: str,
        where: str,
    ) -> None:
        from _struct import pack

        # struct scmp_arg_cmp: unsigned int arg; enum op; uint64 a, b
        array = b"".join(pack("=IIQQ", *comparison) for comparison in comparisons)
        result = -self._c.seccomp_rule_add_array(context, answer, number, len(comparisons), array)
        if result == 0:
            return
        detail = ""
        if result == errno.EEXIST:
            detail = "contradicts an earlier rule for the same system call"
        elif result == errno.EOPNOTSUPP:
            detail = "the kernel does not know this action"
        raise InvalidArgument(
            "seccomp rule", name, result, where=where, syscall="seccomp_rule_add_array", detail=detail
        )

    def export(self, context: int) -> bytes:
        fd = os.memfd_create("masu-seccomp", os.MFD_CLOEXEC)
        try:
            result = -self._c.seccomp_export_bpf(context, fd)
            if result:
                raise KernelError("seccomp_export_bpf", self.name, result)
            size = os.lseek(fd, 0, os.SEEK_END)
            return os.pread(fd, size, 0)
        finally:
            os.close(fd)
