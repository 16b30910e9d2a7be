"""What a shim knows of a process of a container, and how it hears of its end.

    created ──start──► running ──exit──► stopped
       └───────────exit─────────────────────┘

The end is told by the process's monitor on the socket behind `attachment`. While a start is under way it is kept back
(`held`), so that nobody hears of an end before the beginning.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from masu.api.shim.records import Record
from masu.errors import NotFound, Unavailable
from masu.isolation import namespaces
from masu.isolation.attach import EVENTS, STDIN, Attachment, exit_status
from masu.isolation.namespaces import Exit
from masu.isolation.stdio import StdioNames
from masu.linux import pidfd, procfs
from masu.runtime.container import Container
from masu.spec import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.api.ttrpc.server import Call

CREATED, RUNNING, STOPPED = "created", "running", "stopped"

_LOST = 255
_KILLED = 128 + 9


class Process:
    """One process: the container's first (`id` "") or an exec. `directory` holds what its monitor writes."""

    __slots__ = (
        "attachment", "directory", "ended", "exit", "exited_at_ns", "held", "id", "pid", "spec", "start_time",
        "status", "stdin_closed", "stdio", "waiting", "watched",
    )  # fmt: skip

    def __init__(self, id: str, stdio: StdioNames, directory: str, *, spec: dict[str, object] | None = None) -> None:
        self.id = id
        self.stdio = stdio
        self.directory = directory
        self.spec = spec or {}
        self.pid = 0
        self.start_time = 0
        self.status = CREATED
        self.exit: Exit | None = None
        self.exited_at_ns = 0
        self.held = False
        self.attachment: Attachment | None = None
        self.stdin_closed = False  # perhaps before there is one
        self.waiting: list[Call] = []
        self.watched = False
        # Held until it has ended, for threads that wait.
        self.ended = allocate_lock()
        self.ended.acquire()

    @property
    def exit_code(self) -> int:
        return self.exit.status if self.exit is not None else 0

    def attach(self) -> None:
        """Before the program may run. Not for its stdin: the monitor lets who feeds that wait while it is full."""
        self.attachment = Attachment.connect(f"{self.directory}/attach.sock", EVENTS)
        if self.stdin_closed:
            self.close_stdin()

    def born(self, pid: int) -> None:
        """It is there, and waits for its program to be run; or runs, or has ended, when another runtime made it."""
        self.pid = pid
        try:
            self.attach()
            self.start_time = procfs.start_time(pid)
        except (NotFound, Unavailable, FileNotFoundError):
            pass

    def detach(self) -> None:
        if self.attachment is not None:
            self.attachment.close()
            self.attachment = None

    def close_stdin(self) -> None:
        """When all has been read that is written there; also before it is started."""
        self.stdin_closed = True
        if self.attachment is not None:
            try:
                with Attachment.connect(f"{self.directory}/attach.sock", STDIN) as feeding:
                    feeding.wait_attached()  # who has hung up by then is not heard
                    feeding.close_stdin()
            except (NotFound, Unavailable, FileNotFoundError):
                pass  # it has just ended

    def signal(self, number: int) -> None:
        """Raises NotFound when it has ended."""
        fd = pidfd.open_checked(self.pid, self.start_time)
        try:
            if fd is None:
                raise ProcessLookupError
            pidfd.send_signal(fd, number)
        except ProcessLookupError as error:
            raise NotFound("process", self.id, detail="process already finished") from error
        finally:
            if fd is not None:
                os.close(fd)

    def read_pid(self) -> None:
        """As its monitor has noted it."""
        try:
            with open(f"{self.directory}/pid", "rb") as file:
                self.pid, self.start_time = map(int, file.readline(256).split())
        except (OSError, ValueError):
            pass

    def end(self, told: int | None) -> None:
        """It has ended: with the status that its monitor told, or without a word."""
        found = namespaces.read_exit(f"{self.directory}/exit")
        if found is None:
            # A container that was never started has no end on record: it was killed. Else its monitor was.
            status = told if told is not None else _KILLED if self.status == CREATED else _LOST
            found = Exit(status, exited_at=times.now())
        self.exit = found
        self.exited_at_ns = times.parse(found.exited_at)
        self.status = STOPPED
        self.detach()
        self.ended.release()

    def hear(self) -> tuple[str, int | None]:
        """What the monitor says now: its letter, and with "x" the status."""
        assert self.attachment is not None
        kind, payload = self.attachment.receive()
        return kind, exit_status(payload) if kind == "x" else None


class Task:
    """A container with its processes. `lock` is held by whoever starts or removes one of them. `restore` makes it out
    of a checkpoint, when it is started; until then it is not there."""

    __slots__ = ("container", "execs", "id", "init", "init_told", "lock", "record", "restore")

    def __init__(self, id: str, record: Record, init: Process) -> None:
        self.id = id
        self.record = record
        self.init = init
        self.container: Container | None = None
        self.execs: dict[str, Process] = {}
        # The end of the first process is told last: what it was told of, while others have not ended yet.
        self.init_told: tuple[int | None] | None = None
        self.lock = allocate_lock()
        self.restore: Callable[[], tuple[Container, list[str]]] | None = None

    def process(self, exec_id: str) -> Process:
        """Raises NotFound."""
        if not exec_id:
            return self.init
        found = self.execs.get(exec_id)
        if found is None:
            raise NotFound("process", exec_id, detail="process does not exist")
        return found

    def made(self) -> Container:
        """Raises NotFound while it is being created."""
        if self.container is None:
            raise NotFound("container", self.id, detail="container not created")
        return self.container


def adopt(root: str, id: str) -> Task:
    """A task that a shim which is no more has left. Raises NotFound when there is none."""
    container = Container.open(root, id)
    try:
        record = Record.load(container.directory)
    except FileNotFoundError as error:
        raise NotFound("task", id, detail="a container that no shim has made") from error
    task = Task(id, record, _adopted("", record.stdio, container.directory))
    task.container = container
    init = task.init
    init.pid = container.facts.pid
    if init.status == RUNNING and container.status() == CREATED:
        init.status = CREATED
    try:
        names = os.listdir(f"{container.directory}/execs")
    except FileNotFoundError:
        names = []
    for name in names:
        process = _adopted(name, StdioNames(), f"{container.directory}/execs/{name}")
        process.read_pid()
        task.execs[name] = process
    return task


def _adopted(id: str, stdio: StdioNames, directory: str) -> Process:
    """A process as it is now: its monitor listens, or it has ended."""
    process = Process(id, stdio, directory)
    process.status = RUNNING
    try:
        process.attach()
    except (NotFound, Unavailable, FileNotFoundError):
        process.end(None)
    return process
