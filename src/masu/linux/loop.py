"""Loop devices: a file as a block device (loop(4), include/uapi/linux/loop.h)."""

from __future__ import annotations

import errno
import fcntl
import os
from _struct import Struct

from masu.errors import KernelError

_CONTROL = "/dev/loop-control"
_CTL_GET_FREE, _CLR_FD, _GET_STATUS64, _CONFIGURE = 0x4C82, 0x4C01, 0x4C05, 0x4C0A  # the last since Linux 5.8
_READ_ONLY, _AUTOCLEAR = 1, 4
# struct loop_info64: device, inode, rdevice, offset, size limit; number, encryption (type, key size), flags; file name,
# encryption (name, key), init.
_INFO = Struct("=5Q4I64s64s32s2Q")
_CONFIG = Struct("=2I232s8Q")
_NAME_BYTES = 63
_TRIES = 100


def attach(path: str, name: str = "", *, read_only: bool = False, autoclear: bool = False) -> tuple[int, str]:
    """A free device that shows the file: (its descriptor, "/dev/loop7"). With `autoclear` it is free again when its
    last user is gone, of which the descriptor is one. `name` is what `detach` knows it by. Raises KernelError."""
    mode = os.O_RDONLY if read_only else os.O_RDWR
    try:
        file = os.open(path, mode | os.O_CLOEXEC)
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e
    try:
        flags = (_READ_ONLY if read_only else 0) | (_AUTOCLEAR if autoclear else 0)
        info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, os.fsencode(name)[:_NAME_BYTES], b"", b"", 0, 0)
        config = _CONFIG.pack(file, 0, info, *[0] * 8)
        for _ in range(_TRIES):
            device = f"/dev/loop{_free()}"
            try:
                fd = os.open(device, mode | os.O_CLOEXEC)
            except OSError as e:
                raise KernelError("open", device, e.errno or 0) from e
            try:
                fcntl.ioctl(fd, _CONFIGURE, config)
            except OSError as e:
                os.close(fd)
                if e.errno == errno.EBUSY:
                    continue  # somebody else was faster
                raise KernelError("LOOP_CONFIGURE", device, e.errno or 0, detail=path) from e
            return fd, device
    finally:
        os.close(file)
    raise KernelError("LOOP_CONFIGURE", path, errno.EBUSY, detail="others are always faster")


def detach(device: str, name: str) -> None:
    """Frees the device when its last user is gone. One that bears another name by now is somebody else's: it stays."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        status = _INFO.unpack(fcntl.ioctl(fd, _GET_STATUS64, bytes(_INFO.size)))
        if status[9].rstrip(b"\0") == os.fsencode(name)[:_NAME_BYTES]:
            fcntl.ioctl(fd, _CLR_FD, 0)
    except OSError as e:
        if e.errno != errno.ENXIO:  # free already
            raise KernelError("LOOP_CLR_FD", device, e.errno or 0) from e
    finally:
        os.close(fd)


def _free() -> int:
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise KernelError("open", _CONTROL, e.errno or 0) from e
    try:
        return fcntl.ioctl(control, _CTL_GET_FREE)
    except OSError as e:
        raise KernelError("LOOP_CTL_GET_FREE", _CONTROL, e.errno or 0) from e
    finally:
        os.close(control)
