"""`criu swrk`: a CRIU that serves one client over a socket and ends (criu's images/rpc.proto, criu.org/RPC).

    masu-oci                                    criu swrk FD
      ─── request: DUMP | PRE_DUMP | RESTORE, options ──►
      ◄── NOTIFY: "setup-namespaces", "post-dump", …, pid, perhaps with an fd
      ─── NOTIFY, success or not ───────────────────────►     not: it undoes what it has done
      ◄── answer: success, errno
      ─── hangs up ─────────────────────────────────────►     it exits

CRIU opens the directories of images and logs through /proc/<our pid>/fd: their numbers are ours. Numbers of fds to
inherit are its own; those in `keep` are the same on both sides. With `rst_sibling` what is restored is our child.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket, socketpair
from _thread import allocate_lock, start_new_thread

from masu.errors import DataLoss, FailedPrecondition, KernelError, MasuError, Unavailable
from masu.linux import fds, namespaces, process, spawn
from masu.runtime.criu import wire
from masu.runtime.criu.wire import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.runtime.criu.wire import Value

    # (script, pid or 0, fds that came with it, which the caller closes)
    Notify = Callable[[str, int, list[int]], None]

# criu_req_type
DUMP = 1
RESTORE = 2
PRE_DUMP = 4
_NOTIFY = 6
_FEATURE_CHECK = 9
_VERSION = 10
_NAMES = {
    DUMP: "DUMP", RESTORE: "RESTORE", PRE_DUMP: "PRE_DUMP", _NOTIFY: "NOTIFY", _FEATURE_CHECK: "FEATURE_CHECK",
    _VERSION: "VERSION",
}  # fmt: skip

# criu_cg_mode: the words of --manage-cgroups-mode; without one it is CRIU's own choice (soft).
CGROUP_MODES = {"": 6, "soft": 3, "full": 4, "strict": 5, "ignore": 0}

# criu_network_lock_method: the words of --network-lock, which is crun's; without one it is CRIU's own choice.
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}

# criu_features -> runc's name for it
_FEATURES = {"MemTrack": 1, "LazyPages": 2}

# criu_opts
_OPTIONS = {
    "images_dir_fd": 1, "pid": 2, "leave_running": 3, "ext_unix_sk": 4, "tcp_established": 5, "evasive_devices": 6,
    "shell_job": 7, "file_locks": 8, "log_level": 9, "log_file": 10, "ps": 11, "notify_scripts": 12, "root": 13,
    "parent_img": 14, "track_mem": 15, "auto_dedup": 16, "work_dir_fd": 17, "link_remap": 18, "ext_mnt": 23,
    "manage_cgroups": 24, "cg_root": 25, "rst_sibling": 26, "inherit_fd": 27, "manage_cgroups_mode": 34,
    "external": 37, "empty_ns": 38, "join_ns": 39, "freeze_cgroup": 44, "tcp_skip_in_flight": 46, "lazy_pages": 48,
    "orphan_pts_master": 50, "config_file": 51, "tcp_close": 52, "lsm_profile": 53, "lsm_mount_context": 63,
    "network_lock": 64,
}  # fmt: skip

# External PID namespaces, and "status-ready", came with 3.15 (2020).
_LEAST_VERSION = (3, 15)
_MAX_MESSAGE = 1 << 16
_MAX_FDS = 4
_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Failed(FailedPrecondition):
    """CRIU's own failure: its log says more."""


class Options:
    """The criu_opts of a request, by the names of rpc.proto; a name that is not in the table is a KeyError."""

    __slots__ = ("_fields",)

    def __init__(self, **values: Value) -> None:
        self._fields: list[tuple[int, Value]] = []
        self.set(**values)

    def set(self, **values: Value) -> None:
        self._fields += [(_OPTIONS[name], value) for name, value in values.items()]

    def add(self, name: str, *fields: Value) -> None:
        """One more of a repeated message, whose fields are numbered from 1."""
        self._fields.append((_OPTIONS[name], wire.encode(enumerate(fields, 1))))

    def encode(self) -> bytes:
        return wire.encode(self._fields)


def find() -> str:
    """The path of criu, as runc finds it: in PATH. Raises Unavailable."""
    if path := spawn.find("criu", _PLACES):
        return path
    raise Unavailable("criu", detail="executable file not found in $PATH", hint="install the package criu")


def pair() -> tuple[socket, socket]:
    """Our end, and CRIU's: it takes us for its client, whoever starts it."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)


class Criu:
    """One running `criu swrk`, for `with`: at the end it has exited. Without `stdio` what it says before it has a log
    is kept for errors; a restore gives it what the restored process shall have. With `no_new_privileges` neither it nor
    what it restores can gain privileges: CRIU itself has kept that since 3.19 only."""

    __slots__ = ("_said", "_socket", "pid")

    def __init__(
        self,
        path: str,
        *,
        keep: tuple[int, ...] = (),
        stdio: tuple[int, int, int] | None = None,
        no_new_privileges: bool = False,
    ) -> None:
        self._said = os.memfd_create("criu", os.MFD_CLOEXEC)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._socket, theirs = pair()
        try:
            arguments = ["criu", "swrk", str(theirs.fileno())]
            kept = (theirs.fileno(), *keep)
            given = stdio or (null, self._said, self._said)

            def start() -> int:
                return spawn.spawn(path, arguments, os.environ, keep=kept, stdio=given)

            self.pid = _without_privileges(start) if no_new_privileges else start()
        except BaseException:
            self._socket.close()
            os.close(self._said)
            raise
        finally:
            os.close(null)
            theirs.close()

    def __enter__(self) -> Criu:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        os.close(self._said)

    def _end(self) -> int:
        """Hangs up and waits for its end; the wait status."""
        self._socket.close()
        pid, self.pid = self.pid, 0
        return spawn.wait(pid)[1] if pid else 0

    def require(self, *features: str) -> None:
        """Raises Unavailable when it is too old, FailedPrecondition when it or the kernel lacks one of `features`,
        "MemTrack" or "LazyPages"."""
        answer = self._ask(_VERSION, [(4, True)]).message(10)
        version = (answer.number(1), answer.number(2)) if answer is not None else (0, 0)
        if version < _LEAST_VERSION:
            least, seen = (".".join(map(str, numbers)) for numbers in (_LEAST_VERSION, version))
            raise Unavailable("criu", seen, detail=f"at least {least} is needed")
        if not features:
            return
        asked = wire.encode((_FEATURES[name], True) for name in features)
        there = self._ask(_FEATURE_CHECK, [(4, True), (5, asked)]).message(8)
        missing = [name for name in features if there is None or not there.number(_FEATURES[name])]
        if missing:
            raise FailedPrecondition(
                f"criu is missing features: [{' '.join(missing)}]",
                detail="this kernel, or this criu, does not offer it",
                hint="criu check --all tells what it can do here",
            )

    def _ask(self, kind: int, fields: list[tuple[int, Value]]) -> Message:
        self._send([(1, kind), *fields])
        answer, _ = self._receive()
        _check(answer)
        return answer

    def run(self, kind: int, options: Options, notify: Notify) -> None:
        """DUMP, PRE_DUMP or RESTORE. What `notify` raises is passed on when CRIU has undone what it had done.

        Raises Failed, also when CRIU ended without an answer.
        """
        self._send([(1, kind), (2, options.encode())])
        refusals: list[MasuError | OSError] = []
        try:
            answer = self._converse(notify, refusals)
        except Failed as error:
            if refusals:
                raise refusals[0] from error
            raise
        if refusals:
            raise refusals[0]
        _check(answer)

    def _converse(self, notify: Notify, refusals: list[MasuError | OSError]) -> Message:
        """Until the answer; what `notify` raises goes to `refusals`, and after that it is not called any more."""
        while True:
            answer, received = self._receive()
            try:
                if answer.number(1) != _NOTIFY:
                    return answer
                called = answer.message(5)
                if called is not None and not refusals:
                    try:
                        notify(called.text(1), called.number(2), received)
                    except (MasuError, OSError) as error:
                        refusals.append(error)
            finally:
                for fd in received:
                    os.close(fd)
            self._send([(1, _NOTIFY), (3, not refusals)])

    def _send(self, fields: list[tuple[int, Value]]) -> None:
        try:
            fds.send_fds(self._socket, wire.encode(fields))
        except KernelError as error:
            raise self._gone() from error

    def _receive(self) -> tuple[Message, list[int]]:
        try:
            data, received = fds.receive_fds(self._socket, _MAX_MESSAGE, _MAX_FDS)
        except KernelError as error:
            raise self._gone() from error
        if not data:
            raise self._gone()
        return Message(data), received

    def _gone(self) -> Failed:
        status = os.waitstatus_to_exitcode(self._end())
        how = f"exit status {status}" if status >= 0 else f"killed by signal {-status}"
        said = os.pread(self._said, 4096, 0).decode("utf-8", "replace").strip().splitlines()
        last = f": {said[-1]}" if said else ""
        hint = "criu check tells whether it works here"
        return Failed("criu", detail=f"it ended without an answer: {how}{last}", hint=hint)


class Lent(Criu):
    """One that somebody else has started and waits for; `socket` is our end."""

    __slots__ = ()

    def __init__(self, ours: socket, pid: int) -> None:
        self._said = os.memfd_create("criu", os.MFD_CLOEXEC)
        self._socket = ours
        self.pid = pid

    def _end(self) -> int:
        self._socket.close()
        return 0


def _without_privileges(start: Callable[[], int]) -> int:
    """`start` called where no privileges can be gained any more: in a thread that ends with it, since there is no way
    back. What it raises is raised."""
    done = allocate_lock()
    results: list[int] = []
    failures: list[MasuError] = []

    def body() -> None:
        try:
            # A thread that shares these with another cannot join a mount namespace (setns(2)), as our caller is to.
            namespaces.unshare(namespaces.CLONE_FS)
            process.gain_no_privileges()
            results.append(start())
        except MasuError as error:
            failures.append(error)
        finally:
            done.release()

    done.acquire()
    start_new_thread(body, ())
    done.acquire()
    if failures:
        raise failures[0]
    return results[0]


def _check(answer: Message) -> None:
    kind = answer.number(1)
    if kind not in _NAMES:
        raise DataLoss("criu", f"answer of type {kind}", detail="unknown type")
    if not answer.number(2):
        # The words before the colon are runc's, which its callers match on.
        what = f"criu failed: type {_NAMES[kind]} errno {answer.number(7)}"
        raise Failed(what, detail=answer.text(9).strip())
