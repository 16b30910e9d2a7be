"""Fds that leave for somebody's unix socket: a pidfd, a seccomp listener with the state beside it."""

from __future__ import annotations

from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from errno import ENAMETOOLONG

from masu.errors import KernelError
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import LinuxSeccomp


def connect(path: str, where: str, what: str = "connect") -> socket:
    """A stream connection to the socket at `path`. Raises KernelError with the place that named it."""
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        if len(path.encode()) > 107:
            hint = "a unix socket's path holds at most 107 bytes; give a shorter one, or a symlink"
            raise KernelError(what, path, ENAMETOOLONG, where=where, hint=hint) from error
        raise KernelError(what, path, error.errno or 0, where=where, hint="is somebody listening?") from error
    return sock


def send(path: str, where: str, payload: bytes, fd: int, what: str = "connect") -> None:
    """Connects, sends `payload` with `fd` beside it, hangs up. `what` names the connecting in an error."""
    sock = connect(path, where, what)
    try:
        sock.sendmsg([payload], [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, "little"))])
    except OSError as error:
        raise KernelError("sendmsg", path, error.errno or 0, where=where) from error
    finally:
        sock.close()


def send_pidfd(path: str, pidfd: int) -> None:
    """As runc's --pidfd-socket: one message, the word "pidfd" with the fd."""
    send(path, "--pidfd-socket", b"pidfd", pidfd)


def send_listener(seccomp: LinuxSeccomp, state: dict[str, object], pid: int, fd: int) -> None:
    """The container process state of config-linux.md ("The Container Process State") with the listener's fd; `pid`
    is of the process that is filtered, in an exec another than the container's."""
    document = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.listener_metadata or "",
        "state": state,
    }
    payload = jsontext.dumps(document).encode()
    what = "failed to connect with seccomp agent"  # runc's words, which its callers match on
    send(seccomp.listener_path or "", "linux.seccomp.listenerPath", payload, fd, what)
