"""What seccomp can do on this machine: asked of the libseccomp that compiles the filters and of the kernel."""

from __future__ import annotations

import errno

from masu.errors import FailedPrecondition
from masu.linux.seccomp import FLAG_NEW_LISTENER
from masu.linux.seccomp_build import FLAGS, Library

_SECCOMP_SET_MODE_FILTER = 1  # <linux/seccomp.h>


class Support:
    """`version` of libseccomp, the SCMP_ARCH_* `architectures` it knows out of those asked for, and the
    SECCOMP_FILTER_FLAG_* `flags` that the running kernel takes."""

    __slots__ = ("architectures", "flags", "version")

    def __init__(self, version: str, architectures: list[str], flags: list[str]) -> None:
        self.version = version
        self.architectures = architectures
        self.flags = flags


def support(architectures: tuple[str, ...]) -> Support | None:
    """None where no filter can be made: no libseccomp, or one that is too old."""
    try:
        library = Library()
    except FailedPrecondition:
        return None
    return Support(
        ".".join(map(str, library.version)),
        [name for name in architectures if library.architecture(name)],
        [name for name, flag in FLAGS.items() if _kernel_takes(library, flag)],
    )


def _kernel_takes(library: Library, flag: int) -> bool:
    """A flag that is known gets as far as the filter, which is not there: EFAULT (seccomp(2))."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # Some flags are refused without a listener.
    libc.syscall(library.number("seccomp"), _SECCOMP_SET_MODE_FILTER, flag | FLAG_NEW_LISTENER, None)
    return ctypes.get_errno() == errno.EFAULT
