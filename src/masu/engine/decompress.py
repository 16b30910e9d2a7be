"""What a tar archive comes wrapped in, recognised by its first bytes, unwrapped as a stream.

All readers are asked for a bounded piece at a time: with zstd or xz a few kilobytes may stand for gigabytes.
"""

from __future__ import annotations

import io

from masu.errors import DataLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    class _Reader(Protocol):
        def read(self, size: int, /) -> bytes: ...


_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
# The window that the image specification's writers use at most; a hostile frame may ask for 2 GiB.
_ZSTD_WINDOW_BYTES = 128 << 20
_PIECE_BYTES = 1 << 20
# Four bytes may be a run-length block of 128 KiB (RFC 8878, 3.1.1.2), so this much input is 128 MiB at worst.
_ZSTD_INPUT_BYTES = 4096


def kind_of(head: bytes) -> str:
    """ "gzip", "zstd", "bzip2", "xz", or "" for anything else (a bare tar)."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    # zstd's skippable frames come before the data in some writers' output (RFC 8878, 3.1.2).
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return "zstd"
    return ""


def decompressed(chunks: Iterable[bytes], kind: str, name: str) -> Iterator[bytes]:
    """The content of a stream of `kind`, all of its members or frames one after the other.

    Raises DataLoss for damaged or cut data; `name` is what the error is about.
    """
    if not kind:
        yield from chunks
        return
    source = _Source(chunks)
    errors: tuple[type[Exception], ...] = (EOFError, ValueError, *_errors(kind))
    try:
        reader = _reader(kind, source)
    except errors as e:
        raise DataLoss("compressed data", name, detail=f"{kind}: {e}") from e
    while True:
        try:
            piece = reader.read(_PIECE_BYTES)
        except errors as e:
            raise DataLoss("compressed data", name, detail=f"{kind}: {e}") from e
        except OSError as e:
            if e.errno:
                raise  # the source's own
            raise DataLoss("compressed data", name, detail=f"{kind}: {e}") from e
        if not piece:
            return
        yield piece


class _Source(io.RawIOBase):
    """An iterator of bytes as a file to read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        piece = self._rest[: len(buffer)]
        buffer[: len(piece)] = piece
        self._rest = self._rest[len(piece) :]
        return len(piece)


def _reader(kind: str, source: _Source) -> _Reader:
    # Late, each: only the one that is needed.
    if kind == "gzip":
        from isal import igzip

        reader: _Reader = igzip.IGzipFile(fileobj=source, mode="rb")  # type: ignore[no-untyped-call]
        return reader
    if kind == "zstd":
        return _ZstdReader(source)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2File(source)
    import lzma

    return lzma.LZMAFile(source)  # type: ignore[arg-type]


def _errors(kind: str) -> tuple[type[Exception], ...]:
    # These libraries' errors have no base in common.
    if kind == "gzip":
        from typing import cast

        from isal import isal_zlib

        # isal's stubs call the exception a value.
        return (cast("type[Exception]", isal_zlib.error),)
    if kind == "zstd":
        import zstandard

        return (zstandard.ZstdError,)
    if kind == "xz":
        import lzma

        return (lzma.LZMAError,)
    return ()


class _ZstdReader:
    """zstandard's own reader calls a stream that was cut within a frame complete; this one does not."""

    def __init__(self, source: _Source) -> None:
        import zstandard

        self._make = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._source = source
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._input:
                self._input = self._source.read(_ZSTD_INPUT_BYTES) or b""
                if not self._input:
                    if self._frame is not None:
                        raise EOFError("cut off")
                    return b""
            if self._frame is None:
                self._frame = self._make.decompressobj()
            data, self._input = self._input, b""
            output = self._frame.decompress(data)
            if self._frame.eof:
                self._input = self._frame.unused_data
                self._frame = None
            if output:
                return output
