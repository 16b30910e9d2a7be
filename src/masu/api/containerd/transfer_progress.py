"""How far a transfer is, in containerd's events, on the client's stream.

    say("Resolving from …")                       the transfer as a whole
    waiting → downloading… → complete             each blob; "already exists" for those that are here
            → extracting… → extracted             when it is unpacked
    saved                                         a name

Told from the event loop and from threads. A client that does not read loses progress, not the transfer.
"""

from __future__ import annotations

import asyncio
import threading
import time

from masu.api.containerd import values
from masu.api.containerd.streams import Stream
from masu.api.proto import transfer_types_pb2 as types
from masu.api.proto import types_pb2
from masu.spec.image import Descriptor

# As often as a person can see.
_PAUSE_S = 0.1
# What the registry client and the unpacker say, and what containerd does.
_EVENTS = {
    "Already exists": "already exists",
    "Download complete": "complete",
    "Layer already exists": "already exists",
    "Pushed": "complete",
    "extracting": "extracting",
    "done": "extracted",
}


class _Blob:
    __slots__ = ("event", "size", "total", "written")

    def __init__(self, total: int, event: str) -> None:
        self.total = total
        self.event = event
        self.size = 0
        self.written = 0.0


class Progress:
    """Without a stream it does nothing. `registry.progress.Progress` and the unpacker's are this."""

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._blobs: dict[str, _Blob] = {}
        self._root = ""
        self._moving = "downloading"

    def say(self, event: str, name: str = "", target: Descriptor | None = None) -> None:
        message = types.Progress(event=event, name=name)
        if target is not None:
            message.desc.CopyFrom(values.descriptor_message(target))
        self._send(message)

    def begin(self, root: str, moving: str) -> None:
        """`root` is what the blobs belong to; `moving` is said of one on its way."""
        self._root = root
        self._moving = moving

    # ---- what registry and unpacker call ----

    def layer(self, digest: str, total: int) -> None:
        with self._lock:
            self._blobs.setdefault(digest, _Blob(total, "waiting"))
        self._tell(digest)

    def advance(self, digest: str, n: int) -> None:
        with self._lock:
            blob = self._blobs.get(digest)
            if blob is None:
                return
            blob.size = min(max(blob.size + n, 0), blob.total)
            if blob.event == "waiting":
                blob.event = self._moving
            now = time.monotonic()
            if now - blob.written < _PAUSE_S:
                return
            blob.written = now
        self._tell(digest)

    def status(self, digest: str, text: str) -> None:
        event = "already exists" if text.startswith("Mounted from") else _EVENTS.get(text, "")
        with self._lock:
            blob = self._blobs.get(digest)
            if blob is None or not event or blob.event == event:
                return
            blob.event = event
            # What is extracted is counted once more from the beginning.
            blob.size = 0 if event == "extracting" else blob.total
        self._tell(digest)

    def _tell(self, digest: str) -> None:
        with self._lock:
            blob = self._blobs[digest]
            message = types.Progress(
                event=blob.event,
                name=f"layer-{digest}",
                parents=[self._root],
                progress=blob.size,
                total=blob.total,
            )
            message.desc.CopyFrom(_layer(digest, blob.total))
        self._send(message)

    def _send(self, message: types.Progress) -> None:
        if self._stream is not None:
            self._loop.call_soon_threadsafe(self._stream.offer, message)


def _layer(digest: str, size: int) -> types_pb2.Descriptor:
    return types_pb2.Descriptor(digest=digest, size=size)
