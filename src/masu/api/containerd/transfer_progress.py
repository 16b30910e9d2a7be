"""How far a transfer is, in containerd's events, on the client's stream.

    say("Resolving from …")                       the transfer as a whole
    waiting → downloading… → complete             each blob; "already exists" for those that are here
            → extracting… → extracted             when it is unpacked
    saved                                         a name

Each blob is told with what names it: index, manifest, then config and layers.

Told from the event loop and from threads. A client that does not read loses progress, not the transfer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

from masu.api.containerd import values
from masu.api.containerd.streams import Stream
from masu.api.proto import transfer_types_pb2 as types
from masu.api.proto import types_pb2
from masu.spec.image import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES, Descriptor

# As often as a person can see.
_PAUSE_S = 0.1
# What the registry client and the unpacker say, and what containerd does.
_EVENTS = {
    "Waiting": "waiting",
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
        # What has been told of a document; digest -> name of what names it.
        self._documents: dict[str, str] = {}
        self._above: dict[str, str] = {}
        self._told: types.Progress | None = None
        self._root = ""
        self._moving = "downloading"

    def say(self, event: str, name: str = "", target: Descriptor | None = None) -> None:
        message = types.Progress(event=event, name=name)
        if target is not None:
            message.desc.CopyFrom(values.descriptor_message(target))
        self._send(message)

    def end(self, event: str, target: Descriptor | None = None) -> None:
        """The last word on the transfer, and how the last blob is, once more: ctr draws what has a name."""
        self.say(event, target=target)
        if self._told is not None:
            self._send(self._told)

    def begin(self, root: str, moving: str) -> None:
        """`root` is what the blobs belong to; `moving` is said of one on its way."""
        self._root = root
        self._moving = moving

    # ---- what registry and unpacker call ----

    def layer(self, digest: str, total: int) -> None:
        with self._lock:
            self._blobs.setdefault(digest, _Blob(total, "waiting"))
        self._tell(digest)

    def document(self, descriptor: Descriptor, below: Sequence[Descriptor], text: str) -> None:
        name, event = _name(descriptor), _EVENTS[text]
        with self._lock:
            if self._documents.get(descriptor.digest, "waiting") not in ("waiting", event):
                return  # as it was found first: a pull for two platforms meets an index twice
            self._documents[descriptor.digest] = event
            for each in below:
                self._above.setdefault(each.digest, name)
        message = types.Progress(
            event=event,
            name=name,
            parents=[self._above.get(descriptor.digest, self._root)],
            progress=0 if event == "waiting" else descriptor.size,
            total=descriptor.size,
        )
        message.desc.CopyFrom(values.descriptor_message(descriptor))
        self._told = message
        self._send(message)

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
                parents=[self._above.get(digest, self._root)],
                progress=blob.size,
                total=blob.total,
            )
            message.desc.CopyFrom(_layer(digest, blob.total))
            self._told = message
        self._send(message)

    def _send(self, message: types.Progress) -> None:
        if self._stream is not None:
            self._loop.call_soon_threadsafe(self._stream.offer, message)


def _name(descriptor: Descriptor) -> str:
    """As containerd calls it (remotes.MakeRefKey)."""
    kinds = {"index": INDEX_TYPES, "manifest": MANIFEST_TYPES, "config": CONFIG_TYPES}
    kind = next((kind for kind, known in kinds.items() if descriptor.media_type in known), "unknown")
    return f"{kind}-{descriptor.digest}"


def _layer(digest: str, size: int) -> types_pb2.Descriptor:
    return types_pb2.Descriptor(digest=digest, size=size)
