"""containerd-shim-masu-v2: how containerd runs its containers with masu.

    containerd                 shim start            shim serve                       masu-launch
      create a container
      ── start ──────────────► lock
                               a shim serves the
                               namespace already?
                               no: bind, listen
                               ── spawn ───────────► (with the socket)
                               yes: "one more comes" ─► Expect
      ◄── its address ──────── unlock
      ── Create, Start … ─────────────────────────► ── plan ───────────────────────► monitor, container
      ◄── events ────────────────────────────────── ◄── 'x' status ────────────────── ends
      ── Delete, Shutdown ────────────────────────► the last one? soon: lock, unlink, leave
      ── delete ─────────────► nothing is left, whoever was killed

The socket's file is made and removed under a lock beside it, so `start` never answers with one that is about to go.
"""

from __future__ import annotations

import _signal
import gc
import os
import sys
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from masu.errors import InvalidArgument, KernelError, MasuError, NotFound, Unavailable
from masu.linux import fds, procfs, spawn
from masu.runtime.container import check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from masu.api.proto import small
    from masu.api.shim.bootstrap import Start
    from masu.api.shim.tasks import Tasks
    from masu.api.ttrpc.loop import Loop
    from masu.api.ttrpc.server import Call, Method, Server

PROGRAM = "containerd-shim-masu-v2"
SERVICE = "masu.shim.v1.Shim"  # our own beside containerd's: Expect, by which `start` announces a container
VERSION = "0.1.0"

_MAX_INPUT = 10 << 20
_BACKLOG = 128
_MAX_OOM_SCORE_ADJ = 1000
_EXPECTED_FOR_S = 60.0
_RETRY_S = 0.05
# After the last container: who runs one after the other need not wait for an interpreter each time.
_LINGER_S = 3.0
_FLUSH_S = 5.0

# name: whether it takes a value. Go's flag package takes one dash or two.
_FLAGS = {
    "namespace": True, "id": True, "address": True, "publish-binary": True, "bundle": True, "socket": True,
    "debug-socket": True, "listener": True, "debug": False, "v": False, "version": False, "info": False,
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    try:
        flags, words = _parse(argv)
        if "v" in flags or "version" in flags:
            print(f"{PROGRAM}:\n  Version:  {VERSION}\n  Python:   {sys.version.split()[0]}")
            return 0
        if "info" in flags:
            return _info()
        if "namespace" not in flags or not flags["namespace"]:
            raise InvalidArgument("namespace", where="-namespace", detail="shim namespace cannot be empty")
        verb = words[0] if words else "serve"
        check_id(flags["namespace"])
        check_id(flags.get("id", ""))
        if verb == "start":
            return _start(flags)
        if verb == "delete":
            return _delete(flags)
        if verb == "serve":
            _serve(flags)
        raise InvalidArgument("verb", verb, detail="start and delete are known")
    except (MasuError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1


def _parse(args: Sequence[str]) -> tuple[dict[str, str], Sequence[str]]:
    flags: dict[str, str] = {}
    at = 0
    while at < len(args) and args[at].startswith("-") and len(args[at]) > 1:
        name, equals, value = args[at].lstrip("-").partition("=")
        at += 1
        if name not in _FLAGS:
            raise InvalidArgument("flag", f"-{name}", detail="flag provided but not defined")
        if _FLAGS[name] and not equals:
            if at == len(args):
                raise InvalidArgument("flag", f"-{name}", detail="flag needs an argument")
            value, at = args[at], at + 1
        flags[name] = value
    return flags, args[at:]


# --- start ---


def _start(flags: Mapping[str, str]) -> int:
    from masu.api.shim.bootstrap import Start

    start = Start(flags, os.environ, fds.read_all(0, _MAX_INPUT, "standard input"))
    path = start.socket(os.getcwd())
    fds.private_directory(os.path.dirname(path))
    with fds.Lock(path + ".lock"):
        if not _serves(path, start.id):
            _launch(start, path)
    # containerd reads it there when it is started anew, until 1.7; later ones keep the answer themselves.
    fds.atomic_write("address", f"unix://{path}".encode(), 0o600, sync=False)
    os.write(1, start.answer(path))
    return 0


def _serves(path: str, id: str) -> bool:
    """Whether a shim serves there, and will wait for the container `id`."""
    from masu.api.proto import small
    from masu.api.ttrpc.client import Client

    try:
        with Client(path) as client:
            client.call(SERVICE, "Expect", small.ConnectRequest(id=id), small.ConnectResponse)
    except Unavailable:
        return False
    return True


def _launch(start: Start, path: str) -> None:
    """A shim that listens at `path`. containerd may connect at once: the calls wait until it is there."""
    _unlink(path)
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        os.fchmod(listener.fileno(), 0o600)  # the mode that the file gets
        listener.bind(path)
        listener.listen(_BACKLOG)
        flags = ["-namespace", start.namespace, "-id", start.id, "-address", start.address, "-socket", path]
        flags += ["-listener", str(listener.fileno()), *(["-debug"] if start.debug else [])]
        # One arena of malloc for all threads: each one's own would be memory that nobody uses.
        environment = {**os.environ, "TTRPC_ADDRESS": start.ttrpc_address, "MALLOC_ARENA_MAX": "1"}
        words = [sys.executable, "-SIE", "-X", "utf8", f"{_package()}/__main__.py", PROGRAM, *flags, "serve"]
        pid = _spawn(words, environment, listener.fileno())
        try:
            _place(pid, start.options.shim_cgroup)
        except BaseException:
            os.kill(pid, _signal.SIGKILL)
            raise
    except BaseException:
        _unlink(path)
        raise
    finally:
        listener.close()


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _spawn(words: list[str], environment: Mapping[str, str], listener: int) -> int:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        stdio = (null, null, null)
        return spawn.spawn(sys.executable, words, environment, keep=(listener,), stdio=stdio, new_session=True, cwd="/")
    finally:
        os.close(null)


def _place(pid: int, cgroup: str) -> None:
    """Where the shim lives, and that the kernel spares containerd before it."""
    if cgroup:
        from masu.linux import cgroups

        for path in set(cgroups.predict(cgroup, "").values()):
            _write(f"{path}/cgroup.procs", str(pid))
    with open(f"/proc/{procfs.stat(spawn.caller_pid()).ppid}/oom_score_adj") as file:
        score = min(int(file.read()) + 1, _MAX_OOM_SCORE_ADJ)
    try:
        _write(f"/proc/{pid}/oom_score_adj", str(score))
    except KernelError:
        pass  # lowering it wants CAP_SYS_RESOURCE, which we may lack


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise KernelError("write", path, error.errno or 0) from error


# --- delete, info ---


def _delete(flags: Mapping[str, str]) -> int:
    from masu.api.shim import remains
    from masu.api.shim.records import ROOT_FILE, RUN_ROOT

    bundle = flags.get("bundle") or os.path.join(os.path.dirname(os.getcwd()), flags["id"])
    _forget_socket(bundle)
    root = f"{RUN_ROOT}/{flags['namespace']}"
    if os.path.exists(f"{bundle}/{ROOT_FILE}"):
        root = fds.read_bounded(f"{bundle}/{ROOT_FILE}", 4096).decode()
    response, warnings = remains.clear(root, flags["id"], bundle)
    for warning in warnings:
        print(f"{PROGRAM}: {warning}", file=sys.stderr)
    os.write(1, response.encode())
    return 0


def _forget_socket(bundle: str) -> None:
    """Removes the socket of a shim that was killed."""
    try:
        path = fds.read_bounded(f"{bundle}/address", 256).decode().removeprefix("unix://")
        lock = fds.lock_file(path + ".lock", wait=False, create=False)
    except (FileNotFoundError, Unavailable):
        return
    try:
        if not _is_served(path):
            _unlink(path, path + ".lock")
    finally:
        os.close(lock)


def _is_served(path: str) -> bool:
    """Whether a shim listens there that will go on: of one that was killed, the socket is the last to be closed."""
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        probe.connect(path)
        shim = procfs.stat(fds.peer_of(probe)[0])
    except OSError:
        return False
    except NotFound:
        return True  # `start` has listened, and has left; the shim is about to
    finally:
        probe.close()
    return not shim.is_ending


def _unlink(*paths: str) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def _info() -> int:
    from masu.api.proto import small
    from masu.api.shim import options as wanted
    from masu.runtime import features
    from masu.spec import jsontext

    data = fds.read_all(0, _MAX_INPUT, "standard input")
    options = small.Any.decode(data) if data else None
    wanted.runtime_options(options)
    found = small.Any(
        type_url="types.containerd.io/opencontainers/runtime-spec/1/features/Features",
        value=jsontext.dumps(features.features()).encode(),
    )
    version = small.RuntimeVersion(version=VERSION)
    os.write(
        1, small.RuntimeInfo(name="io.containerd.masu.v2", version=version, options=options, features=found).encode()
    )
    return 0


# --- serve ---


def _serve(flags: Mapping[str, str]) -> NoReturn:
    from masu.api.shim import sandbox
    from masu.api.shim.publisher import Publisher
    from masu.api.shim.tasks import SERVICES, Tasks
    from masu.api.ttrpc.loop import Loop
    from masu.api.ttrpc.server import Server

    listener = socket(fileno=int(flags["listener"]))
    os.set_inheritable(listener.fileno(), False)
    listener.listen(_BACKLOG)  # once more: from now on it is ours for who asks whose it is (SO_PEERCRED)
    listener.setblocking(False)
    base, log = os.environ.get("TTRPC_ADDRESS", ""), Log(debug="debug" in flags)
    loop = Loop(log.fault)
    publisher = Publisher(base, flags["namespace"], lambda text: log.write("", "warning", text))
    tasks = Tasks(loop, publisher, flags["namespace"], idle=lambda: loop.call(shim.leave_soon), log=log.write)
    server = Server(loop, listener, log.fault)
    shim = Shim(loop, server, tasks, flags["socket"])
    tasks.expected[flags["id"]] = time.monotonic()
    methods = tasks.methods()
    for service in SERVICES:
        server.add(service, methods)
    server.add(sandbox.SERVICE, sandbox.Sandboxes(tasks, idle=lambda: loop.call(shim.leave_soon)).methods())
    server.add(SERVICE, shim.methods())
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, lambda *_: shim.stop())
    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
    gc.enable()
    gc.freeze()
    loop.run()
    shim.forget_socket()
    publisher.flush(_FLUSH_S)
    os._exit(0)


class Shim:
    """The process itself: who comes, and when it may leave."""

    def __init__(self, loop: Loop, server: Server, tasks: Tasks, path: str) -> None:
        self._loop = loop
        self._server = server
        self._tasks = tasks
        self._path = path

    def methods(self) -> dict[str, Method]:
        from masu.api.proto import small
        from masu.api.ttrpc.server import Method

        return {"Expect": Method(small.ConnectRequest, self.expect)}

    def expect(self, request: small.ConnectRequest, _: Call) -> small.ConnectResponse:
        from masu.api.proto import small

        self._tasks.expected[request.id] = time.monotonic()
        self._loop.later(_EXPECTED_FOR_S, self._leave)
        return small.ConnectResponse(shim_pid=os.getpid())

    def leave_soon(self) -> None:
        """In a while, unless somebody comes."""
        self._loop.later(_LINGER_S, self._leave)

    def _leave(self) -> None:
        """If nobody is here and nobody is to come."""
        if self._is_needed():
            return
        if self._loop.is_busy:  # an answer may be on its way
            self._loop.later(_RETRY_S, self._leave)
            return
        try:
            lock = fds.lock_file(self._path + ".lock", wait=False)
        except Unavailable:  # somebody comes, perhaps
            self._loop.later(_RETRY_S, self._leave)
            return
        self._forget(lock)
        self.stop()

    def _forget(self, lock: int) -> None:
        _unlink(self._path, self._path + ".lock")
        os.close(lock)
        self._path = ""

    def forget_socket(self) -> None:
        """When it was told to end: nobody is to find it there. Somebody who comes at this moment will remove it."""
        if self._path:
            try:
                self._forget(fds.lock_file(self._path + ".lock", wait=False))
            except Unavailable:
                pass

    def _is_needed(self) -> bool:
        since = time.monotonic() - _EXPECTED_FOR_S
        expected = self._tasks.expected
        for id in [id for id, when in expected.items() if when < since]:
            del expected[id]
        return bool(self._tasks.count or expected)

    def stop(self) -> None:
        self._loop.stop()
        self._loop.wake()


class Log:
    """Lines in the form of containerd's own, into the FIFO that containerd reads for each bundle."""

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug
        self._last = ""

    def write(self, bundle: str, level: str, text: str) -> None:
        """About a container, or about none."""
        from masu.spec import jsontext, times

        if level == "debug" and not self._debug:
            return
        self._last = bundle or self._last
        line = f"time={jsontext.dumps(times.now())} level={level} msg={jsontext.dumps(text)} runtime=masu\n"
        try:
            fd = os.open(f"{self._last}/log", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # containerd is away, or has removed it
        try:
            os.write(fd, line.encode())
        except OSError:
            pass
        finally:
            os.close(fd)

    def fault(self, error: BaseException) -> None:
        """What should not have happened, with where it did; of masu's kinds, what they say."""
        text = str(error)
        if not isinstance(error, MasuError):
            try:
                import traceback  # never, it is hoped

                text = "".join(traceback.format_exception(error))
            except OSError:  # no descriptor to read it by
                text = f"{type(error).__name__}: {error}"
        self.write("", "error", text)
