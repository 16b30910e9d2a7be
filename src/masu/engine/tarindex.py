"""Tar archives of images: an index over one that may be hostile, and a writer.

Nothing is ever extracted by name: a name is a key to look up, the value is an offset in the archive. So there are
no paths to escape from; what is bounded is the number of entries and the size of everything that is kept.
"""

from __future__ import annotations

import os
import posixpath

from masu.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 512
MAX_ENTRIES = 200_000
MAX_NAME_BYTES = 4096
# PAX records and GNU long names of one entry.
MAX_EXTENSION_BYTES = 1 << 20
MAX_LINKS = 8
CHUNK_BYTES = 1 << 20


class TarIndex:
    """Where the regular files of a seekable tar archive are. `fd` stays the caller's."""

    def __init__(self, fd: int, name: str) -> None:
        """Read all headers. Raises InvalidArgument for what is no tar archive, DataLoss for a cut one,
        ResourceExhausted beyond the bounds."""
        self._fd = fd
        self._name = name
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._scan()

    def names(self) -> Iterable[str]:
        return self._files.keys()

    def find(self, name: str) -> tuple[int, int] | None:
        """(offset, size) of a file, links within the archive followed; None when there is none."""
        name = clean(name)
        for _ in range(MAX_LINKS):
            found = self._files.get(name)
            if found is not None:
                return found
            target = self._links.get(name)
            if target is None:
                return None
            name = target
        raise InvalidArgument("archive member", name, detail="too many links", where=self._name)

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes. Raises NotFound, ResourceExhausted."""
        found = self.find(name)
        if found is None:
            raise NotFound("archive member", name, where=self._name)
        offset, size = found
        if size > limit:
            raise ResourceExhausted(
                "archive member", name, detail=f"{size} bytes, allowed are {limit}", where=self._name
            )
        return b"".join(self.chunks(offset, size))

    def chunks(self, offset: int, size: int) -> Iterator[bytes]:
        end = offset + size
        while offset < end:
            data = os.pread(self._fd, min(CHUNK_BYTES, end - offset), offset)
            if not data:
                raise DataLoss("archive", self._name, detail="the file became shorter")
            yield data
            offset += len(data)

    def _scan(self) -> None:
        length = os.fstat(self._fd).st_size
        at = 0
        pax: dict[str, bytes] = {}
        everywhere: dict[str, bytes] = {}
        long_name = long_link = None
        while at + BLOCK <= length:
            header = os.pread(self._fd, BLOCK, at)
            if len(header) < BLOCK:
                break
            if not header.rstrip(b"\0"):
                # The end is two empty blocks; GNU tar and Go take one for it too.
                return
            if not checksum_ok(header):
                what = "is no tar archive" if at == 0 else f"the header at byte {at} is damaged"
                raise InvalidArgument("archive", self._name, detail=what)
            kind = header[156:157]
            size = _number(header[124:136], self._name)
            data_at = at + BLOCK
            if kind in b"xgLK":
                if size > MAX_EXTENSION_BYTES:
                    raise ResourceExhausted("archive header", self._name, detail=f"{size} bytes at byte {at}")
                data = os.pread(self._fd, size, data_at)
                if len(data) < size:
                    break
                if kind == b"x":
                    pax = _pax_records(data, self._name)
                elif kind == b"g":
                    everywhere.update(_pax_records(data, self._name))
                elif kind == b"L":
                    long_name = data.rstrip(b"\0")
                else:
                    long_link = data.rstrip(b"\0")
                at = data_at + _padded(size)
                continue
            records = {**everywhere, **pax}
            if "size" in records:
                text = records["size"]
                if not text.isdigit() or len(text) > 19:
                    raise InvalidArgument("archive", self._name, detail=f"PAX size {text[:40]!r}")
                size = int(text)
            if kind in b"123456":
                size = 0  # links, devices, directories, FIFOs carry no data whatever they say
            name = _text(records.get("path") or long_name or _ustar_name(header), self._name)
            link = _text(records.get("linkpath") or long_link or _cut(header[157:257]), self._name)
            pax, long_name, long_link = {}, None, None
            if kind in (b"0", b"\0", b"7") and not name.endswith("/"):
                if data_at + size > length:
                    break
                self._put(name, (data_at, size))
            elif kind == b"1":
                self._links[clean(name)] = clean(link)
            elif kind == b"2":
                self._links[clean(name)] = clean(posixpath.join(posixpath.dirname(clean(name)), link))
            elif kind == b"S":
                raise InvalidArgument("archive member", name, detail="GNU sparse files are not read", where=self._name)
            if len(self._files) + len(self._links) > MAX_ENTRIES:
                raise ResourceExhausted("archive", self._name, detail=f"more than {MAX_ENTRIES} entries")
            at = data_at + _padded(size)
        if length == 0:
            raise InvalidArgument("archive", self._name, detail="is empty")
        if at < length or pax or long_name:
            raise DataLoss("archive", self._name, detail=f"ends within an entry, at byte {length}")
        # Without its two empty blocks it is what `cat a b` or a lazy writer makes; nothing is lost.

    def _put(self, name: str, place: tuple[int, int]) -> None:
        # The last of two entries with one name wins, as it would when they are extracted.
        name = clean(name)
        self._files[name] = place
        self._links.pop(name, None)


class TarWriter:
    """Writes a tar archive to a file descriptor: plain files, the same bytes for the same content."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """One file. Raises DataLoss when `chunks` are not `size` bytes, OSError as write(2) does."""
        write_all(self._fd, _header(name, size, b"0"))
        written = 0
        for chunk in chunks:
            written += len(chunk)
            if written > size:
                break
            write_all(self._fd, chunk)
        if written != size:
            raise DataLoss("archive member", name, detail=f"{written} bytes came, {size} were announced")
        write_all(self._fd, bytes(_padded(size) - size))

    def add_bytes(self, name: str, data: bytes) -> None:
        self.add(name, len(data), (data,))

    def add_directory(self, name: str) -> None:
        write_all(self._fd, _header(name.rstrip("/") + "/", 0, b"5"))

    def finish(self) -> None:
        write_all(self._fd, bytes(2 * BLOCK))


def clean(name: str) -> str:
    """A member's name as a key: without "./", "..", doubled or leading slashes."""
    return posixpath.normpath("/" + name).lstrip("/")


def checksum_ok(header: bytes) -> bool:
    """Whether 512 bytes are a tar header: the sum of its bytes, the checksum field taken as blanks."""
    stored = header[148:156].strip(b" \0")
    if not stored or not stored.isdigit() or len(stored) > 7:
        return False
    try:
        wanted = int(stored, 8)
    except ValueError:
        return False
    unsigned = sum(header) - sum(header[148:156]) + 8 * 0x20
    if unsigned == wanted:
        return True
    # Some old writers summed signed bytes.
    return unsigned - 256 * sum(b >= 128 for b in header[:148] + header[156:]) == wanted


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _header(name: str, size: int, kind: bytes) -> bytes:
    raw = name.encode()
    if len(raw) > 100:
        raise InvalidArgument("archive member", name, detail="longer than 100 bytes")
    mode = b"0000755" if kind == b"5" else b"0000644"
    # Twelve octal digits hold 8 GiB; above, GNU's and POSIX' readers both take base 256.
    digits = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    header = bytearray(BLOCK)
    header[0 : len(raw)] = raw
    header[100:124] = mode + b"\0" + b"0000000\0" + b"0000000\0"
    header[124:136] = digits
    header[136:148] = b"00000000000\0"
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _cut(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _ustar_name(header: bytes) -> bytes:
    name = _cut(header[0:100])
    # The prefix field is POSIX'; GNU's magic ("ustar  ") has other things there.
    prefix = _cut(header[345:500]) if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _text(raw: bytes, archive: str) -> str:
    if len(raw) > MAX_NAME_BYTES:
        raise ResourceExhausted("archive member", raw[:40], detail=f"a name of {len(raw)} bytes", where=archive)
    return raw.decode("utf-8", "surrogateescape")


def _number(field: bytes, archive: str) -> int:
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise InvalidArgument("archive", archive, detail="a negative or absurd size")
        value = int.from_bytes(field[1:], "big")
        if value >= 1 << 62:
            raise InvalidArgument("archive", archive, detail="an absurd size")
        return value
    digits = field.strip(b" \0")
    if not all(b in b"01234567" for b in digits):
        raise InvalidArgument("archive", archive, detail=f"size {field!r}")
    return int(digits, 8) if digits else 0


def _pax_records(data: bytes, archive: str) -> dict[str, bytes]:
    # pax(1), "Extended Header": "%d %s=%s\n", the number being the record's whole length.
    records: dict[str, bytes] = {}
    at = 0
    while at < len(data) and data[at : at + 1] != b"\0":
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        end = at + int(digits) if digits.isdigit() else -1
        equals = data.find(b"=", space, end) if end > 0 else -1
        if end > len(data) or equals < 0 or data[end - 1 : end] != b"\n":
            raise InvalidArgument("archive", archive, detail="a damaged PAX header")
        records[data[space + 1 : equals].decode("utf-8", "surrogateescape")] = data[equals + 1 : end - 1]
        at = end
    return records
