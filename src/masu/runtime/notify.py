"""NOTIFY_SOCKET: a container as the main process of a service that says when it is ready (sd_notify(3)).

The service manager's own socket does not go into the container. It gets one of ours, of which a single word is passed
on, as with runc:

    service manager                masu-oci run, start                container
                                   binds <state>/notify/notify.sock
                                                                 ◄─── READY=1 to /run/notify/notify.sock
      ◄── READY=1
      ◄── MAINPID=<pid of the host>
      ◄── BARRIER=1 + pipe         waits until the manager closes it
                                   closes its socket

<state>/notify is bound read-only at /run/notify by `create`, when the socket is not there yet. After READY nobody
listens any more: a send is refused, where in a queue that nobody reads it would block.
"""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket

from masu.errors import KernelError
from masu.linux import paths
from masu.spec.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.runtime.container import Container
    from masu.spec.runtime import Config

_INSIDE = "/run/notify"
_NAME = "notify.sock"
_READY = b"READY=1"
_MAX_DATAGRAM = 4096
_MAX_QUEUE = 512  # what systemd sets net.unix.max_dgram_qlen to
_SEND_S = 5.0
# sd_notify_barrier(3) came with systemd 246; whoever does not know it never closes the pipe.
_BARRIER_S = 30.0


def with_directory(config: Config, container: Container) -> Config:
    """Makes the directory for the socket; the configuration that shows it to the container. Raises KernelError."""
    directory = _make_directory(container)
    process = config.process
    if process is not None:
        process = process.replace(env=(*process.env, f"NOTIFY_SOCKET={_INSIDE}/{_NAME}"))
    return config.replace(mounts=(*config.mounts, _mount(directory)), process=process)


def _make_directory(container: Container) -> str:
    directory = _directory(container)
    try:
        os.mkdir(directory)
        os.chmod(directory, 0o755)  # for any user of the container, whatever our umask; what is above it is 0700
    except OSError as error:
        raise KernelError("mkdir", directory, error.errno or 0) from error
    return directory


def _mount(directory: str) -> Mount:
    options = ("bind", "nosuid", "noexec", "nodev", "ro")
    return Mount(destination=_INSIDE, type="bind", source=directory, options=options)


def with_mount(config: Config, container: Container) -> Config:
    """The configuration as the container has it: with the directory, if it was created with one."""
    directory = _directory(container)
    return config.replace(mounts=(*config.mounts, _mount(directory))) if os.path.isdir(directory) else config


def for_restore(config: Config, container: Container, rootfs: str, *, tree: int = -1) -> Config:
    """The same for a container to be restored, of which only the checkpoint knows: with an empty directory, to which a
    program that was ready long ago sends nothing any more, if there is a place for it in the root, which is `tree` if
    there is one. Raises KernelError."""
    if any(entry.destination.rstrip("/") == _INSIDE for entry in config.mounts):
        return config
    root = os.dup(tree) if tree >= 0 else paths.open_root(rootfs)
    try:
        if not paths.exists_in_root(root, _INSIDE + "/."):  # a directory
            return config
    finally:
        os.close(root)
    return config.replace(mounts=(*config.mounts, _mount(_make_directory(container))))


class Relay:
    """The container's socket, bound from the making on, and a connection to that of the service manager. That the
    manager could not be told is a warning: the program runs all the same."""

    __slots__ = ("_host", "_socket", "_warnings")

    def __init__(self, container: Container, host: socket, warnings: list[str]) -> None:
        self._host = host
        self._warnings = warnings
        self._socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            _bind(self._socket, _directory(container))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()
        self._host.close()

    def is_ready(self) -> bool:
        """Reads what the container has sent, as much as a queue may hold; whether it says READY=1."""
        for _ in range(_MAX_QUEUE):
            try:
                said = self._socket.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return False
            if _READY in said.split(b"\n"):
                return True
        return False

    def tell(self, main_pid: int, *, wait: bool) -> None:
        """Tells the service manager that the container is ready: `_tell`."""
        _tell(self._host, main_pid, self._warnings, wait=wait)

    def wait(self, container: Container) -> None:
        """Until the service manager knows that the container is ready, or its first process has ended."""
        pidfd = container.open_pidfd()
        try:
            poll = select.poll()
            poll.register(self._socket.fileno(), select.POLLIN)
            if pidfd is not None:
                poll.register(pidfd, select.POLLIN)
            while True:
                ended = pidfd is None or any(fd == pidfd for fd, _ in poll.poll())
                # What it said at last was there before its end was.
                if self.is_ready():
                    return self.tell(container.facts.pid, wait=True)
                if ended:
                    return None
        finally:
            if pidfd is not None:
                os.close(pidfd)


def relay(container: Container, address: str, warnings: list[str]) -> Relay | None:
    """For the service manager's socket `address`, a path or "@" and an abstract name. None when the container was made
    without one or nobody is there. Raises KernelError when the container's socket cannot be made."""
    if not os.path.isdir(_directory(container)):
        return None
    host = _connect(address, warnings)
    if host is None:
        return None
    try:
        return Relay(container, host, warnings)
    except BaseException:
        host.close()
        raise


def announce(address: str, main_pid: int, warnings: list[str], *, wait: bool) -> None:
    """Tells the service manager at `address` what nobody in the container will say again: one that was restored goes on
    where it was, and that was after its READY=1."""
    host = _connect(address, warnings)
    if host is not None:
        try:
            _tell(host, main_pid, warnings, wait=wait)
        finally:
            host.close()


def _connect(address: str, warnings: list[str]) -> socket | None:
    host = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        host.settimeout(_SEND_S)
        host.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        host.close()
        warnings.append(str(_untold(error, address)))
        return None
    return host


def _tell(host: socket, main_pid: int, warnings: list[str], *, wait: bool) -> None:
    """That the container is ready; with `wait` until the manager knows: whoever goes away earlier may be taken for
    nobody of the service."""
    barrier, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            host.send(_READY + b"\n")
            host.send(b"MAINPID=%d\n" % main_pid)
            host.sendmsg([b"BARRIER=1"], [(SOL_SOCKET, SCM_RIGHTS, theirs.to_bytes(4, "little"))])
        except OSError as error:
            warnings.append(str(_untold(error)))
        finally:
            os.close(theirs)
        if wait:
            poll = select.poll()
            poll.register(barrier, 0)  # POLLHUP alone
            poll.poll(_BARRIER_S * 1000)
    finally:
        os.close(barrier)


def _bind(sock: socket, directory: str) -> None:
    try:
        # By the directory's fd, for a unix socket's path holds 107 bytes (unix(7)).
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{fd}/{_NAME}"
            if os.path.lexists(path):
                os.unlink(path)  # of a `start` that was killed
            sock.bind(path)
            os.chmod(path, 0o777)
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError("bind", f"{directory}/{_NAME}", error.errno or 0) from error


def _untold(error: OSError, address: str = "") -> KernelError:
    # Without an errno: a path that is too long, a wait that was.
    detail = "" if error.errno else str(error)
    return KernelError("tell the service manager", address, error.errno or 0, detail=detail, where="NOTIFY_SOCKET")


def _directory(container: Container) -> str:
    return container.directory + "/notify"
