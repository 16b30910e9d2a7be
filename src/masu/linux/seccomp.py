"""`linux.seccomp` as a BPF filter, out of a cache of compiled ones.

What comes out is the array of struct sock_filter that seccomp(2) takes: masu-launch loads it in the container, where no
library is. Compiling (seccomp_build.py: libseccomp, through ctypes) costs some twenty milliseconds, a look into the
cache a tenth of one.

A cache entry (all numbers little-endian):

    "masuscf1"  32 bytes blake2b of what follows
    u32 flags   u32 notify   u32 length of the program   the program   warnings, a line each
"""

from __future__ import annotations

import errno
import os

from masu.errors import KernelError
from masu.linux import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.seccomp import LinuxSeccomp

# <linux/seccomp.h>: flags for seccomp(SECCOMP_SET_MODE_FILTER)
FLAG_TSYNC = 1 << 0
FLAG_LOG = 1 << 1
FLAG_SPEC_ALLOW = 1 << 2
FLAG_NEW_LISTENER = 1 << 3
FLAG_WAIT_KILLABLE_RECV = 1 << 5

MAGIC = b"masuscf1"
DIGEST_SIZE = 32
INSTRUCTION_SIZE = 8
INSTRUCTIONS_MAX = 4096  # BPF_MAXINSNS
CACHE_FILE_MAX = 1 << 20
CACHE_FILES_MAX = 256

LIBRARY = "libseccomp.so.2"
# Where the file is on Debian and Ubuntu (per architecture), Fedora, Alpine and Arch.
LIBRARY_DIRECTORIES = ("/usr/lib/{machine}-linux-gnu", "/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib", "/lib")


class Filter:
    """`program` is an array of struct sock_filter, `flags` those for seccomp(2) (NEW_LISTENER included when `notify`
    is true), `warnings` sentences about what was left out."""

    __slots__ = ("flags", "notify", "program", "warnings")

    def __init__(self, program: bytes, flags: int, *, notify: bool = False, warnings: tuple[str, ...] = ()) -> None:
        self.program = program
        self.flags = flags
        self.notify = notify
        self.warnings = warnings

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and _pack(self) == _pack(other)

    __hash__ = None  # type: ignore[assignment]


def compile(
    profile: LinuxSeccomp, *, cache_dir: str | None, where: str = "linux.seccomp", strict: bool = False
) -> Filter:
    """The filter for a profile: from the cache, or made by libseccomp and put there.

    `cache_dir` is made (0700) when missing; one that others could write to is not used. A cache that cannot be written
    is no error. `cache_dir` None means no cache. `strict`: a system call that libseccomp does not know is an error.

    Raises InvalidArgument (unknown word, rules that contradict each other; with the place in the config),
    FailedPrecondition (no libseccomp, or too old), ResourceExhausted (more than 4096 instructions).
    """
    if cache_dir is None or strict:
        return _build(profile, where, strict)
    name = cache_key(profile)
    directory = _open_cache(cache_dir)
    if directory < 0:
        return _build(profile, where)
    try:
        found = _load(directory, name)
        if found is None:
            found = _build(profile, where)
            _store(directory, name, found)
        return found
    finally:
        os.close(directory)


def _build(profile: LinuxSeccomp, where: str, strict: bool = False) -> Filter:
    from masu.linux.seccomp_build import build  # only on a miss

    return build(profile, where=where, strict=strict)


# --- the cache --------------------------------------------------------------------------------------------------------


def cache_key(profile: LinuxSeccomp) -> str:
    """A name for everything the program depends on: the profile, the machine, the library's version, this code's."""
    from _blake2 import blake2b  # hashlib would cost four milliseconds

    parts: list[object] = [
        MAGIC,
        os.uname().machine,
        library_identity(),
        profile.default_action,
        profile.default_errno_ret,
        profile.architectures,
        profile.flags,
    ]
    for rule in profile.syscalls:
        parts.append((rule.names, rule.action, rule.errno_ret))
        for arg in rule.args:
            parts.append((arg.index, arg.value, arg.value_two, arg.op))
    # repr quotes: no two different profiles print alike.
    return blake2b(repr(parts).encode(), digest_size=DIGEST_SIZE).hexdigest()


def library_identity() -> str:
    """libseccomp's version without loading it: what libseccomp.so.2 links to (libseccomp.so.2.5.4).

    "" where it is nowhere that we look; then an upgrade of the library leaves old entries in use, which are still
    correct programs.
    """
    machine = os.uname().machine
    for form in LIBRARY_DIRECTORIES:
        path = f"{form.format(machine=machine)}/{LIBRARY}"
        try:
            return os.readlink(path)
        except OSError as e:
            if e.errno == errno.EINVAL:  # a file, no link: its time must do
                return f"{path} {os.stat(path).st_mtime_ns}"
    return ""


def _open_cache(path: str) -> int:
    """A descriptor of the cache directory, -1 if there is none to be trusted."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        try:
            fds.private_directory(path)
            fd = os.open(path, flags)
        except (KernelError, OSError):
            return -1
    except OSError:
        return -1
    status = os.fstat(fd)
    # Who can write here decides what containers may do.
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(fd)
        return -1
    return fd


def _load(directory: int, name: str) -> Filter | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o177 or status.st_size > CACHE_FILE_MAX:
            return None
        data = os.read(fd, CACHE_FILE_MAX)
    except OSError:
        return None
    finally:
        os.close(fd)
    return _unpack(data)


def _store(directory: int, name: str, made: Filter) -> None:
    data = _pack(made)
    temporary = f".{name}.{os.getpid()}"
    try:
        names = [each for each in os.listdir(directory) if not each.startswith(".")]
        if len(names) >= CACHE_FILES_MAX:
            for each in names:  # profiles come back only rarely: starting over is as good as any order
                os.unlink(each, dir_fd=directory)
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        try:
            os.fchmod(fd, 0o600)
            written = os.write(fd, data)
        finally:
            os.close(fd)
        # No fsync: a torn file is found out by its checksum, and made again.
        if written == len(data):
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
    except OSError:
        pass  # full, read-only: the next start compiles again
    try:
        os.unlink(temporary, dir_fd=directory)
    except OSError:
        pass


def _pack(made: Filter) -> bytes:
    from _blake2 import blake2b

    body = b"".join(
        (
            made.flags.to_bytes(4, "little"),
            made.notify.to_bytes(4, "little"),
            len(made.program).to_bytes(4, "little"),
            made.program,
            "\n".join(made.warnings).encode(),
        )
    )
    return MAGIC + blake2b(body, digest_size=DIGEST_SIZE).digest() + body


def _unpack(data: bytes) -> Filter | None:
    from _blake2 import blake2b

    start = len(MAGIC) + DIGEST_SIZE
    body = data[start:]
    if data[: len(MAGIC)] != MAGIC or len(body) < 12:
        return None
    if blake2b(body, digest_size=DIGEST_SIZE).digest() != data[len(MAGIC) : start]:
        return None
    length = int.from_bytes(body[8:12], "little")
    program, rest = body[12 : 12 + length], body[12 + length :]
    if len(program) != length or length % INSTRUCTION_SIZE or not 0 < length <= INSTRUCTIONS_MAX * INSTRUCTION_SIZE:
        return None
    warnings = tuple(rest.decode("utf-8", "replace").splitlines())
    flags, notify = int.from_bytes(body[:4], "little"), body[4] != 0
    return Filter(program, flags, notify=notify, warnings=warnings)
