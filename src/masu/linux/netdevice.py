"""Network devices of the host that move into a container (config-linux.md, "Network Devices"; rtnetlink(7)).

Moving a device clears its addresses and takes it down, so both are put back in the new namespace: addresses that
somebody configured (permanent, of global scope), then "up". A failure moves the device back, addresses included.

One netlink socket here and one in the container's namespace, opened there by this thread in a moment of setns(2): a
socket belongs for ever to the namespace it was made in.
"""

from __future__ import annotations

import errno
import os
from _socket import socket
from _struct import pack, unpack_from

from masu.errors import AlreadyExists, InvalidArgument, KernelError, NotFound
from masu.linux import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class NetDevice(Protocol):
        """The spec's LinuxNetDevice: `name` is the name inside, None or "" keeps it."""

        @property
        def name(self) -> str | None: ...


_AF_NETLINK = 16
_SOCK_RAW_CLOEXEC = 3 | os.O_CLOEXEC
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SOL_SOCKET = 1
_SO_RCVTIMEO = 20

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_EXCL = 0x200
_NLM_F_DUMP = 0x300
_NLM_F_CREATE = 0x400
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF

_RTM_NEWLINK = 16
_RTM_GETLINK = 18
_RTM_NEWADDR = 20
_RTM_GETADDR = 22

_IFLA_IFNAME = 3
_IFLA_NET_NS_FD = 28
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_BROADCAST = 4
_IFA_FLAGS = 8
_IFA_RT_PRIORITY = 9
_IFA_F_PERMANENT = 0x80
# NODAD, MANAGETEMPADDR, NOPREFIXROUTE: what a user gives with an address, not what the kernel notes about it.
_IFA_F_KEPT = 0x02 | 0x100 | 0x200
_RT_SCOPE_UNIVERSE = 0

_MAX_NAME = 15
_REPLY_BYTES = 1 << 17
_MAX_REPLIES = 4096
# The kernel answers a request before sendmsg(2) returns; this is against hanging where it should be impossible.
_TIMEOUT_S = 10


class Link:
    """A device: its index and name in its namespace, its IFF_* flags."""

    __slots__ = ("flags", "index", "name")

    def __init__(self, index: int, name: str, flags: int) -> None:
        self.index = index
        self.name = name
        self.flags = flags


class Address:
    """An address as the kernel gave it: family, prefix length, and the attributes to give back."""

    __slots__ = ("attributes", "family", "prefix")

    def __init__(self, family: int, prefix: int, attributes: dict[int, bytes]) -> None:
        self.family = family
        self.prefix = prefix
        self.attributes = attributes


class Route:
    """A netlink socket of one network namespace. Failures are KernelError with the kernel's words as detail."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self) -> None:
        try:
            self._socket = socket(_AF_NETLINK, _SOCK_RAW_CLOEXEC, 0)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(_SOL_SOCKET, _SO_RCVTIMEO, pack("ll", _TIMEOUT_S, 0))
        except OSError as e:
            raise KernelError("socket", "AF_NETLINK", e.errno or 0) from e
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def link(self, name: str) -> Link | None:
        """The device of that name, None when there is none."""
        body = pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        try:
            replies = self._ask(_RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_ACK, body, name)
        except KernelError as e:
            if e.errno == errno.ENODEV:
                return None
            raise
        for reply in replies:
            _, _, index, flags, _ = unpack_from("=BxHiII", reply)
            return Link(index, name, flags)
        return None

    def addresses(self, link: Link) -> list[Address]:
        """The addresses that move with a device: permanent ones of global scope."""
        found = []
        for reply in self._ask(_RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, pack("=BBBBI", 0, 0, 0, 0, 0), link.name):
            family, prefix, flags, scope, index = unpack_from("=BBBBI", reply)
            attributes = _attributes(reply[8:])
            if _IFA_FLAGS in attributes:
                (flags,) = unpack_from("=I", attributes[_IFA_FLAGS])
            if index != link.index or scope != _RT_SCOPE_UNIVERSE or not flags & _IFA_F_PERMANENT:
                continue
            kept = {
                kind: attributes[kind]
                for kind in (_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_RT_PRIORITY)
                if kind in attributes
            }
            kept[_IFA_FLAGS] = pack("=I", flags & _IFA_F_KEPT)
            found.append(Address(family, prefix, kept))
        return found

    def move(self, link: Link, netns_fd: int, name: str) -> None:
        """Into another namespace under another name, in one step."""
        body = pack("=BxHiII", 0, 0, link.index, 0, 0)
        body += _attribute(_IFLA_NET_NS_FD, pack("=i", netns_fd)) + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        self._ask(_RTM_NEWLINK, _NLM_F_REQUEST | _NLM_F_ACK, body, link.name)

    def add_address(self, link: Link, address: Address) -> None:
        body = pack("=BBBBI", address.family, address.prefix, 0, _RT_SCOPE_UNIVERSE, link.index)
        body += b"".join(_attribute(kind, value) for kind, value in address.attributes.items())
        flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
        try:
            self._ask(_RTM_NEWADDR, flags, body, link.name)
        except KernelError as e:
            if e.errno != errno.EEXIST:
                raise

    def set_up(self, link: Link) -> None:
        body = pack("=BxHiII", 0, 0, link.index, _IFF_UP, _IFF_UP)
        self._ask(_RTM_NEWLINK, _NLM_F_REQUEST | _NLM_F_ACK, body, link.name)

    def _ask(self, kind: int, flags: int, body: bytes, name: str) -> list[bytes]:
        """The bodies of the answers; an error answer is raised."""
        self._sequence += 1
        try:
            self._socket.send(pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0) + body)
            return self._answers(name)
        except OSError as e:
            raise KernelError("rtnetlink", name, e.errno or 0) from e

    def _answers(self, name: str) -> list[bytes]:
        found: list[bytes] = []
        for _ in range(_MAX_REPLIES):
            data = self._socket.recv(_REPLY_BYTES)
            at = 0
            while at + 16 <= len(data):
                length, kind, flags, sequence, _ = unpack_from("=IHHII", data, at)
                if length < 16:
                    break
                message = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    (number,) = unpack_from("=i", message)
                    if number:
                        raise KernelError("rtnetlink", name, -number, detail=_said(message, flags))
                    return found
                found.append(message)
        raise KernelError("rtnetlink", name, errno.EMSGSIZE, detail="no end of answers")


def _attribute(kind: int, value: bytes) -> bytes:
    return pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _said(message: bytes, flags: int) -> str:
    # struct nlmsgerr: errno, the header of the request (its body is left out, NETLINK_CAP_ACK), attributes.
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    return _attributes(message[20:]).get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode("utf-8", "replace")


def move_all(devices: Mapping[str, NetDevice], pid: int, *, where: str = "linux.netDevices") -> None:
    """Move host devices (name -> wanted name inside) into the network namespace of `pid`, configured as they were.

    Raises NotFound (no such device or process), AlreadyExists (the name inside), InvalidArgument (a name that
    cannot be, the loopback device, a process that shares our network), KernelError. Devices moved before a failure
    are moved back.
    """
    if not devices:
        return
    for name, device in devices.items():
        _check_name(name, f"{where}[{name}]")
        _check_name(device.name or name, f"{where}[{name}].name")
    if namespaces.identity(pid, "network") == namespaces.identity("self", "network"):
        raise InvalidArgument(
            "network device",
            next(iter(devices)),
            where=where,
            detail="the container has no network namespace of its own",
        )
    theirs_fd = _open(f"/proc/{pid}/ns/net")
    own_fd = _open("/proc/thread-self/ns/net")
    undo: list[tuple[Link, Link, list[Address]]] = []
    here = there = None
    try:
        here = Route()
        there = _route_in(theirs_fd, own_fd)
        try:
            for name, device in devices.items():
                _move(here, there, name, device.name or name, theirs_fd, f"{where}[{name}]", undo)
        except BaseException as error:
            for outside, inside, addresses in reversed(undo):
                _move_back(here, there, outside, inside, addresses, own_fd, error)
            raise
    finally:
        for route in (here, there):
            if route is not None:
                route.close()
        os.close(theirs_fd)
        os.close(own_fd)


def raise_loopback(pid: int) -> None:
    """Sets `lo` up in the network namespace of `pid`, which gives it its addresses. Raises KernelError."""
    theirs_fd = _open(f"/proc/{pid}/ns/net")
    own_fd = _open("/proc/thread-self/ns/net")
    try:
        there = _route_in(theirs_fd, own_fd)
        try:
            link = there.link("lo")
            if link is None:
                raise KernelError("rtnetlink", "lo", errno.ENODEV)
            there.set_up(link)
        finally:
            there.close()
    finally:
        os.close(theirs_fd)
        os.close(own_fd)


def _move(
    here: Route,
    there: Route,
    name: str,
    wanted: str,
    netns_fd: int,
    where: str,
    undo: list[tuple[Link, Link, list[Address]]],
) -> None:
    link = here.link(name)
    if link is None:
        raise NotFound("network device", name, where=where)
    if link.flags & _IFF_LOOPBACK:
        raise InvalidArgument("network device", name, where=where, detail="a loopback device cannot be moved")
    if there.link(wanted) is not None:
        raise AlreadyExists("network device", wanted, where=where, detail="the container has one of that name")
    _move_link(here, there, link, wanted, netns_fd, where, undo)


def _move_link(
    here: Route,
    there: Route,
    link: Link,
    wanted: str,
    netns_fd: int,
    where: str,
    undo: list[tuple[Link, Link, list[Address]]],
) -> None:
    try:
        addresses = here.addresses(link)
        try:
            here.move(link, netns_fd, wanted)
        except KernelError:
            # The kernel moves first and renames then; what fails in the second step has been moved.
            moved = there.link(link.name)
            if moved is not None and here.link(link.name) is None:
                undo.append((link, moved, addresses))
            raise
        inside = there.link(wanted)
        if inside is None:
            raise KernelError("rtnetlink", wanted, errno.ENODEV)
        undo.append((link, inside, addresses))
        for address in addresses:
            there.add_address(inside, address)
        there.set_up(inside)
    except KernelError as e:
        e.where = where
        raise


def _move_back(
    here: Route, there: Route, outside: Link, inside: Link, addresses: list[Address], own_fd: int, error: BaseException
) -> None:
    try:
        there.move(inside, own_fd, outside.name)
        link = here.link(outside.name)
        if link is None:
            raise KernelError("rtnetlink", outside.name, errno.ENODEV)
        for address in addresses:
            here.add_address(link, address)
        if outside.flags & _IFF_UP:
            here.set_up(link)
    except KernelError as e:
        cleanup = getattr(error, "cleanup", None)
        if cleanup is not None:
            cleanup.append(e)


def _route_in(netns_fd: int, own_fd: int) -> Route:
    namespaces.join(netns_fd, namespaces.CLONE_NEWNET)
    try:
        return Route()
    finally:
        namespaces.join(own_fd, namespaces.CLONE_NEWNET)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e


def _check_name(name: str, where: str) -> None:
    # dev_valid_name in the kernel; "%" would be a pattern for it to fill in.
    if (
        not 0 < len(os.fsencode(name)) <= _MAX_NAME
        or name in (".", "..")
        or any(char in "/:%" or char.isspace() or not char.isprintable() for char in name)
    ):
        raise InvalidArgument(
            "network device name", name, where=where, detail=f"1 to {_MAX_NAME} bytes, none of / : % or space"
        )
