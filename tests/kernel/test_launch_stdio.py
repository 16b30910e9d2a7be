"""The stdio of somebody else's: FIFOs, files and programs that a client names, opened by `isolation.stdio`."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kernel.launchclient import contained, finish, index_of, op, wait_readable
from kernel.monitorclient import EVENTS, STDIN, Monitored

from masu.errors import InvalidArgument, NotFound
from masu.isolation.stdio import Stdio, open_named, parse
from masu.plan import ops as o
from masu.plan.ops import NONE, Op

pytestmark = pytest.mark.root

PIPE_BYTES = 65536


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    for name in ("in", "out", "err"):
        os.mkfifo(made / name)
    return made


class Reader:
    """A client's end of an output FIFO; there as soon as it is made."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.said = b""

    def until(self, text: bytes) -> None:
        while text not in self.said:
            assert self._more(), f"{text!r} never came, but {self.said!r}"

    def until_end(self) -> bytes:
        while self._more():
            pass
        return self.said

    def _more(self) -> bool:
        wait_readable(self.fd)
        data = os.read(self.fd, 1 << 20)
        self.said += data
        return bool(data)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def named(plan: list[Op], folder: Path, stdio: Stdio, **fields: object) -> Iterator[Monitored]:
    """A container with a monitor whose stdio is what `stdio` names."""
    opened = open_named(stdio)
    try:
        for fd in opened.fds:
            os.set_inheritable(fd, True)

        def or_none(fd: int) -> int:
            return NONE if fd < 0 else fd

        made = Monitored(
            plan, folder, pass_fds=opened.fds, flags=o.MONITOR_TERMINAL if stdio.terminal else o.MONITOR_COPY,
            stdin_fd=or_none(opened.stdin), stdin_keep_fd=or_none(opened.stdin_keep),
            stdout_fd=or_none(opened.stdout), stderr_fd=or_none(opened.stderr),
            logger=opened.logger, logger_env=opened.logger_env, **fields,
        )  # fmt: skip
    finally:
        opened.close()
    with made:
        yield made


def fifos(folder: Path, *names: str, **more: object) -> Stdio:
    given = {f"std{name}": str(folder / name) for name in names or ("in", "out", "err")}
    return Stdio(**given, **more)  # type: ignore[arg-type]


def with_console(root: Path, *probe: str) -> list[Op]:
    plan = contained(root, [], *probe)
    at = index_of(plan, "pivot_root") + 1
    plan.insert(at, op("console", slot=o.NONE, rows=24, columns=80, flags=o.CONSOLE_BIND | o.CONSOLE_CTTY))
    return plan


# -- FIFOs ------------------------------------------------------------------------------------------------------------


def test_output_goes_to_the_fifos_to_the_log_and_to_who_is_attached(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "echo", "to out", "--", "stderr", "to err")
    stdio = fifos(folder, "out", "err")
    with Reader(folder / "out") as out, Reader(folder / "err") as err, named(plan, folder, stdio) as container:
        container.ready()
        client = container.client()
        container.go()
        assert client.until_exit() == (0, 0)
        # the end comes before the news of it
        assert (out.until_end(), err.until_end()) == (b"to out\n", b"to err\n")
        assert client.said == {b"o": b"to out\n", b"e": b"to err\n"}
        client.send(b"k")
        container.wait()
        assert sorted(container.log()) == [("stderr", "F", b"to err"), ("stdout", "F", b"to out")]


def test_stdin_ends_when_it_may_and_its_writer_has_gone(probe_rootfs: Path, folder: Path) -> None:
    with Reader(folder / "out") as out, named(contained(probe_rootfs, [], "stdin"), folder, fifos(folder)) as container:
        container.ready().go()
        first = os.open(folder / "in", os.O_WRONLY)
        os.write(first, b"one ")
        os.close(first)
        out.until(b"one ")
        # A writer that goes away ends nothing: the next one may come.
        with open(folder / "in", "wb") as second:
            second.write(b"two ")
            second.flush()
            out.until(b"two ")
            closer = container.client(STDIN)
            closer.send(b"c")
            second.write(b"three")  # nor does the leave to end, while somebody still writes
        assert out.until_end() == b"one two three"
        container.wait()
        assert container.exit()["status"] == 0


def test_a_writer_that_has_gone_before_the_start_ends_stdin(probe_rootfs: Path, folder: Path) -> None:
    """`echo one | ctr run …`: it has written and gone, and has not yet known of what it could ask for the end."""
    plan, loose = contained(probe_rootfs, [], "stdin"), fifos(folder, hold_stdin=False)
    with Reader(folder / "out") as out, named(plan, folder, loose) as container:
        container.ready()
        with open(folder / "in", "wb") as writer:
            writer.write(b"one")
        holder = container.client(0)
        holder.send(b"h")
        assert holder.receive() == b"A"
        container.go()
        assert out.until_end() == b"one"
        container.wait()


@pytest.mark.parametrize("asked", ["before", "after"])
def test_stdin_is_held_from_the_start(probe_rootfs: Path, folder: Path, asked: str) -> None:
    plan, loose = contained(probe_rootfs, [], "stdin"), fifos(folder, hold_stdin=False)
    with Reader(folder / "out") as out, named(plan, folder, loose) as container:
        container.ready()
        closer = container.client(STDIN)
        if asked == "before":
            # Who asks for the end before anybody has written gets it, and "hold" does not take it back.
            closer.send(b"c")
        closer.send(b"h")
        assert closer.receive() == b"A"
        container.go()
        if asked == "after":
            for word in (b"one ", b"two"):
                with open(folder / "in", "wb") as writer:
                    writer.write(word)
                out.until(word)
            closer.send(b"c")
        assert out.until_end() == (b"one two" if asked == "after" else b"")
        container.wait()


def test_stdin_that_the_program_does_not_read(folder: Path) -> None:
    """Its writer is told, as by any pipe."""
    plan = [op("clone", flags=0), op("setsid"), *finish("/bin/sh", "-c", "exec <&-; echo closed; exec sleep 1000")]
    with Reader(folder / "out") as out, named(plan, folder, fifos(folder)) as container:
        container.ready().go()
        out.until(b"closed")
        with open(folder / "in", "wb", buffering=0) as writer:
            writer.write(b"x")
            _wait_broken(writer.fileno())
            with pytest.raises(BrokenPipeError):
                writer.write(b"x")


def _wait_broken(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # POLLERR: nobody reads any more
    assert poll.poll(20_000)


def test_a_reader_that_goes_away_neither_kills_nor_blocks(probe_rootfs: Path, folder: Path) -> None:
    script = ("stdin", "--", "spam", "1000000", "--", "echo", "done", "--", "exit", "5")
    with named(contained(probe_rootfs, [], *script), folder, fifos(folder)) as container:
        container.ready()
        with Reader(folder / "out") as gone, open(folder / "in", "wb", buffering=0) as writer:
            container.go()
            writer.write(b"hello")
            gone.until(b"hello")
        client = container.client(STDIN)
        client.send(b"c")
        assert client.until_exit()[0] == 5
        client.send(b"k")
        container.wait()
        assert container.log()[-1] == ("stdout", "F", b"done")


def test_who_comes_later_finds_what_fits(probe_rootfs: Path, folder: Path) -> None:
    script = ("spam", "1000000", "--", "stderr", "spammed", "--", "stdin", "--", "echo", "late")
    plan = contained(probe_rootfs, [], *script)
    with Reader(folder / "err") as err, named(plan, folder, fifos(folder)) as container:
        container.ready().go()
        err.until(b"spammed")
        with Reader(folder / "out") as later:
            later.until(b"\n")
            closer = container.client(STDIN)
            closer.send(b"c")
            said = later.until_end()
    assert said.endswith(b"late\n")
    assert PIPE_BYTES // 2 < len(said) <= PIPE_BYTES + 5


def test_a_patient_one_waits_for_its_reader(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "spam", "1000000")
    with named(plan, folder, fifos(folder, "out", patient=True)) as container:
        container.ready().go()
        with Reader(folder / "out") as later:
            assert len(later.until_end()) == 1000000


def test_a_slow_reader_loses_nothing(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "spam", "1000000")
    with Reader(folder / "out") as slow, named(plan, folder, fifos(folder, "out")) as container:
        container.ready().go()
        size = fcntl.fcntl(slow.fd, fcntl.F_GETPIPE_SZ)
        assert size == PIPE_BYTES
        assert len(slow.until_end()) == 1000000
        container.wait()


def test_a_terminal(probe_rootfs: Path, folder: Path) -> None:
    plan = with_console(probe_rootfs, "isatty", "--", "wait", "28", "--", "winsize", "--", "stdin")
    with Reader(folder / "out") as out, named(plan, folder, fifos(folder, "in", "out", terminal=True)) as container:
        container.ready().go()
        out.until(b"tty tty tty\r\nready\r\n")
        client = container.client(0)
        client.send(b"r" + struct.pack("<HH", 50, 132))
        out.until(b"50 132\r\n")
        with open(folder / "in", "wb", buffering=0) as writer:
            writer.write(b"hi\n\x04")
        assert out.until_end().endswith(b"hi\r\nhi\r\n")  # its echo, and what the program read
        assert client.until_exit() == (0, 0)


def test_the_second_process_of_a_container(probe_rootfs: Path, folder: Path, tmp_path: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "pause"), folder).ready() as container:
        container.go()
        pidfd = os.pidfd_open(container.launch.pid)
        os.set_inheritable(pidfd, True)
        second = tmp_path / "exec"
        second.mkdir()
        plan = [op("adopt", slot=0, fd=pidfd), op("setns", slot=0, nstype=0x20000), op("clone", flags=0), op("setsid"),
                op("chdir", path="/"), *finish("probe", "stdin", "--", "exit", "12")]  # fmt: skip
        opened = open_named(fifos(folder, "in", "out"))
        for fd in opened.fds:
            os.set_inheritable(fd, True)
        with Reader(folder / "out") as out, Monitored(
            plan, second, pass_fds=(pidfd, *opened.fds), flags=o.MONITOR_COPY, stdin_fd=opened.stdin,
            stdin_keep_fd=opened.stdin_keep, stdout_fd=opened.stdout,
        ) as session:  # fmt: skip
            opened.close()
            session.ready()
            inner = session.client(STDIN)
            session.go()
            with open(folder / "in", "wb") as writer:
                writer.write(b"over there")
            inner.send(b"c")
            assert out.until_end() == b"over there"
            assert inner.until_exit()[0] == 12
        os.close(pidfd)


# -- files and programs -----------------------------------------------------------------------------------------------


def test_a_file_takes_both_and_is_appended_to(probe_rootfs: Path, folder: Path) -> None:
    path = folder / "deep" / "a log"
    uri = f"file://{folder}/deep/a%20log"
    for name in ("first", "second"):
        (folder / name).mkdir()
        plan = contained(probe_rootfs, [], "echo", "out", "--", "stderr", "err")
        with named(plan, folder / name, Stdio(stdout=uri, stderr=uri)) as container:
            container.ready()
            client = container.client(0)
            container.go()
            client.until_exit()
            client.send(b"k")
            container.wait()
    assert sorted(path.read_bytes().split()) == [b"err", b"err", b"out", b"out"]
    assert path.stat().st_mode & 0o777 == 0o644


LOGGER = """#!/bin/sh
env > "$1.env"
echo "$*" > "$1.args"
exec 5>&-
cat <&3 > "$1.out" &
cat <&4 > "$1.err"
wait
mv "$1.env" "$1.done"
"""


def program(folder: Path, text: str) -> Path:
    path = folder / "logger"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_program_takes_the_output(probe_rootfs: Path, folder: Path) -> None:
    logger = program(folder, LOGGER)
    uri = f"binary://{logger}?{folder}/of&colour=light+blue"
    stdio = Stdio(stdout=uri, stderr=uri, owner=("web", "shop"))
    plan = contained(probe_rootfs, [], "echo", "out", "--", "stderr", "err", "--", "spam", "200000")
    with named(plan, folder, stdio) as container:
        container.ready()
        assert (folder / "of.args").read_text() == f"{folder}/of colour light blue\n"  # ready before the container is
        client = container.client(0)
        container.go()
        assert client.until_exit() == (0, 0)
        client.send(b"k")
        container.wait()
    _wait_file(folder / "of.done")
    assert (folder / "of.out").read_bytes().startswith(b"out\n")
    assert (folder / "of.out").stat().st_size == 200004
    assert (folder / "of.err").read_bytes() == b"err\n"
    environment = dict(line.split("=", 1) for line in (folder / "of.done").read_text().splitlines())
    assert environment["CONTAINER_ID"] == "web"
    assert environment["CONTAINER_NAMESPACE"] == "shop"
    assert set(environment) <= {"CONTAINER_ID", "CONTAINER_NAMESPACE", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}
    assert len(container.log()) > 2  # the log of our own is kept as ever


def _wait_file(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_that_dies_harms_nobody(probe_rootfs: Path, folder: Path) -> None:
    uri = f"binary://{program(folder, '#!/bin/sh' + chr(10) + 'exit 1' + chr(10))}"
    plan = contained(probe_rootfs, [], "spam", "1000000", "--", "exit", "4")
    with named(plan, folder, Stdio(stdout=uri, stderr=uri)) as container:
        container.ready()
        client = container.client(0)
        container.go()
        assert client.until_exit()[0] == 4


def test_a_program_that_is_not_there(probe_rootfs: Path, folder: Path) -> None:
    uri = f"binary://{folder}/absent"
    with named(contained(probe_rootfs, [], "exit", "0"), folder, Stdio(stdout=uri, stderr=uri)) as container:
        message = container.launch.failure()
        assert (message.errno, message.detail) == (2, f"execve of the logging program {folder}/absent")
        assert container.launch.receive() is None


def test_a_program_with_a_terminal(probe_rootfs: Path, folder: Path) -> None:
    uri = f"binary://{program(folder, LOGGER)}?{folder}/of"
    with named(with_console(probe_rootfs, "echo", "hello"), folder, Stdio(stdout=uri, terminal=True)) as container:
        container.ready()
        client = container.client(EVENTS)
        container.go()
        client.until_exit()
    _wait_file(folder / "of.done")
    assert (folder / "of.out").read_bytes() == b"hello\r\n"


# -- names ------------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert parse("/run/fifo/x-stdout", "stdout") == ("fifo", "/run/fifo/x-stdout", [])
    assert parse("fifo:///a%2Fb", "stdout") == ("fifo", "/a/b", [])
    assert parse("file:///a/100%", "stdout") == ("file", "/a/100%", [])
    assert parse("binary:///l?a=1&b&c=%3D", "stdout") == ("binary", "/l", ["a", "1", "b", "c", "="])
    with pytest.raises(InvalidArgument, match='unknown scheme "http"'):
        parse("http://x/y", "stdout")
    with pytest.raises(InvalidArgument, match="an absolute path is wanted"):
        parse("file://relative", "stdout")


def test_names_of_nothing(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(NotFound, match="stdin"):
        open_named(Stdio(stdin=f"{tmp_path}/absent"))
    os.mkfifo(tmp_path / "in")
    with pytest.raises(NotFound, match="stdout"):
        open_named(Stdio(stdin=f"{tmp_path}/in", stdout=f"{tmp_path}/absent"))
    with pytest.raises(InvalidArgument, match="a FIFO is wanted"):
        open_named(Stdio(stdin=f"file://{tmp_path}/in"))
    assert set(os.listdir("/proc/self/fd")) == before
