"""Id maps, namespaces, capabilities: in processes that have made some."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import forked

from masu.errors import KernelError, NotFound, PermissionDenied
from masu.linux import _sys, capabilities, idmap, mount, namespaces, procfs
from masu.linux.idmap import Mapping

pytestmark = pytest.mark.root

NOBODY = 65534


class InUserNamespace:
    """A child that has made namespaces and waits, the user namespace unmapped."""

    def __init__(self, flags: int = namespaces.CLONE_NEWUSER) -> None:
        ready, self._go = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go[1])
            _sys.unshare(flags)
            os.write(ready[1], b"x")
            os.read(self._go[0], 1)  # the end of file, too
            os._exit(0)
        os.read(ready[0], 1)
        os.close(ready[0])
        os.close(ready[1])

    def end(self) -> None:
        os.close(self._go[1])
        os.close(self._go[0])
        os.waitpid(self.pid, 0)


def with_child(body: Callable[[InUserNamespace], None], flags: int = namespaces.CLONE_NEWUSER) -> None:
    child = InUserNamespace(flags)
    try:
        body(child)
    finally:
        child.end()


def test_maps_are_written() -> None:
    uids, gids = [Mapping(0, 100000, 65536), Mapping(65536, 5, 1)], [Mapping(0, 200000, 10)]

    def body(child: InUserNamespace) -> None:
        idmap.write(child.pid, idmap.text(uids), idmap.text(gids))
        assert idmap.of_process(child.pid) == uids
        assert idmap.of_process(child.pid, "gid") == gids
        # setgroups(2) stays allowed when root writes the map.
        assert procfs.read(child.pid, "setgroups").strip() == "allow"
        # A map can be written once.
        with pytest.raises(KernelError, match="written before"):
            idmap.write(child.pid, "0 0 1\n", "")

    with_child(body)


def test_what_the_kernel_refuses_is_explained() -> None:
    def body(child: InUserNamespace) -> None:
        with pytest.raises(KernelError, match=r"range\[1\].*overlaps with range\[0\]"):
            idmap.write(child.pid, "0 0 10\n5 20 10\n", "")

    with_child(body)


def test_no_such_process() -> None:
    child = InUserNamespace()
    child.end()
    with pytest.raises(NotFound):
        idmap.write(child.pid, "0 0 1\n", "0 0 1\n")


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # After a change of user our own /proc files would belong to root.
    _sys.prctl(4, 1)  # PR_SET_DUMPABLE


def test_without_privileges_one_can_be_oneself() -> None:
    def body() -> None:
        become_nobody()
        mapping = [Mapping(0, NOBODY, 1)]

        def check(child: InUserNamespace) -> None:
            idmap.write(child.pid, idmap.text(mapping), idmap.text(mapping))
            assert idmap.of_process(child.pid) == mapping
            assert idmap.of_process(child.pid, "gid") == mapping
            assert procfs.read(child.pid, "setgroups").strip() == "deny"

        with_child(check)

    forked.run(body)


def subordinate_files(tmp_path: Path, text: str) -> None:
    """Put our own over /etc/subuid and /etc/subgid, in the mount namespace of the test."""
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(text)
        fd = mount.clone_tree(str(tmp_path / name))
        mount.attach(fd, f"/etc/{name}")
        os.close(fd)


@pytest.fixture
def helpers() -> None:
    for name in ("newuidmap", "newgidmap"):
        try:
            idmap.helper(name)
        except NotFound:
            pytest.skip("newuidmap is not installed")
    if not Path("/etc/subuid").exists():
        pytest.skip("no /etc/subuid to mount over")


@pytest.mark.usefixtures("helpers")
def test_ranges_by_the_helpers(tmp_path: Path) -> None:
    def body() -> None:
        subordinate_files(tmp_path, "nobody:300000:1000\n65534:500000:10\n")
        become_nobody()
        uids, gids = idmap.rootless(NOBODY, NOBODY, "nobody")
        expected = [Mapping(0, NOBODY, 1), Mapping(1, 300000, 1000), Mapping(1001, 500000, 10)]
        assert uids == gids == expected

        def check(child: InUserNamespace) -> None:
            # The helper believes a name or a number, the first of both here.
            idmap.write(child.pid, idmap.text(uids[:2]), idmap.text(gids[:2]))
            assert idmap.of_process(child.pid) == expected[:2]
            assert idmap.of_process(child.pid, "gid") == expected[:2]

        with_child(check)

    forked.run(body, unshare=namespaces.CLONE_NEWNS)


@pytest.mark.usefixtures("helpers")
def test_the_helpers_refusal_is_told(tmp_path: Path) -> None:
    def body() -> None:
        subordinate_files(tmp_path, "somebody:300000:1000\n")
        become_nobody()

        def check(child: InUserNamespace) -> None:
            with pytest.raises(PermissionDenied, match=r"newuidmap.*not allowed.*/etc/subuid"):
                idmap.write(child.pid, "0 65534 1\n1 300000 10\n", "")

        with_child(check)

    forked.run(body, unshare=namespaces.CLONE_NEWNS)


def test_namespaces_that_differ() -> None:
    flags = namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWIPC

    def body(child: InUserNamespace) -> None:
        assert namespaces.differing(child.pid) == flags
        assert namespaces.differing(child.pid, ("uts", "network")) == namespaces.CLONE_NEWUTS
        pid = child.pid

        def inside() -> None:
            assert namespaces.in_initial_user_namespace()
            fd = os.pidfd_open(pid)
            namespaces.join(fd, namespaces.differing(pid))
            os.close(fd)
            assert namespaces.differing(pid) == 0
            assert not namespaces.in_initial_user_namespace()
            assert capabilities.current().effective == capabilities.all_known()

        forked.run(inside)

    with_child(body, flags)


def test_capability_sets_can_be_given_up() -> None:
    def body() -> None:
        kept = 1 << capabilities.NUMBERS["CAP_KILL"]
        _sys.capset(kept, kept, 0)
        sets = capabilities.current()
        assert (sets.effective, sets.permitted, sets.inheritable) == (kept, kept, 0)
        with pytest.raises(PermissionError):
            _sys.capset(kept | 1, kept | 1, 0)

    forked.run(body)


def test_a_session_keyring() -> None:
    def body() -> None:
        first = _sys.join_session_keyring("_ses.masu-test")
        assert first != _sys.join_session_keyring()

    forked.run(body)
