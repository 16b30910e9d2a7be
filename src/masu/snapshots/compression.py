"""Layers' compressions as streams of chunks: gzip (isal, several members), zstd (several frames), none; both ways.

The whole stream must be well formed to its end: bytes after it, or a stream that stops early, are DataLoss.
"""

from __future__ import annotations

import os

from masu.errors import DataLoss, InvalidArgument, ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Protocol

    from masu.snapshots.diff import Sink

    class _Compressing(Protocol):
        def compress(self, data: bytes, /) -> bytes: ...
        def flush(self) -> bytes: ...


_READ = 256 << 10
# A block holds at most 128 KiB: two terabytes.
_MAX_BLOCKS = 1 << 24


def decompressed(
    fd: int, compression: str, *, name: str = "", advance: Callable[[int], None], chunk_bytes: int = 1 << 20
) -> Iterator[bytes]:
    """The uncompressed bytes of `fd` from its beginning, in chunks of at most about `chunk_bytes`.

    `compression` is "gzip", "zstd" or "". `advance` is told of each read. Raises DataLoss.
    """
    if compression == "gzip":
        return _gunzip(fd, name, advance, chunk_bytes)
    if compression == "zstd":
        return _unzstd(fd, name, advance, chunk_bytes)
    if compression == "":
        return _plain(fd, advance, chunk_bytes)
    raise InvalidArgument("compression", compression, detail='known are "gzip", "zstd" and ""')


def _plain(fd: int, advance: Callable[[int], None], chunk_bytes: int) -> Iterator[bytes]:
    os.lseek(fd, 0, os.SEEK_SET)
    while chunk := os.read(fd, chunk_bytes):
        advance(len(chunk))
        yield chunk


def _gunzip(fd: int, name: str, advance: Callable[[int], None], chunk_bytes: int) -> Iterator[bytes]:
    from isal import igzip_lib

    os.lseek(fd, 0, os.SEEK_SET)
    data = _read(fd, advance)
    if not data:
        raise DataLoss("layer", name, detail="not a gzip stream: it is empty")
    while data := data or _read(fd, advance):
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        try:
            while not member.eof:
                if member.needs_input:
                    data = data or _read(fd, advance)
                    if not data:
                        raise DataLoss("layer", name, detail="the gzip stream ends too early")
                chunk = member.decompress(data, chunk_bytes)
                data = b""
                if chunk:
                    yield chunk
        except igzip_lib.IsalError as e:  # type: ignore[misc]  # its stub says "type"
            raise DataLoss("layer", name, detail=f"not a gzip stream: {e}") from None
        data = member.unused_data


def _unzstd(fd: int, name: str, advance: Callable[[int], None], chunk_bytes: int) -> Iterator[bytes]:
    from typing import cast

    import zstandard

    # zstandard's reader takes a stream that stops in the middle of a frame for one that ends.
    _check_frames(fd, name)
    os.lseek(fd, 0, os.SEEK_SET)
    # Frames made with a larger window than the 128 MiB of `zstd --long=27` would have us take gigabytes.
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    source = cast("IO[bytes]", _Source(fd, advance))
    reader = decompressor.stream_reader(source, read_size=_READ, read_across_frames=True, closefd=False)
    with reader:
        try:
            while chunk := reader.read(chunk_bytes):
                yield chunk
        except zstandard.ZstdError as e:
            raise DataLoss("layer", name, detail=f"not a zstd stream: {e}") from None


def _check_frames(fd: int, name: str) -> None:
    """That the file is one or more whole zstd frames and nothing else (RFC 8878, 3.1): headers only, no data."""
    size, at, frames = os.fstat(fd).st_size, 0, 0
    buffer, begin = b"", 0

    def look(offset: int, count: int) -> bytes:
        nonlocal buffer, begin
        if offset + count > size:
            raise DataLoss("layer", name, detail="the zstd stream ends too early")
        if not (begin <= offset and offset + count <= begin + len(buffer)):
            begin, buffer = offset, os.pread(fd, 1 << 16, offset)
        return buffer[offset - begin : offset - begin + count]

    blocks = 0
    while at < size:
        magic = int.from_bytes(look(at, 4), "little")
        if magic & 0xFFFFFFF0 == 0x184D2A50:
            at += 8 + int.from_bytes(look(at + 4, 4), "little")
            continue
        if magic != 0xFD2FB528:
            raise DataLoss("layer", name, detail="not a zstd stream")
        frames += 1
        descriptor = look(at + 4, 1)[0]
        single = descriptor >> 5 & 1
        # Descriptor, window, dictionary id, content size.
        at += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + ((single, 2, 4, 8)[descriptor >> 6])
        last = 0
        while not last:
            blocks += 1
            if blocks > _MAX_BLOCKS:
                raise ResourceExhausted("layer", name, detail="too many zstd blocks")
            block = int.from_bytes(look(at, 3), "little")
            last = block & 1
            at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
        at += 4 * (descriptor >> 2 & 1)
    if at != size or not frames:
        raise DataLoss("layer", name, detail="the zstd stream ends too early")


class _Source:
    """The file object that zstandard wants."""

    def __init__(self, fd: int, advance: Callable[[int], None]) -> None:
        self._fd = fd
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        return _read(self._fd, self._advance, size if size > 0 else _READ)


def _read(fd: int, advance: Callable[[int], None], size: int = _READ) -> bytes:
    data = os.read(fd, size)
    if data:
        advance(len(data))
    return data


class Compressor:
    """The other way: what is written goes compressed to `out`. The same bytes give the same stream; gzip without a
    name and a time."""

    def __init__(self, out: Sink, compression: str) -> None:
        """Raises InvalidArgument."""
        self._out = out
        if compression == "gzip":
            from isal import isal_zlib

            # A window of 32 KiB with a gzip header (zlib.h, deflateInit2).
            made: _Compressing = isal_zlib.compressobj(level=2, wbits=31)
        elif compression == "zstd":
            import zstandard

            made = zstandard.ZstdCompressor(write_checksum=True).compressobj()
        elif compression == "":
            made = _Plain()
        else:
            raise InvalidArgument("compression", compression, detail='known are "gzip", "zstd" and ""')
        self._made = made

    def write(self, data: bytes) -> None:
        if chunk := self._made.compress(data):
            self._out.write(chunk)

    def end(self) -> None:
        """Writes what is left; nothing may follow."""
        if chunk := self._made.flush():
            self._out.write(chunk)


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""
