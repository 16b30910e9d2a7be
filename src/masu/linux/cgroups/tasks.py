"""The processes in a cgroup: listing, freezing, killing, waiting for the last one, removing the directory.

What tells when something has happened:

    v2, hybrid   cgroup.events ("populated", "frozen") wakes poll(2) with POLLPRI
    v1           nothing: pidfds wake for processes; freezer.state has to be read again and again

Functions here take directories; which of a container's they are given is group.py's business.
"""

from __future__ import annotations

import errno
import posix as os
import select
import time

from masu.errors import FailedPrecondition, KernelError, Unavailable
from masu.linux.cgroups.files import open_directory, read, read_fd, write
from masu.linux.cgroups.freezer import GONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SIGKILL = 9

FREEZE_DEADLINE_S = 10.0
# How often freezer.state is read while it says FREEZING: the read itself moves the state on (update_if_frozen in
# kernel/cgroup/legacy_freezer.c), and there is no event to wait for.
FREEZE_STEP_S = 0.0002
THAW_EVERY = 50


def pids(directory: str, *, recursive: bool = True) -> list[int]:
    """The processes in a cgroup and, unless told otherwise, in those below it. A vanished cgroup has none.

    Raises KernelError.
    """
    found: list[int] = []
    for path in walk(directory) if recursive else (directory,):
        try:
            text = read(None, f"{path}/cgroup.procs")
        except OSError as e:
            if e.errno in GONE:
                continue
            if e.errno != errno.EOPNOTSUPP:
                raise KernelError("read", f"{path}/cgroup.procs", e.errno or 0) from e
            # A threaded cgroup lists threads only, cgroups(7).
            try:
                text = read(None, f"{path}/cgroup.threads")
            except OSError as second:
                if second.errno in GONE:
                    continue
                raise KernelError("read", f"{path}/cgroup.threads", second.errno or 0) from second
        found.extend(int(word) for word in text.split())
    return found


def walk(directory: str) -> Iterator[str]:
    """A cgroup and all below it, parents first; what vanishes meanwhile is left out."""
    try:
        if os.stat(directory).st_nlink == 2:  # kernfs counts its directories
            yield directory
            return
        yield directory
        children = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for child in children:
        yield from walk(child)


def freeze_v1(directory: str, *, deadline_s: float = FREEZE_DEADLINE_S) -> None:
    """Stop every process. Thaws again on failure: a half-frozen container is worse than a running one.

    A v1 freezer can miss processes that are born while it works, and then stays FREEZING; thawing and starting
    over helps (runc found out, and how often). Raises KernelError, Unavailable.
    """
    file = f"{directory}/freezer.state"
    end = time.monotonic() + deadline_s
    fd = -1
    try:
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        for attempt in range(1, 1 << 30):
            os.pwrite(fd, b"FROZEN", 0)
            if read_fd(fd).strip() == "FROZEN":
                return
            if time.monotonic() > end:
                raise Unavailable(
                    "freezer",
                    directory,
                    detail=f"unable to freeze: still FREEZING after {deadline_s:g} s",
                    hint="a process in uninterruptible sleep (state D) cannot be frozen on cgroup v1",
                )
            if attempt % THAW_EVERY == 0:
                os.pwrite(fd, b"THAWED", 0)
            time.sleep(FREEZE_STEP_S)
    except BaseException as e:
        try:
            if fd >= 0:
                os.pwrite(fd, b"THAWED", 0)
        except OSError:
            pass  # gone
        if isinstance(e, OSError):
            raise KernelError("write", file, e.errno or 0, detail="value 'FROZEN'") from e
        raise
    finally:
        if fd >= 0:
            os.close(fd)


def thaw_v1(directory: str) -> None:
    """A cgroup that is gone is no error: nobody is left to be thawed."""
    _thaw(directory, "freezer.state", "THAWED")


def freeze_v2(directory: str, *, deadline_s: float = FREEZE_DEADLINE_S) -> None:
    """Stop every process and wait for the event that says so. Thaws again on failure.

    Raises KernelError, Unavailable.
    """
    _write_or_raise(directory, "cgroup.freeze", "1")
    try:
        if not wait_event(directory, "frozen", "1", deadline_s):
            raise Unavailable(
                "freezer",
                directory,
                detail=f'unable to freeze: no "frozen 1" after {deadline_s:g} s',
                hint="a process in uninterruptible sleep (state D) cannot be frozen",
            )
    except BaseException:
        try:
            write_in(directory, "cgroup.freeze", "0")
        except OSError:
            pass  # gone
        raise


def thaw_v2(directory: str) -> None:
    _thaw(directory, "cgroup.freeze", "0")


def _thaw(directory: str, file: str, value: str) -> None:
    try:
        _write_or_raise(directory, file, value)
    except KernelError as e:
        if e.errno not in GONE:
            raise


def events(directory: str) -> dict[str, str]:
    """cgroup.events as a dict; empty when the cgroup is gone. Raises KernelError."""
    try:
        return _pairs(read(None, f"{directory}/cgroup.events"))
    except OSError as e:
        if e.errno in GONE:
            return {}
        raise KernelError("read", f"{directory}/cgroup.events", e.errno or 0) from e


def wait_event(directory: str, key: str, wanted: str, deadline_s: float) -> bool:
    """Wait until cgroup.events says `key wanted`; False at the deadline. A cgroup that is gone counts as there."""
    end = time.monotonic() + deadline_s
    try:
        fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in GONE:
            return True
        raise KernelError("open", f"{directory}/cgroup.events", e.errno or 0) from e
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while True:
            # Reading arms the event: what changes from here on wakes poll (kernfs_fop_poll).
            if _pairs(read_fd(fd)).get(key) == wanted:
                return True
            left_ms = (end - time.monotonic()) * 1000
            if left_ms <= 0:
                return False
            poller.poll(left_ms)
    except OSError as e:
        if e.errno in GONE:
            return True
        raise KernelError("read", f"{directory}/cgroup.events", e.errno or 0) from e
    finally:
        os.close(fd)


def _pairs(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition(" ") for line in text.splitlines())}


def kill_v2(directory: str) -> bool:
    """SIGKILL for all, at once and for children being born (cgroup.kill, Linux 5.14). False where there is no such
    file: older, or the cgroup is threaded or gone."""
    try:
        write_in(directory, "cgroup.kill", "1")
    except OSError as e:
        if e.errno in (*GONE, errno.EOPNOTSUPP):
            return False
        raise KernelError("write", f"{directory}/cgroup.kill", e.errno or 0) from e
    return True


def signal_all(targets: Iterable[int], number: int) -> int:
    """Send a signal to each process; how many there were to get it. Raises KernelError (EPERM)."""
    sent = 0
    for pid in targets:
        try:
            os.kill(pid, number)
            sent += 1
        except ProcessLookupError:
            continue
        except OSError as e:
            raise KernelError("kill", str(pid), e.errno or 0) from e
    return sent


def wait_exits(directory: str, deadline_s: float) -> bool:
    """Wait until a v1 cgroup and those below hold no process, by pidfds; False at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        left = pids(directory)
        if not left:
            return True
        poller = select.poll()
        fds: list[int] = []
        try:
            for pid in left[:512]:  # few enough for any RLIMIT_NOFILE; the rest waits for the next turn
                try:
                    fd = os.pidfd_open(pid)
                except OSError as e:
                    if e.errno in (errno.EMFILE, errno.ENFILE) and fds:
                        break
                    # ESRCH: gone meanwhile. EINVAL: a thread of a threaded cgroup, whose leader is listed, too.
                    continue
                fds.append(fd)
                poller.register(fd, select.POLLIN)
            pending = set(fds)
            while pending:
                left_ms = (end - time.monotonic()) * 1000
                ready = poller.poll(left_ms) if left_ms > 0 else []
                if not ready:
                    return not pids(directory)
                for fd, _ in ready:
                    poller.unregister(fd)
                    pending.discard(fd)
        finally:
            for fd in fds:
                os.close(fd)
        if not fds:
            # Everything listed has exited but is still counted: the kernel takes it off the list a moment later.
            if time.monotonic() > end:
                return not pids(directory)
            time.sleep(0.0005)


def remove(directory: str, deadline_s: float, *, events_directory: str | None) -> None:
    """Remove a cgroup and all below it, waiting for processes that are on their way out. A vanished one is fine.

    `events_directory`: where cgroup.events tells of the container's processes (itself on v2, the cgroup2 twin on a
    hybrid machine, None on plain v1). Raises FailedPrecondition when processes are left at the deadline,
    KernelError.
    """
    end = time.monotonic() + deadline_s
    while True:
        error = rmdir(directory)
        if error is None:
            return
        if error.errno != errno.EBUSY:
            raise KernelError("rmdir", directory, error.errno or 0) from error
        # Busy: groups below, or processes. Reading only where the quick way has failed.
        for child in reversed(list(walk(directory))[1:]):
            rmdir(child)
        error = rmdir(directory)
        if error is None:
            return
        left_s = end - time.monotonic()
        left = pids(directory)
        if left_s <= 0:
            shown = " ".join(str(pid) for pid in left[:10])
            raise FailedPrecondition(
                "cgroup",
                directory,
                errno.EBUSY,
                syscall="rmdir",
                detail=f"{len(left)} process(es) left: {shown}" if left else "busy without processes",
                hint="kill them first; one in state D (uninterruptible sleep) must come out of it by itself",
            ) from error
        if events_directory is not None and left:
            if events_directory != directory and events(events_directory).get("populated") != "1":
                wait_exits(directory, left_s)  # somebody moved them out of the twin
            else:
                wait_event(events_directory, "populated", "0", left_s)
        elif left:
            wait_exits(directory, left_s)
        else:
            # Counted but not listed any more: exiting tasks, for microseconds. No event tells of it.
            time.sleep(0.0005)


def rmdir(directory: str) -> OSError | None:
    """One rmdir(2): None if the directory is gone now."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return None
    except OSError as e:
        return e
    return None


def write_in(directory: str, file: str, value: str) -> None:
    fd = open_directory(directory)
    try:
        write(fd, file, value)
    finally:
        os.close(fd)


def _write_or_raise(directory: str, file: str, value: str) -> None:
    try:
        write_in(directory, file, value)
    except OSError as e:
        raise KernelError("write", f"{directory}/{file}", e.errno or 0, detail=f"value {value!r}") from e
