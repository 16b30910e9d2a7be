"""Applying one layer: blob -> decompression -> sha256 and a confined worker, all at the same time.

    reader thread      blob fd ─ gzip (isal) / zstd / plain ─> chunks ─┬─> hash thread: sha256 -> diff_id
                                                                        └─> this thread: pipe -> masu-unpack (C)

The compressed bytes were checked by the store. The worker gets a stream and two mounts, as descriptors: the directory
to fill and, read-only, what is below it; it moves itself into the first (native/unpack/confine.c). It never sees the
blob, a digest or a path. What it reports is parsed as strictly as anything from outside.

Why the worker is C: not for its speed alone. The same calls made by a Python loop (os.open, os.write, os.utime with
dir_fd, a bare tar parser) took as long for 50,000 files, 2.4 s against 2.2, and for 1 GB, 3.3 s against 2.9, since
most of it is the file system's time and decompression's; with the walks, the PAX records and the whiteouts it would
not have stayed there. But an interpreter cannot be held to forty system calls in an empty root directory, takes 15 ms
and 10 MB where this takes 1 ms and 2 MB for each of an image's twenty layers, and the parser that strangers write for
can be run under sanitizers and a fuzzer here.
"""

from __future__ import annotations

import os
import threading

from masu.errors import DataLoss, FailedPrecondition, InvalidArgument, KernelError, NotFound, ResourceExhausted
from masu.linux import mount, namespaces, spawn
from masu.snapshots.mounted import detached
from masu.snapshots.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from masu.spec.image import Descriptor
    from masu.store import NamespaceStore

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PIPE_BYTES = 1 << 20
# Larger ones are mapped and unmapped by malloc each time: three times the system time (glibc, M_MMAP_THRESHOLD).
_CHUNK = 256 << 10
# How far decompression may run ahead of the slower of hash and worker.
_AHEAD = 32
# The longest report: its fixed lines and a path of 4095 bytes in hex.
_REPORT_BYTES = 16384
_F_SETPIPE_SZ = 1031


class Limits:
    """What one layer may hold at most; beyond it is ResourceExhausted, found while unpacking."""

    __slots__ = ("bytes", "entries")

    def __init__(self, entries: int = 10_000_000, bytes: int = 1 << 40) -> None:
        self.entries = entries
        self.bytes = bytes


class Applied:
    """What came of a layer. `bytes` and `entries` are those of the files in it; xattrs that the file system or our
    rules do not take, and devices that a user namespace cannot make, are counted and left out."""

    __slots__ = ("bytes", "diff_id", "entries", "skipped_devices", "skipped_xattrs", "stream_bytes")

    def __init__(self, diff_id: str, stream_bytes: int, counts: tuple[int, int, int, int]) -> None:
        self.diff_id = diff_id
        self.stream_bytes = stream_bytes
        self.entries, self.bytes, self.skipped_xattrs, self.skipped_devices = counts


def worker_path() -> str:
    """Where masu-unpack was built or installed. Raises NotFound with what to do."""
    path = _PACKAGE + "/libexec/masu-unpack"
    if not os.access(path, os.X_OK):
        raise NotFound("program", path, detail="masu-unpack has not been built", hint="in a checkout, run ./masu once")
    return path


def apply_layer(
    ns: NamespaceStore,
    layer: Descriptor,
    mounts: Sequence[Mount],
    *,
    limits: Limits | None = None,
    advance: Callable[[int], None] | None = None,
) -> Applied:
    """Unpacks the blob of `layer` into the active snapshot with these mounts (those of `prepare`).

    `advance` is told how many compressed bytes were read since it was told last. Raises NotFound for the blob,
    InvalidArgument for a layer that is no proper tar or tries to leave its directory, DataLoss for a broken
    compressed stream, ResourceExhausted for a full disk or beyond `limits`. The snapshot is to be thrown away then.
    """
    from masu.spec.image import layer_compression

    blob = ns.content.open(layer.digest)
    try:
        return apply_stream(
            blob, layer_compression(layer.media_type), mounts, name=layer.digest, limits=limits, advance=advance
        )
    finally:
        os.close(blob)


def apply_stream(
    blob: int,
    compression: str,
    mounts: Sequence[Mount],
    *,
    name: str = "",
    limits: Limits | None = None,
    advance: Callable[[int], None] | None = None,
) -> Applied:
    """Like apply_layer, from an open file: `compression` is "gzip", "zstd" or ""."""
    bounds = limits or Limits()
    if len(mounts) != 1:
        raise InvalidArgument("mounts", len(mounts), detail="one mount of the root is expected")
    tree, lower, whiteouts = _open_tree(mounts[0])
    stream = report = -1
    pid = 0
    worker_stream = worker_report = -1
    try:
        worker_stream, stream = os.pipe2(os.O_CLOEXEC)
        report, worker_report = os.pipe2(os.O_CLOEXEC)
        _enlarge(stream)
        argv = ["masu-unpack", "--root", str(tree), "--whiteouts", whiteouts]
        argv += ["--entries", str(bounds.entries), "--bytes", str(bounds.bytes), "--parent", str(spawn.caller_pid())]
        if lower >= 0:
            argv += ["--lower", str(lower)]
        if not namespaces.in_initial_user_namespace():
            argv.append("--skip-devices")  # nobody can make them there (user_namespaces(7))
        keep = [fd for fd in (tree, lower) if fd >= 0]
        pid = spawn.spawn(worker_path(), argv, {}, keep=keep, stdio=(worker_stream, worker_report, 2))
        os.close(worker_stream)
        os.close(worker_report)
        worker_stream = worker_report = -1
        pump = _Pump(stream, _chunks(blob, compression, name, advance or _ignore))
        try:
            pump.run()
        finally:
            os.close(stream)
            stream = -1
        said = _read_report(report)
        pid, status = 0, _wait(pid)
        counts = _understand(said, status, name)
        return Applied("sha256:" + pump.digest, pump.size, counts)
    finally:
        for fd in (tree, lower, stream, report, worker_stream, worker_report):
            if fd >= 0:
                os.close(fd)
        if pid:
            # The stream was closed early: the worker sees the end of a broken layer and ends.
            _wait(pid)


def _open_tree(wanted: Mount) -> tuple[int, int, str]:
    """(the directory to fill, what is below it or -1, how the worker marks what is removed)."""
    if wanted.type == "bind":
        if "ro" in wanted.options:
            raise FailedPrecondition("snapshot", wanted.source, detail="a view cannot be filled")
        return mount.clone_tree(wanted.source), -1, "remove"
    if wanted.type != "overlay" or not wanted.option("upperdir"):
        raise InvalidArgument("mount type", wanted.type, detail="a writable bind or overlay is expected")
    directories = mount.split_lowerdir(wanted.option("lowerdir"))
    upper = mount.split_lowerdir(wanted.option("upperdir"))[0]
    tree = mount.clone_tree(upper)
    try:
        if len(directories) == 1:
            lower = detached([Mount("bind", directories[0], ("ro",))])
        else:
            # The layers below, merged by the kernel, without the one that is being filled.
            below = [o for o in wanted.options if o.partition("=")[0] not in ("upperdir", "workdir")]
            lower = detached([Mount("overlay", "overlay", below)])
    except BaseException:
        os.close(tree)
        raise
    return tree, lower, "overlay-user" if "userxattr" in wanted.options else "overlay"


class _Pump:
    """Feeds one stream of chunks to a hash and to a pipe, each in its own thread, in step."""

    def __init__(self, pipe: int, chunks: Iterator[bytes]) -> None:
        import hashlib

        self._pipe = pipe
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._to_hash = _Queue(self._stopped)
        self._to_pipe = _Queue(self._stopped)
        self.size = 0
        self.digest = ""

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._guard, args=(self._read,), name="masu-unpack-read"),
            threading.Thread(target=self._guard, args=(self._sum,), name="masu-unpack-hash"),
        ]
        for thread in threads:
            thread.start()
        try:
            self._guard(self._write)
        except BaseException:
            # Ctrl-C in this thread.
            self._stop()
            raise
        finally:
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error
        self.digest = self._hash.hexdigest()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as e:
            self._error = self._error or e
            self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._to_hash.wake()
        self._to_pipe.wake()

    def _read(self) -> None:
        try:
            for chunk in self._chunks:
                self.size += len(chunk)
                if not (self._to_hash.put(chunk) and self._to_pipe.put(chunk)):
                    return
        finally:
            self._to_hash.put(None)
            self._to_pipe.put(None)

    def _sum(self) -> None:
        # hashlib and os.write let go of the interpreter lock for chunks of this size.
        while (chunk := self._to_hash.get()) is not None:
            self._hash.update(chunk)

    def _write(self) -> None:
        while (chunk := self._to_pipe.get()) is not None:
            view = memoryview(chunk)
            while view:
                try:
                    view = view[os.write(self._pipe, view) :]
                except BrokenPipeError:
                    # The worker has given up; its report says why.
                    self._stop()
                    return


class _Queue:
    """A bounded queue that can be broken off. queue.Queue cannot before Python 3.13."""

    def __init__(self, stopped: threading.Event) -> None:
        self._changed = threading.Condition()
        self._items: list[bytes | None] = []
        self._stopped = stopped

    def put(self, item: bytes | None) -> bool:
        with self._changed:
            while len(self._items) >= _AHEAD and not self._stopped.is_set():
                self._changed.wait()
            if self._stopped.is_set():
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> bytes | None:
        with self._changed:
            while not self._items and not self._stopped.is_set():
                self._changed.wait()
            if self._stopped.is_set():
                return None
            item = self._items.pop(0)
            self._changed.notify_all()
            return item

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _ignore(count: int) -> None:
    pass


def _chunks(blob: int, compression: str, name: str, advance: Callable[[int], None]) -> Iterator[bytes]:
    from masu.snapshots.compression import decompressed

    return decompressed(blob, compression, name=name, advance=advance, chunk_bytes=_CHUNK)


def _enlarge(pipe: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        pass  # an unprivileged user's share is used up (pipe(7)); slower, not wrong


def _read_report(fd: int) -> bytes:
    said = b""
    while len(said) <= _REPORT_BYTES and (part := os.read(fd, _REPORT_BYTES)):
        said += part
    return said


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(spawn.wait(pid)[1])


def _understand(said: bytes, status: int, name: str) -> tuple[int, int, int, int]:
    """The counts of a good report; raises what a bad one tells. The worker has read the layer: trust nothing."""
    lines = said.split(b"\n")
    try:
        if status != 0 or len(said) > _REPORT_BYTES or lines[-1] != b"":
            raise ValueError
        if lines[0] == b"ok" and len(lines) == 3:
            entries, size, xattrs, devices = (int(n) for n in lines[1].split(b" "))
            return entries, size, xattrs, devices
        if lines[0] != b"error" or len(lines) != 5:
            raise ValueError
        kind, number, index = lines[1].decode("ascii").split(" ")
        errno, entry = int(number), int(index)
        what = lines[2].decode("ascii")
        path = bytes.fromhex(lines[3].decode("ascii"))
    except ValueError:
        reason = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        words = said[:200].decode("utf-8", "replace").strip()
        raise KernelError("masu-unpack", name, detail=reason + (f" and said {words}" if words else "")) from None
    where = f"layer {name}, entry {entry}" if entry else f"layer {name}"
    shown = os.fsdecode(path)
    if kind == "invalid":
        raise InvalidArgument("layer entry", shown, detail=what, where=where)
    if kind == "exhausted":
        raise ResourceExhausted("layer entry", shown, errno, detail=what, where=where)
    raise KernelError(what, shown, errno, where=where)


def check_diff_id(applied: Applied, expected: str, layer: str) -> None:
    """Raises DataLoss when what was unpacked is not what the image's config says."""
    if applied.diff_id != expected:
        raise DataLoss(
            "layer", layer, detail=f"uncompressed it has the digest {applied.diff_id}, its config says {expected}"
        )
