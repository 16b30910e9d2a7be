"""Writing tar: ustar headers, PAX records where a value does not fit, nothing that differs from run to run."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.snapshots.diff import Sink

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
# What a ustar field of 8 and of 12 bytes can hold.
_MAX_ID = 0o7777777
_MAX_LONG = 0o77777777777


class TarWriter:
    """Headers and data to one sink, hashed on the way."""

    def __init__(self, out: Sink) -> None:
        import hashlib

        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def header(
        self,
        path: str,
        kind: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        size: int,
        *,
        link: str = "",
        device: tuple[int, int] = (0, 0),
        xattrs: Mapping[str, bytes] | None = None,
    ) -> None:
        """One entry; `size` bytes of data() and pad() follow."""
        name, target = os.fsencode(path), os.fsencode(link)
        records: list[tuple[bytes, bytes]] = []
        if uid > _MAX_ID:
            records.append((b"uid", b"%d" % uid))
        if gid > _MAX_ID:
            records.append((b"gid", b"%d" % gid))
        if not 0 <= mtime <= _MAX_LONG:
            records.append((b"mtime", b"%d" % mtime))
        if size > _MAX_LONG:
            records.append((b"size", b"%d" % size))
        if _needs_record(name):
            records.append((b"path", name))
        if _needs_record(target):
            records.append((b"linkpath", target))
        for key, value in sorted((xattrs or {}).items()):
            records.append((b"SCHILY.xattr." + os.fsencode(key), value))
        if records:
            data = b"".join(_record(*record) for record in sorted(records))
            self._put(_block(b"PaxHeaders.0/" + name[-80:], b"x", 0o644, 0, 0, 0, len(data), b"", (0, 0)))
            self._put(data)
            self.pad()
        self._put(
            _block(
                name[:100],
                kind,
                mode,
                uid if uid <= _MAX_ID else 0,
                gid if gid <= _MAX_ID else 0,
                mtime if 0 <= mtime <= _MAX_LONG else 0,
                size if size <= _MAX_LONG else 0,
                target[:100],
                device,
            )
        )

    def data(self, data: bytes) -> None:
        self._put(data)

    def pad(self) -> None:
        """Fills the block that data ended in."""
        if self.size % _BLOCK:
            self._put(_ZEROS[self.size % _BLOCK :])

    def end(self) -> None:
        self._put(_ZEROS * 2)

    def _put(self, data: bytes) -> None:
        self._out.write(data)
        self._hash.update(data)
        self.size += len(data)


def _needs_record(text: bytes) -> bool:
    return len(text) > 100 or not text.isascii()


def _record(key: bytes, value: bytes) -> bytes:
    # The length counts its own digits.
    body = len(key) + len(value) + 3
    length = body + len(str(body))
    if len(str(length)) != len(str(body)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    size: int,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    block = bytearray(_BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[108:116] = b"%07o\0" % uid
    block[116:124] = b"%07o\0" % gid
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % mtime
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    if kind in (b"3", b"4"):
        block[329:337] = b"%07o\0" % device[0]
        block[337:345] = b"%07o\0" % device[1]
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
