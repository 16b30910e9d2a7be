"""A client of D-Bus as far as a container runtime needs one: method calls, and the signals it waits for.

    connect ── NUL, AUTH EXTERNAL, DATA, BEGIN ──► OK     one round trip; the kernel says who we are (SO_PEERCRED)
    send(..)  ─────────────────────────────────►         calls may be sent one after another
    reply(n)  ◄─────────────────────────────────          signals that come between are kept for `wait_signal`

Own code and no library: those that are kept well (jeepney, dbus-fast) import struct, enum, dataclasses, asyncio, and
cost a cold start of some milliseconds more than the conversation itself; what is needed of the protocol fits into
these two files. D-Bus Specification 0.42.
"""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, MSG_NOSIGNAL, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from _struct import pack

from masu.errors import DataLoss, FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from masu.linux.dbus_values import Reader, Variant, Writer, marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
# Header fields by number ("Header Fields").
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)
_FIELD_TYPES = {
    _PATH: "o", _INTERFACE: "s", _MEMBER: "s", _ERROR_NAME: "s", _REPLY_SERIAL: "u", _DESTINATION: "s", _SENDER: "s",
    _SIGNATURE: "g",
}  # fmt: skip

# Far more than systemd ever says to us; the protocol itself allows 128 MiB.
MESSAGE_MAX = 1 << 20
SIGNALS_MAX = 1000
AUTH_LINE_MAX = 16384
CALL_TIMEOUT_S = 25.0  # as libdbus and sd-bus have it


class CallError(FailedPrecondition):
    """A call that was answered by an error: `name` is D-Bus' name for it, `detail` what the other side says."""

    def __init__(self, member: str, name: str, detail: str) -> None:
        super().__init__(member, detail=f"{detail} ({name})" if detail else name)
        self.name = name


class Message:
    """A message that has arrived; `fields` are the header's, by number."""

    __slots__ = ("body", "fields", "kind")

    def __init__(self, kind: int, fields: dict[int, object], body: tuple[object, ...]) -> None:
        self.kind = kind
        self.fields = fields
        self.body = body

    @property
    def member(self) -> object:
        return self.fields.get(_MEMBER)

    @property
    def sender(self) -> object:
        """The bus's own word for who sent it; None where there is no bus between us."""
        return self.fields.get(_SENDER)


class Connection:
    """A connection, authenticated; the owner closes it. With `bus` it goes through a message bus and has said hello.

    Every method raises Unavailable (the other side hung up, or did not answer in time) and DataLoss (what it says
    is no D-Bus).
    """

    __slots__ = ("_buffer", "_replies", "_serial", "_signals", "_socket", "_timeout_s", "name")

    def __init__(self, address: str, *, bus: bool, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Raises Unavailable with the errno when nobody listens, InvalidArgument for an address that is none."""
        self.name = address
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        self._serial = 0
        self._replies: dict[int, Message] = {}
        self._signals: list[Message] = []
        self._socket = _connected(address, timeout_s)
        try:
            self._authenticate()
            if bus:
                # Whatever is sent after it is handled after it: there is no need to wait.
                self.send(BUS, BUS_PATH, BUS, "Hello")
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: object
    ) -> tuple[object, ...]:
        """Calls and waits for the answer, whose values are returned. Raises CallError."""
        return self.reply(self.send(destination, path, interface, member, signature, *values), member).body

    def send(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: object
    ) -> int:
        """Sends a call; its serial number is what `reply` wants. Raises InvalidArgument for values of a wrong type."""
        self._serial += 1
        body = marshal(signature, values)
        fields: list[object] = [
            (_PATH, Variant("o", path)),
            (_INTERFACE, Variant("s", interface)),
            (_MEMBER, Variant("s", member)),
            (_DESTINATION, Variant("s", destination)),
        ]
        if signature:
            fields.append((_SIGNATURE, Variant("g", signature)))
        header = Writer()
        header.write("yyyyuua(yv)", (ord("l"), CALL, 0, 1, len(body), self._serial, fields))
        header.pad(8)
        self._send(bytes(header.data) + body)
        return self._serial

    def reply(self, serial: int, what: str = "call") -> Message:
        """The answer to the call of that serial number. Raises CallError."""
        end = time.monotonic() + self._timeout_s
        while serial not in self._replies:
            self._receive(end, f"{what}: no answer in {self._timeout_s:g} s")
        message = self._replies.pop(serial)
        if message.kind == ERROR:
            text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
            raise CallError(what, str(message.fields.get(_ERROR_NAME, "")), text)
        return message

    def wait_signal(self, wanted: Callable[[Message], bool], timeout_s: float, what: str) -> Message:
        """The next signal that is wanted; others are dropped. Those that came before the call count, too."""
        end = time.monotonic() + timeout_s
        while True:
            while self._signals:
                message = self._signals.pop(0)
                if wanted(message):
                    return message
            self._receive(end, f"{what}: no word of it in {timeout_s:g} s")

    # --- the wire -------------------------------------------------------------------------------------------------

    def _authenticate(self) -> None:
        # EXTERNAL with an empty answer: the uid is the one that the socket has, whatever user namespace we see it from.
        self._send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        end = time.monotonic() + self._timeout_s
        while True:
            line, found, rest = bytes(self._buffer).partition(b"\r\n")
            if not found:
                if len(line) > AUTH_LINE_MAX:
                    raise DataLoss("D-Bus", self.name, detail="no end of line while authenticating")
                self._fill(end, "authentication: no answer")
                continue
            self._buffer[:] = rest
            word = line.split(b" ")[0]
            if word == b"OK":
                return
            if word != b"DATA":
                said = line.decode("ascii", "replace")
                hint = "the bus refuses this user" if word == b"REJECTED" else ""
                raise Unavailable("D-Bus", self.name, detail=f"authentication: {said}", hint=hint)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            self._socket.settimeout(self._timeout_s)
            while view:
                view = view[self._socket.send(view, MSG_NOSIGNAL) :]
        except OSError as e:
            raise Unavailable("D-Bus", self.name, e.errno or 0, syscall="send") from e

    def _fill(self, end: float, late: str) -> None:
        """More bytes into the buffer."""
        left_s = end - time.monotonic()
        try:
            # 0 would mean not to wait at all and another errno.
            self._socket.settimeout(max(left_s, 0.001))
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise Unavailable("D-Bus", self.name, detail=late) from None
        except OSError as e:
            raise Unavailable("D-Bus", self.name, e.errno or 0, syscall="recv") from e
        if not data:
            raise Unavailable("D-Bus", self.name, detail="the other side hung up", hint=_HUNG_UP)
        self._buffer += data

    def _receive(self, end: float, late: str) -> None:
        """One message, put where it is looked for."""
        while (size := message_size(self._buffer)) is None or len(self._buffer) < size:
            self._fill(end, late)
        message = parse(bytes(self._buffer[:size]))
        del self._buffer[:size]
        if message.kind in (RETURN, ERROR):
            serial = message.fields.get(_REPLY_SERIAL)
            # Only what was asked for is kept: answers to calls of ours that nobody waits for (hello) are few.
            if isinstance(serial, int) and 0 < serial <= self._serial:
                self._replies[serial] = message
        elif message.kind == SIGNAL:
            if len(self._signals) >= SIGNALS_MAX:
                raise ResourceExhausted("D-Bus", self.name, detail=f"more than {SIGNALS_MAX} signals at once")
            self._signals.append(message)


_HUNG_UP = "a user's own bus takes that user alone: is $XDG_RUNTIME_DIR or $DBUS_SESSION_BUS_ADDRESS somebody else's?"


def message_size(data: bytes | bytearray) -> int | None:
    """How long the message is that begins here; None while its fixed part is not all there. Raises DataLoss."""
    if len(data) < 16:
        return None
    order, kind, _, version = data[:4]
    if order not in b"lB" or version != 1 or kind == 0:
        raise DataLoss("D-Bus message", detail=f"begins with {bytes(data[:4])!r}")
    name = "little" if order == ord("l") else "big"
    body = int.from_bytes(data[4:8], name)  # type: ignore[arg-type]
    fields = int.from_bytes(data[12:16], name)  # type: ignore[arg-type]
    size = 16 + fields + -fields % 8 + body
    if size > MESSAGE_MAX:
        raise ResourceExhausted("D-Bus message", detail=f"{size} bytes, allowed are {MESSAGE_MAX}")
    return size


def parse(data: bytes) -> Message:
    """A whole message. Raises DataLoss."""
    reader = Reader(data, little=data[:1] == b"l")
    _, kind, _, _, size, _, listed = reader.read("yyyyuua(yv)")
    reader.align(8)
    fields: dict[int, object] = {}
    assert isinstance(listed, list)
    for number, variant in listed:
        # Unknown ones are to be ignored.
        if number in _FIELD_TYPES:
            if variant.signature != _FIELD_TYPES[number]:
                raise DataLoss("D-Bus message", detail=f"header field {number} of type {variant.signature!r}")
            fields[number] = variant.value
    # The header is padded to 8 bytes, so the body's own alignment is that of the message.
    body = reader.read(str(fields.get(_SIGNATURE, "")))
    assert isinstance(kind, int)
    if reader.position != len(data) or len(data) < 16 + (size if isinstance(size, int) else 0):
        raise DataLoss("D-Bus message", detail="its body is not as long as its signature says")
    return Message(kind, fields, body)


def _connected(addresses: str, timeout_s: float) -> socket:
    """A stream to the first of a list of addresses that answers ("Server Addresses")."""
    failed: OSError | None = None
    tried = False
    for address in addresses.split(";"):
        name = socket_name(address)
        if name is None:
            continue
        tried = True
        connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            # connect(2) waits while the backlog is full, and only this bounds it (EAGAIN).
            connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, pack("@ll", int(timeout_s), 0))
            connection.connect(name)
            return connection
        except OSError as e:
            connection.close()
            failed = e
    if not tried:
        raise InvalidArgument("D-Bus address", addresses, detail="only unix:path=... and unix:abstract=... can be used")
    number = failed.errno or 0 if failed else 0
    raise Unavailable("D-Bus", addresses, number, syscall="connect") from failed


def socket_name(address: str) -> str | bytes | None:
    """The name of the socket in one address, None for other transports. Raises InvalidArgument."""
    transport, _, rest = address.strip().partition(":")
    if transport != "unix":
        return None
    values = dict(pair.partition("=")[::2] for pair in rest.split(","))
    if "path" in values:
        return _unescaped(values["path"])
    if "abstract" in values:
        return b"\0" + _unescaped(values["abstract"])
    return None


def _unescaped(text: str) -> bytes:
    parts = text.split("%")
    try:
        return os.fsencode(parts[0]) + b"".join(bytes.fromhex(p[:2]) + os.fsencode(p[2:]) for p in parts[1:])
    except ValueError as e:
        raise InvalidArgument("D-Bus address", text, detail="% is followed by two hexadecimal digits") from e


def escaped(path: str) -> str:
    """A path as a value in an address."""
    plain = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz/.\\*"
    return "".join(chr(byte) if byte in plain else f"%{byte:02x}" for byte in os.fsencode(path))
