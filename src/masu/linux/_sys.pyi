"""System calls that Python's standard library lacks. Compiled from native/sys.c; this file is the contract.

One function, one call; nothing is decided here. Each raises OSError with the kernel's errno (and the path where
one was given); argument types are checked as Python does, and a path holding NUL is ValueError. Descriptors are
close-on-exec only if the flags say so, as in C. Calls that may sleep release the GIL. Missing calls of an older
kernel are OSError ENOSYS.

Only `masu.linux` imports this module.
"""

from collections.abc import Sequence
from os import PathLike

_Path = str | bytes | PathLike[str] | PathLike[bytes]

# ---- paths ----

def openat2(dirfd: int, path: _Path, flags: int, mode: int = 0, resolve: int = 0, /) -> int:
    """openat2(2), Linux 5.6: open with RESOLVE_* rules. EINTR is retried (PEP 475); EAGAIN, which RESOLVE_IN_ROOT
    and RESOLVE_BENEATH give when a rename raced with `..`, is the caller's to retry."""

def renameat2(from_dirfd: int, source: _Path, to_dirfd: int, target: _Path, flags: int = 0, /) -> None:
    """renameat2(2), Linux 3.15: rename with RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT."""

def linkat(from_dirfd: int, source: _Path, to_dirfd: int, target: _Path, flags: int = 0, /) -> None:
    """linkat(2) with its flags (AT_EMPTY_PATH links an O_TMPFILE; needs CAP_DAC_READ_SEARCH before Linux 6.10)."""

def mount_of(dirfd: int, path: _Path, flags: int = 0, /) -> tuple[int, bool]:
    """statx(2): (the mount's id, whether the object is the root of that mount). Linux 5.8; EOPNOTSUPP before."""

def fstatfs_type(fd: int, /) -> int:
    """fstatfs(2)'s f_type: the magic number of the file system, as unsigned 32 bits."""

def syncfs(fd: int, /) -> None:
    """syncfs(2): write the whole file system of fd to disk; its write errors are told from Linux 5.8 on."""

# ---- mounts ----

def open_tree(dirfd: int, path: _Path, flags: int, /) -> int:
    """open_tree(2), Linux 5.2: an O_PATH descriptor of a mount, with OPEN_TREE_CLONE of a detached copy."""

def move_mount(from_dirfd: int, source: _Path, to_dirfd: int, target: _Path, flags: int, /) -> None:
    """move_mount(2), Linux 5.2: attach a detached mount, or move one."""

def fsopen(fstype: str, flags: int = ..., /) -> int:
    """fsopen(2), Linux 5.2: a file system context; flags default to FSOPEN_CLOEXEC. Reading the descriptor gives
    the kernel's messages about what failed (see masu.linux.mount.context_log)."""

def fsconfig(
    fd: int, command: int, key: str | None = None, value: str | bytes | None = None, aux: int = 0, /
) -> None:
    """fsconfig(2), Linux 5.2. FSCONFIG_SET_BINARY takes bytes, whose length is passed as aux; the other commands
    take text. A string value longer than 255 bytes is EINVAL."""

def fsmount(fd: int, flags: int = ..., attr: int = 0, /) -> int:
    """fsmount(2), Linux 5.2: a detached mount with MOUNT_ATTR_*; flags default to FSMOUNT_CLOEXEC."""

def fspick(dirfd: int, path: _Path, flags: int, /) -> int:
    """fspick(2), Linux 5.2: the context of a mounted file system, for FSCONFIG_CMD_RECONFIGURE."""

def mount_setattr(
    dirfd: int, path: _Path, flags: int, set: int, clear: int, propagation: int = 0, userns_fd: int = 0, /
) -> None:
    """mount_setattr(2), Linux 5.12: `clear` is applied before `set`; AT_RECURSIVE in flags covers the tree, all of
    it or nothing. userns_fd counts only with MOUNT_ATTR_IDMAP in `set`."""

def mount(
    source: _Path | None, target: _Path, fstype: str | None, flags: int = 0, data: str | bytes | None = None, /
) -> None:
    """mount(2)."""

def umount2(target: _Path, flags: int = 0, /) -> None:
    """umount2(2) with MNT_DETACH, UMOUNT_NOFOLLOW …"""

def pivot_root(new_root: _Path, put_old: _Path, /) -> None:
    """pivot_root(2)."""

# ---- processes ----

def setns(fd: int, nstype: int = 0, /) -> None:
    """setns(2): the calling thread joins the namespace behind fd, or those of a pidfd (Linux 5.8) in nstype."""

def unshare(flags: int, /) -> None:
    """unshare(2), for the calling thread. CLONE_NEWUSER and CLONE_NEWNS are EINVAL with several threads."""

def close_range(first: int, last: int, flags: int = 0, /) -> None:
    """close_range(2), Linux 5.9; CLOSE_RANGE_CLOEXEC from 5.11."""

def inotify_init1(flags: int = 0, /) -> int:
    """inotify_init1(2)."""

def inotify_add_watch(fd: int, path: _Path, mask: int, /) -> int:
    """inotify_add_watch(2): the watch descriptor."""

def madvise(address: int, length: int, advice: int, /) -> None:
    """madvise(2) on our own memory."""

def prctl(option: int, two: int = 0, three: int = 0, four: int = 0, five: int = 0, /) -> int:
    """prctl(2) with numbers only."""

def set_process_name(name: str, /) -> None:
    """prctl(PR_SET_NAME): the calling thread's name, cut to 15 bytes."""

def capget(pid: int = 0, /) -> tuple[int, int, int]:
    """capget(2): (effective, permitted, inheritable) as bit masks, of the calling thread or of `pid`."""

def capset(effective: int, permitted: int, inheritable: int, /) -> None:
    """capset(2), for the calling thread."""

def pidfd_getfd(pidfd: int, target_fd: int, flags: int = 0, /) -> int:
    """pidfd_getfd(2), Linux 5.6: a copy of another process's descriptor, close-on-exec."""

def join_session_keyring(name: str | None = None, /) -> int:
    """keyctl(KEYCTL_JOIN_SESSION_KEYRING): a new or a named session keyring; its serial number."""

def spawn(
    executable: _Path | int,
    argv: Sequence[str | bytes],
    env: Sequence[str | bytes],
    keep: tuple[int, ...],
    stdio: tuple[int, int, int],
    cwd: _Path | None,
    new_session: bool,
    /,
) -> int:
    """vfork(2) and execve(2), or execveat(2) when `executable` is a descriptor; the pid of the child.

    Only `stdio` (-1: the caller's) and the descriptors in `keep` (ascending, above 2, same numbers) cross the exec;
    all signals are at their default and none is blocked. A failure in the child, up to and including the exec, is
    raised here, with nothing left behind. See masu.linux.spawn for the comfortable form.
    """

def bpf(
    command: int, attr: bytes, pointers: tuple[tuple[int, bytes | bytearray], ...] = (), /
) -> tuple[int, bytes]:
    """bpf(2): (result, attr as the kernel left it). attr is at most 256 bytes; each pair of `pointers` puts the
    address of a buffer, as u64, at an offset of attr. The kernel may write into a bytearray; the buffer must be as
    long as attr tells the kernel."""
