"""Network devices that move, in network namespaces of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest
from harness import forked

from masu.errors import AlreadyExists, InvalidArgument, KernelError, NotFound
from masu.linux import _sys, namespaces, netdevice
from masu.spec.linux import LinuxNetDevice

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("ip"), reason="needs the ip command")]

NEWNET = namespaces.CLONE_NEWNET


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def device(name: str | None = None) -> LinuxNetDevice:
    return LinuxNetDevice(name=name)


class Container:
    """A child in a network namespace of its own, that runs `ip` when told."""

    def __init__(self) -> None:
        ready, self._go = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go[1])
            _sys.unshare(NEWNET)
            os.write(ready[1], b"x")
            os.read(self._go[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
        os.close(ready[0])
        os.close(ready[1])

    def ip(self, *words: str) -> str:
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", *words], check=True, capture_output=True, text=True
        ).stdout

    def end(self) -> None:
        os.close(self._go[1])
        os.close(self._go[0])
        os.waitpid(self.pid, 0)


def with_container(body: Callable[[Container], None]) -> None:
    """On a host that has a veth pair ve0, ve1 with addresses on ve0."""

    def host() -> None:
        ip("link", "add", "ve0", "type", "veth", "peer", "name", "ve1")
        ip("addr", "add", "10.99.0.1/24", "brd", "+", "dev", "ve0")
        ip("addr", "add", "10.98.0.1", "peer", "10.98.0.2/32", "dev", "ve0")
        ip("addr", "add", "fd00:99::1/64", "dev", "ve0", "nodad")
        ip("addr", "add", "10.97.0.1/24", "scope", "link", "dev", "ve0")
        ip("link", "set", "ve0", "up")
        container = Container()
        try:
            body(container)
        finally:
            container.end()

    forked.run(host, unshare=NEWNET)


def test_moves_with_its_addresses() -> None:
    def body(container: Container) -> None:
        netdevice.move_all({"ve0": device("eth7"), "ve1": device()}, container.pid)
        seen = container.ip("addr", "show", "eth7")
        assert "UP" in seen
        assert "inet 10.99.0.1/24 brd 10.99.0.255 scope global eth7" in seen
        assert "inet 10.98.0.1 peer 10.98.0.2/32" in seen
        assert "inet6 fd00:99::1/64 scope global nodad" in seen
        # Not of global scope: it meant something on the host's link.
        assert "10.97.0.1" not in seen
        assert "ve1" in container.ip("link", "show", "ve1")
        assert "ve" not in ip("-o", "link", "show")

    with_container(body)


def test_a_failure_brings_everything_back() -> None:
    def body(container: Container) -> None:
        before = [line for line in ip("-o", "addr", "show", "ve0").splitlines() if "scope global" in line]
        with pytest.raises(NotFound, match=r"linux.netDevices\[nope\]"):
            netdevice.move_all({"ve0": device("eth7"), "nope": device()}, container.pid)
        after = [line for line in ip("-o", "addr", "show", "ve0").splitlines() if "scope global" in line]
        assert [line.split()[1:] for line in after] == [line.split()[1:] for line in before]
        assert "UP" in ip("link", "show", "ve0")
        assert "eth7" not in container.ip("link", "show")

    with_container(body)


def test_a_name_that_is_taken() -> None:
    def body(container: Container) -> None:
        container.ip("link", "add", "eth0", "type", "veth", "peer", "name", "x")
        with pytest.raises(AlreadyExists, match="eth0"):
            netdevice.move_all({"ve0": device("eth0")}, container.pid)
        assert "ve0" in ip("link", "show", "ve0")

    with_container(body)


def test_a_rename_that_fails_after_the_move() -> None:
    """The kernel moves first and renames then; between our look and the move the name may be taken."""

    def body(container: Container) -> None:
        here = netdevice.Route()
        theirs = os.open(f"/proc/{container.pid}/ns/net", os.O_RDONLY)
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = netdevice._route_in(theirs, own)
        container.ip("link", "add", "eth0", "type", "veth", "peer", "name", "x")
        link = here.link("ve0")
        assert link is not None
        undo: list[tuple[netdevice.Link, netdevice.Link, list[netdevice.Address]]] = []
        with pytest.raises(KernelError, match="EEXIST"):
            netdevice._move_link(here, there, link, "eth0", theirs, "w", undo)
        assert here.link("ve0") is None
        for outside, inside, addresses in undo:
            netdevice._move_back(here, there, outside, inside, addresses, own, RuntimeError())
        assert "10.99.0.1/24" in ip("addr", "show", "ve0")
        here.close()
        there.close()
        os.close(theirs)
        os.close(own)

    with_container(body)


def test_what_cannot_be_moved() -> None:
    def body(container: Container) -> None:
        with pytest.raises(InvalidArgument, match="loopback"):
            netdevice.move_all({"lo": device("lo1")}, container.pid)
        with pytest.raises(InvalidArgument, match="no network namespace of its own"):
            netdevice.move_all({"ve0": device()}, os.getpid())
        for name in ("", "a" * 16, "a/b", "eth%d", "a b", ".."):
            with pytest.raises(InvalidArgument, match="network device name"):
                netdevice.move_all({name: device()}, container.pid)

    with_container(body)


def test_many_addresses() -> None:
    """More than one answer's worth."""

    def body(container: Container) -> None:
        lines = "".join(f"addr add 10.{50 + n // 250}.0.{n % 250 + 1}/32 dev ve0\n" for n in range(1500))
        subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
        netdevice.move_all({"ve0": device()}, container.pid)
        assert container.ip("-o", "-4", "addr", "show", "ve0").count("\n") == 1502

    with_container(body)
