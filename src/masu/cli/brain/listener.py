"""The keeper of a brain: a socket, some spares that wait at it, and the end of both.

The socket's name says for which installation and namespaces it is (native/front/home.c). A lock beside it, taken by the
front that has started us, keeps a second brain away as long as this one lives; a socket whose brain was killed is
refused by connect(2), and replaced.

It leaves when nobody has called for a minute and no masud wants it to stay (masu.daemon.warm), when one of the files
that it is made of has changed, when asked to (SIGTERM, `masu brain stop`). Then no new call is taken, and those that
have begun come to their end.
"""

from __future__ import annotations

import _signal
import fcntl
import gc
import os
import resource
import select
import sys
import time
from _socket import AF_UNIX, SHUT_RDWR, SOCK_SEQPACKET, socket

import masu
from masu.cli.brain import call, preload
from masu.cli.brain.shared import FDS_BEGIN, Shared, hello, high
from masu.isolation import attach, monitors
from masu.linux import executable, powers, process
from masu.linux.front import send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_S = 60.0
# What a few calls in a row take before there is time for new ones; more are memory.
SPARES = 3
# A fork and a spare that warms itself are work: they wait until no call has come for so long, unless none is left.
QUIET_S = 0.01
# Beyond, callers go cold: each call is a process of some megabytes.
CALLS_MAX = 64
_BACKLOG = 256
_FAILURES_MAX = 5
# Where the front has left the lock (native/front/front.h).
LOCK_FD = 3


def serve(path: str, program: Callable[[str, list[str]], int]) -> int:
    """Listens at `path` until it is time to leave; the exit status. `program` runs a command line."""
    process.set_name("masu:[brain]")
    try:
        shared = _listening(path, program)
    except BaseException:
        _withdraw(path)
        raise
    keeper = Keeper(shared)
    try:
        keeper.run()
    finally:
        keeper.leave()
    return 0


def _listening(path: str, program: Callable[[str, list[str]], int]) -> Shared:
    """All that a call needs, loaded; callers are let in, and answered as soon as there are spares."""
    shared = Shared(path, program)
    if powers.difference(shared.powers, shared.powers):
        raise SystemExit("masu: no brain with a seccomp filter: nobody could be served")
    _leave_the_caller()
    shared.watch.add_tree(os.path.dirname(masu.__file__))
    shared.watch.add(os.path.realpath(sys.executable))
    preload.everything()
    preload.warm_up()
    executable.keep_ready(executable.launcher_path(), FDS_BEGIN)
    _signal.signal(_signal.SIGTERM, _noted)
    _signal.signal(_signal.SIGCHLD, _noted)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    gc.collect()
    gc.freeze()
    # What we do for the calls to come is not to be done in the place of those that are there (sched(7)).
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    shared.listener = socket(AF_UNIX, SOCK_SEQPACKET, 0, fileno=high(attach.listen(path).detach()))
    shared.listener.listen(_BACKLOG)
    # A front that waits for us has a pipe there, at the end of which it calls.
    with open("/dev/null", "wb") as null:
        os.dup2(null.fileno(), 2)
    return shared


def _noted(*_: object) -> None:
    """The number travels through the wakeup fd."""


def _leave_the_caller() -> None:
    """Out of its cgroup, where a service manager would end us with it, and without its limits, its priority and its
    score, as far as we may."""
    for file in monitors.ways_out():
        try:
            with open(file, "w") as procs:
                procs.write("0")
        except OSError:
            continue
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_AS):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard, hard))
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("0")
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except OSError:
        pass


def sweep(directory: str) -> None:
    """Removes what killed brains have left in the directory, those of namespaces that are no more among them; and the
    directory when nobody else is there. A brain that lives holds its lock."""
    try:
        for name in os.listdir(directory):
            if name.endswith(".lock"):
                _remove_if_dead(f"{directory}/{name}")
        os.rmdir(directory)
    except OSError:
        pass  # somebody is there, or it is gone


def _withdraw(path: str) -> None:
    """Removes the names of a brain that is leaving and has its lock: the lock's last, for then another may come."""
    _remove_names(path)
    sweep(os.path.dirname(path))


def _remove_names(path: str) -> None:
    for name in (path, path + ".lock"):
        try:
            os.unlink(name)
        except OSError:
            continue


def _remove_if_dead(path: str) -> None:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return  # its brain has just left
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_names(path.removesuffix(".lock"))
    except BlockingIOError:
        pass  # it lives
    finally:
        os.close(lock)


class Keeper:
    """Forks spares and counts calls."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.spares: set[int] = set()
        self.calls: set[int] = set()
        self.failures = 0
        self.leaving = False
        self._seen = time.monotonic()
        self._lock = high(LOCK_FD)  # until we end, and no spare longer than us
        self._taken, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        shared.taken = high(write)
        self._wake, self._wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> None:
        _signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        poll = select.poll()
        for fd in (self._taken, self._wake, self.shared.watch.fileno()):
            poll.register(fd, select.POLLIN)
        while not (self.leaving and not self.spares and not self.calls):
            full = len(self.calls) >= CALLS_MAX
            if full and not self.leaving:
                poll.register(self.shared.listener, select.POLLIN)
            elif not self.leaving and self._lacks_spare():
                self._fork()
            ready = {fd for fd, _ in poll.poll(self._patience_ms())}
            if full and not self.leaving:
                poll.unregister(self.shared.listener)
                if self.shared.listener.fileno() in ready:
                    self._refuse()
            self._count_taken()
            if self._wake in ready:
                self._reap(os.read(self._wake, 512))
            changed = self.shared.watch.fileno() in ready and self.shared.look()
            if changed or (not self.calls and self._quiet_s() >= IDLE_S and not self._is_held()):
                self.leave()

    def _lacks_spare(self) -> bool:
        return not self.spares or (len(self.spares) < SPARES and self._quiet_s() >= QUIET_S)

    def _is_held(self) -> bool:
        """Whether somebody has locked the directory, so that we stay; asked again after another minute."""
        try:
            directory = os.open(os.path.dirname(self.shared.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            self._seen = time.monotonic()
            return True
        finally:
            os.close(directory)

    def _quiet_s(self) -> float:
        return time.monotonic() - self._seen

    def _patience_ms(self) -> float | None:
        """Until there is time for a spare, or to leave; None where only an event can change anything."""
        if not self.leaving and len(self.calls) < CALLS_MAX and len(self.spares) < SPARES:
            return max(0.0, QUIET_S - self._quiet_s()) * 1000
        if self.leaving or self.calls:
            return None
        return max(0.0, IDLE_S - self._quiet_s()) * 1000

    def _fork(self) -> None:
        keeper = os.getpid()
        pid = os.fork()
        if pid:
            self.spares.add(pid)
            return
        status = 1
        try:
            _signal.set_wakeup_fd(-1)
            for number in (_signal.SIGTERM, _signal.SIGCHLD):
                _signal.signal(number, _signal.SIG_DFL)
            for fd in (self._lock, self._taken, self._wake, self._wakeup):
                os.close(fd)
            status = call.wait_and_serve(self.shared, keeper)
        finally:
            os._exit(status)

    def _count_taken(self) -> None:
        try:
            data = os.read(self._taken, 4096)
        except BlockingIOError:
            return
        self._seen = time.monotonic()
        self.failures = 0
        for at in range(0, len(data), 4):
            pid = int.from_bytes(data[at : at + 4], "little")
            if pid in self.spares:
                self.spares.discard(pid)
                self.calls.add(pid)
        self.shared.count(len(data) // 4)

    def _reap(self, numbers: bytes) -> None:
        if _signal.SIGTERM in numbers:
            self.leave()
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._count_taken()
            if pid in self.calls:
                self.calls.discard(pid)
                self._seen = time.monotonic()
            elif pid in self.spares:
                self.spares.discard(pid)
                self.failures += 1
                if self.failures >= _FAILURES_MAX:
                    self.leave()  # something is wrong with us; a new one may do better

    def _refuse(self) -> None:
        try:
            connection = call.accept(self.shared.listener)
        except OSError:
            return
        try:
            send(connection, hello(self.shared, busy=True))
        except OSError:
            pass
        connection.close()

    def leave(self) -> None:
        """No new call: spares find the socket shut and end, callers that nobody has answered go cold. Another brain may
        come now, while the calls that we have go on; so these names are not ours any more."""
        if self.leaving:
            return
        self.leaving = True
        _withdraw(self.shared.path)
        os.close(self._lock)
        self.shared.listener.shutdown(SHUT_RDWR)
