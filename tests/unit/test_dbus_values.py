"""D-Bus values and messages: the bytes, and that no bytes from outside do harm. GVariant's text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import DataLoss, InvalidArgument, MasuError, ResourceExhausted
from masu.linux import dbus, gvariant
from masu.linux.dbus_values import Reader, Variant, Writer, marshal, split

# (signature, values, bytes), by hand from the specification's rules.
KNOWN: list[tuple[str, tuple[Any, ...], bytes]] = [
    ("y", (7,), b"\x07"),
    ("yu", (1, 2), b"\x01\0\0\0\x02\0\0\0"),
    ("b", (True,), b"\x01\0\0\0"),
    ("n", (-2,), b"\xfe\xff"),
    ("t", (1 << 40,), b"\0\0\0\0\0\x01\0\0"),
    ("s", ("foo",), b"\x03\0\0\0foo\0"),
    ("g", ("a{sv}",), b"\x05a{sv}\0"),
    ("ay", (b"abc",), b"\x03\0\0\0abc"),
    ("as", (["a", "b"],), b"\x0e\0\0\0" + b"\x01\0\0\0a\0\0\0" + b"\x01\0\0\0b\0"),
    # The padding to the first element is there and not counted, also without elements.
    ("at", ([],), b"\0\0\0\0\0\0\0\0"),
    ("at", ([5],), b"\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0"),
    ("y(yy)", (1, (2, 3)), b"\x01\0\0\0\0\0\0\0\x02\x03"),
    ("v", (Variant("u", 9),), b"\x01u\0\0\x09\0\0\0"),
    ("a{sy}", ({"k": 1},), b"\x07\0\0\0\0\0\0\0\x01\0\0\0k\0\x01"),
    ("a(ss)", ([("a", "b")],), b"\x0e\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\x01\0\0\0b\0"),
]


@pytest.mark.parametrize(("signature", "values", "wire"), KNOWN)
def test_known_bytes(signature: str, values: tuple[Any, ...], wire: bytes) -> None:
    assert marshal(signature, values) == wire
    reader = Reader(wire)
    assert reader.read(signature) == values
    assert reader.position == len(wire)


def test_big_endian_is_read() -> None:
    assert Reader(b"\0\0\0\x02\0\0\0\x01a\0", little=False).read("us") == (2, "a")


@pytest.mark.parametrize(
    "signature", ["z", "a", "(", "()", "(i", "a{vs}", "a{s}", "a{ssi}", "{ss}", "a" * 40 + "i", "i" * 256, ")"]
)
def test_signatures_that_are_none(signature: str) -> None:
    with pytest.raises(InvalidArgument):
        split(signature)
    with pytest.raises(DataLoss):
        Reader(bytes(64)).read(signature)


@pytest.mark.parametrize(
    ("signature", "value"),
    [("y", 256), ("u", -1), ("i", "1"), ("s", 1), ("s", "a\0b"), ("s", "\ud800"), ("as", "ab"), ("ay", [1]),
     ("(ii)", [1, 2]), ("(ii)", (1,)), ("v", 5), ("v", Variant("ii", 5)), ("a{ss}", [("a", "b")]), ("g", "z")],
)  # fmt: skip
def test_values_of_another_type(signature: str, value: object) -> None:
    with pytest.raises(InvalidArgument):
        marshal(signature, (value,))


@pytest.mark.parametrize(
    ("signature", "wire", "why"),
    [
        ("b", b"\x02\0\0\0", "boolean"),
        ("s", b"\x03\0\0\0ab\0\0", "NUL"),
        ("s", b"\x03\0\0\0abcd", "NUL"),
        ("s", b"\x01\0\0\0\xff\0", "utf-8"),
        ("s", b"\xff\xff\xff\xffabc", "left"),
        ("as", b"\x06\0\0\0\x03\0\0\0abc\0", "over the end"),
        ("at", b"\x08\0\0\0\0\x01\0\0\x05\0\0\0\0\0\0\0", "padding"),
        ("v", b"\x02ii\0\0\0\0\0\0\0\0\0", "variant"),
        ("v", b"\x01v\0" * 40, "deeper"),
    ],
)
def test_bytes_that_are_none(signature: str, wire: bytes, why: str) -> None:
    with pytest.raises(DataLoss, match=why):
        Reader(wire).read(signature)


def message(signature: str = "s", values: tuple[object, ...] = ("hello",)) -> bytes:
    body = marshal(signature, values)
    fields = [(1, Variant("o", "/a")), (3, Variant("s", "M")), (5, Variant("u", 1)), (8, Variant("g", signature))]
    header = Writer()
    header.write("yyyyuua(yv)", (ord("l"), dbus.RETURN, 0, 1, len(body), 7, fields))
    header.pad(8)
    return bytes(header.data) + body


def test_a_message() -> None:
    data = message("sa{sv}", ("x", {"k": Variant("b", True)}))
    assert dbus.message_size(data[:15]) is None
    assert dbus.message_size(data) == len(data)
    parsed = dbus.parse(data)
    assert (parsed.kind, parsed.member, parsed.sender) == (dbus.RETURN, "M", None)
    assert parsed.body == ("x", {"k": Variant("b", True)})


def test_messages_are_bounded() -> None:
    with pytest.raises(ResourceExhausted):
        dbus.message_size(b"l\x02\0\x01" + b"\xff\xff\xff\x07" + bytes(8))
    with pytest.raises(DataLoss):
        dbus.message_size(b"HTTP/1.1 400 Bad")


@given(st.data())
def test_no_message_does_harm(data: st.DataObject) -> None:
    wire = bytearray(message("a{sv}(us)", ({"k": Variant("as", ["a"])}, (1, "b"))))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    wire = wire[: data.draw(st.integers(16, len(wire)))]
    try:
        size = dbus.message_size(wire)
        assert size is not None
        dbus.parse(bytes(wire[:size]))
    except MasuError:
        pass


BASIC = st.one_of(
    st.tuples(st.just("t"), st.integers(0, (1 << 64) - 1)),
    st.tuples(st.just("i"), st.integers(-(1 << 31), (1 << 31) - 1)),
    st.tuples(st.just("b"), st.booleans()),
    st.tuples(st.just("s"), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)),
    st.tuples(st.just("ay"), st.binary(max_size=9)),
)
TYPED = st.recursive(
    BASIC,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(
            lambda items: ("(" + "".join(kind for kind, _ in items) + ")", tuple(value for _, value in items))
        ),
        inner.map(lambda item: ("v", Variant(*item))),
        inner.filter(lambda item: item[0] != "y").map(lambda item: ("a" + item[0], [item[1]] * 2)),
        inner.map(lambda item: ("a{s" + item[0] + "}", {"key": item[1]})),
    ),
    max_leaves=5,
)


@given(TYPED)
def test_there_and_back(typed: tuple[str, object]) -> None:
    signature, value = typed
    wire = marshal("y" + signature, (0, value))
    assert Reader(wire).read("y" + signature) == (0, value)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("unix:path=/run/dbus/system_bus_socket", b"/run/dbus/system_bus_socket"),
        ("unix:path=/tmp/a%20b%2c,guid=00ff", b"/tmp/a b,"),
        ("unix:abstract=/tmp/x", b"\0/tmp/x"),
        ("tcp:host=localhost,port=1", None),
        ("unix:tmpdir=/tmp", None),
    ],
)
def test_addresses(address: str, name: bytes | None) -> None:
    assert dbus.socket_name(address) == name


def test_escaped_addresses() -> None:
    path = "/run/user/1000 ü,;=%"
    assert dbus.socket_name(f"unix:path={dbus.escaped(path)}") == path.encode()
    with pytest.raises(InvalidArgument, match="hexadecimal"):
        dbus.socket_name("unix:path=/a%zz")
    with pytest.raises(InvalidArgument, match="only unix"):
        dbus.Connection("tcp:host=localhost", bus=False)


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("uint64 123456789", "t", 123456789),
        ("'inactive-or-failed'", "s", "inactive-or-failed"),
        ('"say \\"\\u00e9\\" \\101"', "s", 'say "é" A'),
        ("true", "b", True),
        ("-5", "i", -5),
        ("0x10", "i", 16),
        ("010", "i", 8),
        ("1.5e3", "d", 1500.0),
        ("double 3", "d", 3.0),
        ("[1, 2.5]", "ad", [1.0, 2.5]),
        ("[uint64 1, 2]", "at", [1, 2]),
        ("@as []", "as", []),
        ("@a(ss) [('/dev/null', 'rw')]", "a(ss)", [("/dev/null", "rw")]),
        ("(1, 'a')", "(is)", (1, "a")),
        ("(1,)", "(i)", (1,)),
        ("{'a': <uint32 1>}", "a{sv}", {"a": Variant("u", 1)}),
        ("b'abc'", "ay", b"abc\0"),
        ("@ay [1, 0x02]", "ay", b"\x01\x02"),
        ("objectpath '/a/b'", "o", "/a/b"),
        ("  int16\t7 ", "n", 7),
    ],
)
def test_gvariant_text(text: str, signature: str, value: object) -> None:
    assert gvariant.parse(text) == Variant(signature, value)
    marshal("v", (gvariant.parse(text),))


@pytest.mark.parametrize(
    "text",
    ["", " ", "hello", "1 2", "12345678901", "uint64 -1", "byte 256", "09", "--1", "1_0", "'a", "[1", "[1,'a']", "[]",
     "{}", "()", "@as [1]", "@ii 1", "@mi 5", "nothing", "objectpath 'a'", "signature 'z'", "'\\u12'", "'\\U00110000'",
     "'\\ud800'", "string 5", "boolean 1", "{<1>: 2}", "b'\\u1234'", "[" * 100, "uint64 " * 100 + "1", "'a\\000b'"],
)  # fmt: skip
def test_gvariant_text_that_is_none(text: str) -> None:
    with pytest.raises(InvalidArgument):
        gvariant.parse(text)


@given(st.text("ab<>[](){}'\"\\@iutsdv0x1.,: -e", max_size=30))
def test_no_text_does_harm(text: str) -> None:
    try:
        marshal("v", (gvariant.parse(text),))
    except InvalidArgument:
        pass
