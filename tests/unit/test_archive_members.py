"""Tar archives as an index, compressions as streams, and Dockerfile instructions."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from registryfixture import random_bytes

from masu.engine import changes, tarindex
from masu.engine.decompress import decompressed, kind_of
from masu.engine.tarindex import TarIndex, TarWriter
from masu.errors import DataLoss, InvalidArgument, MasuError, NotFound, ResourceExhausted


def index_of(tmp_path: Path, data: bytes) -> TarIndex:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    _opened.append(fd)
    return TarIndex(fd, str(path))


_opened: list[int] = []


@pytest.fixture(autouse=True)
def closed_again() -> Iterator[None]:
    yield
    while _opened:
        os.close(_opened.pop())


def make(format: int, entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats(tmp_path: Path, format: int) -> None:
    long = "d/" * 40 + "long" if format == tarfile.USTAR_FORMAT else "x" * 300 + "é"
    data = make(
        format, [entry("./a", b"1"), entry(long, b"22"), entry("dir", type=tarfile.DIRTYPE), entry("b", b"3" * 600)]
    )
    index = index_of(tmp_path, data)
    assert index.read("a", 10) == b"1"
    assert index.read(long, 10) == b"22"
    assert index.read("b", 1000) == b"3" * 600
    assert index.find("dir") is None
    with pytest.raises(NotFound):
        index.read("c", 10)
    with pytest.raises(ResourceExhausted):
        index.read("b", 599)


def test_links(tmp_path: Path) -> None:
    data = make(
        tarfile.PAX_FORMAT,
        [
            entry("x/layer.tar", b"layer"),
            entry("y/layer.tar", type=tarfile.SYMTYPE, linkname="../x/layer.tar"),
            entry("z/layer.tar", type=tarfile.LNKTYPE, linkname="y/layer.tar"),
            entry("out", type=tarfile.SYMTYPE, linkname="../../../../etc/passwd"),
            entry("loop", type=tarfile.SYMTYPE, linkname="loop"),
        ],
    )
    index = index_of(tmp_path, data)
    assert index.read("y/layer.tar", 10) == index.read("z/layer.tar", 10) == b"layer"
    assert index.find("out") is None
    assert index.find("/etc/passwd") is None
    with pytest.raises(InvalidArgument, match="too many links"):
        index.find("loop")


def test_names_do_not_escape(tmp_path: Path) -> None:
    index = index_of(
        tmp_path, make(tarfile.PAX_FORMAT, [entry("../../a", b"1"), entry("/b", b"2"), entry("c/../d", b"3")])
    )
    assert sorted(index.names()) == ["a", "b", "d"]


def test_the_last_of_two_wins(tmp_path: Path) -> None:
    index = index_of(tmp_path, make(tarfile.PAX_FORMAT, [entry("a", b"old"), entry("a", b"new")]))
    assert index.read("a", 10) == b"new"


@pytest.mark.parametrize("cut", [100, 512, 700, 1030])
def test_a_cut_archive(tmp_path: Path, cut: int) -> None:
    data = make(tarfile.PAX_FORMAT, [entry("a", b"1" * 600), entry("b", b"2")])
    if cut == 512:
        with pytest.raises(DataLoss):
            index_of(tmp_path, data[:cut])
        return
    with pytest.raises((DataLoss, InvalidArgument)):
        index_of(tmp_path, data[:cut])


@pytest.mark.parametrize("data", [b"", b"x" * 2000, b"\x7fELF" + bytes(1000)])
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises((InvalidArgument, DataLoss)):
        index_of(tmp_path, data)


def _with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_absurd_sizes(tmp_path: Path) -> None:
    header = bytearray(tarindex._header("a", 0, b"0"))
    for field in (b"\x80" + b"\xff" * 11, b"\xff" * 12, b"99999999999\0"):
        header[124:136] = field
        with pytest.raises((InvalidArgument, DataLoss)):
            index_of(tmp_path, _with_checksum(header) + bytes(1024))
    header[124:136] = b"00000001000\0"
    for kind in (b"x", b"L"):
        header[156:157] = kind
        header[124:136] = b"%011o\0" % (tarindex.MAX_EXTENSION_BYTES + 1)
        with pytest.raises(ResourceExhausted):
            index_of(tmp_path, _with_checksum(header) + bytes(1024))


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarindex, "MAX_ENTRIES", 10)
    with pytest.raises(ResourceExhausted):
        index_of(tmp_path, make(tarfile.USTAR_FORMAT, [entry(f"f{i}") for i in range(11)]))


@pytest.mark.parametrize("record", [b"9999999999 path=x\n", b"5 path", b"-1 path=x\n", b"12 path=abc", b"x"])
def test_damaged_pax_headers(tmp_path: Path, record: bytes) -> None:
    header = bytearray(tarindex._header("a", len(record), b"x"))
    with pytest.raises(InvalidArgument, match="PAX"):
        index_of(tmp_path, _with_checksum(header) + record.ljust(512, b"\0") + bytes(1024))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2048), st.integers(0, 511))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    good = make(tarfile.PAX_FORMAT, [entry("a" * 120, b"1" * 600)])
    data = bytearray(good)
    data[at : at + len(noise)] = noise
    try:
        index_of(tmp_path_factory.getbasetemp(), bytes(data))
    except MasuError:
        pass


def test_the_writer_is_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "w.tar"
    with open(path, "wb") as file:
        tar = TarWriter(file.fileno())
        tar.add_directory("blobs/")
        tar.add_bytes("blobs/a", b"x" * 513)
        tar.add("b", 3, iter([b"1", b"23"]))
        with pytest.raises(DataLoss):
            tar.add("c", 3, [b"12"])
    with open(path, "r+b") as file:
        file.truncate(512 * 6)  # before the entry that failed
    with tarfile.open(path) as read:
        assert [(m.name, m.size, m.isdir()) for m in read] == [
            ("blobs", 0, True),
            ("blobs/a", 513, False),
            ("b", 3, False),
        ]


def test_headers_of_huge_files() -> None:
    for size in ((8 << 30) - 1, 8 << 30, 1 << 40):
        assert tarfile.TarInfo.frombuf(tarindex._header("a", size, b"0"), "utf-8", "strict").size == size


PACKERS = {
    "gzip": lambda d: gzip.compress(d, 1),
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_compressions(kind: str) -> None:
    data = random_bytes(200_000) + bytes(500_000)
    packed = PACKERS[kind](data)
    assert kind_of(packed[:8]) == kind
    # Two members one after the other, in pieces that fit nothing.
    both = packed + packed
    pieces = [both[i : i + 7001] for i in range(0, len(both), 7001)]
    assert b"".join(decompressed(pieces, kind, "x")) == data + data
    for end in (10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(DataLoss, match=kind):
            list(decompressed([packed[:end]], kind, "x"))


def test_damaged_compression() -> None:
    packed = bytearray(gzip.compress(random_bytes(100_000)))
    packed[50_000] ^= 1
    with pytest.raises(DataLoss, match="gzip"):
        list(decompressed([bytes(packed)], "gzip", "x"))


def test_a_bomb_comes_in_bounded_pieces() -> None:
    # 4 KiB of run-length blocks of 128 KiB each, in a frame of 8 MiB window.
    block = struct.pack("<I", (131072 << 3) | (1 << 1))[:3] + b"\0"
    frame = b"\x28\xb5\x2f\xfd\x00\x68" + block * 3000
    pieces = decompressed([frame], "zstd", "x")
    assert len(next(pieces)) <= 128 << 20
    pieces.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["CMD echo hi"], {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        (['cmd ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
        (['ENTRYPOINT ["/e"]', "CMD x"], {"Entrypoint": ["/e"], "Cmd": ["/bin/sh", "-c", "x"]}),
        (["CMD x", 'ENTRYPOINT ["/e"]'], {"Entrypoint": ["/e"], "Cmd": ["/bin/sh", "-c", "x"]}),
        (['ENV A=1 B="two words" C=d\\ e', "ENV A=3"], {"Env": ["A=3", "B=two words", "C=d e"]}),
        (["ENV OLD the old form"], {"Env": ["OLD=the old form"]}),
        (["LABEL a.b=c 'd e'=f"], {"Labels": {"a.b": "c", "d e": "f"}}),
        (["EXPOSE 80 53/UDP 1000-1002"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "1000-1002/tcp": {}}}),
        (['VOLUME ["/a", "/b"]', "VOLUME /c"], {"Volumes": {"/a": {}, "/b": {}, "/c": {}}}),
        (["WORKDIR /a", "WORKDIR b/../c"], {"WorkingDir": "/a/c"}),
        (["USER 1000:1000"], {"User": "1000:1000"}),
        (["STOPSIGNAL SIGQUIT"], {"StopSignal": "SIGQUIT"}),
        (["ONBUILD RUN x"], {"OnBuild": ["RUN x"]}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (
            ["HEALTHCHECK --interval=1m30s --retries=3 CMD curl x"],
            {"Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 90_000_000_000, "Retries": 3}},
        ),
    ],
)
def test_instructions(lines: list[str], expected: dict[str, Any]) -> None:
    assert changes.apply({}, lines) == expected


def test_an_entrypoint_takes_the_inherited_command_away() -> None:
    assert changes.apply({"Cmd": ["x"], "Env": ["A=1"]}, ['ENTRYPOINT ["/e"]']) == {
        "Entrypoint": ["/e"],
        "Env": ["A=1"],
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN x", "allowed are"),
        ("CMDD x", 'did you mean "CMD"'),
        ("CMD", "needs an argument"),
        ("ENV a", "key=value"),
        ("ENV a=1 b", "key=value"),
        ('LABEL a="x', "no closing"),
        ("EXPOSE 99999", "port"),
        ("EXPOSE 80/http", "port"),
        ("USER a b", "one word"),
        ("HEALTHCHECK --intervall=1s CMD x", 'did you mean "--interval"'),
        ("HEALTHCHECK --interval=fast CMD x", "duration"),
        ("HEALTHCHECK curl x", "NONE, or CMD"),
    ],
)
def test_instructions_that_are_none(line: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        changes.apply({}, ["USER x", line])
    assert said in str(caught.value)
    assert "--change[1]" in str(caught.value)
