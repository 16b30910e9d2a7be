"""ttrpc beside gRPC: where shims that others start send their events, at the gRPC address with `.ttrpc` behind it."""

from __future__ import annotations

import logging
import threading

from google.protobuf.any_pb2 import Any

from masu.api.containerd import event_messages
from masu.api.containerd.site import Site
from masu.api.proto.small import Empty, ForwardRequest
from masu.api.ttrpc.loop import Loop
from masu.api.ttrpc.server import Call, Method, Server
from masu.daemon.listener import most_connections
from masu.daemon.sockets import Place
from masu.errors import InvalidArgument, MasuError
from masu.spec import times

log = logging.getLogger("masud")
SERVICE = "containerd.services.events.ttrpc.v1.Events"


class Ttrpc:
    """A loop in a thread of its own, until `close`. Raises what `Place` does."""

    def __init__(self, site: Site, path: str, uid: int = 0, gid: int = 0) -> None:
        self._site = site
        self._place = Place(path, uid, gid)
        listener = self._place.bind()
        self._loop = Loop(_tell)
        self._server = Server(self._loop, listener, _tell, most_connections() // 2)
        self._server.add(SERVICE, {"Forward": Method(ForwardRequest, self._forward, blocks=True)})
        self._thread = threading.Thread(target=self._loop.run, name="masud-ttrpc", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call(self._server.close)
        self._loop.call(self._loop.stop)
        self._thread.join()
        self._place.close()

    def _forward(self, request: ForwardRequest, call: Call) -> Empty:
        sent = request.envelope
        if sent is None or sent.timestamp is None or sent.event is None:
            raise InvalidArgument("envelope", detail="timestamp and event must be set")
        time = times.text(sent.timestamp.seconds * times.SECOND + sent.timestamp.nanos)
        event = Any(type_url=sent.event.type_url, value=sent.event.value)
        event_messages.publish(self._site.store, sent.namespace, sent.topic, event, time)
        return Empty()


def _tell(error: BaseException) -> None:
    log.error("ttrpc: %s", error, exc_info=None if isinstance(error, MasuError) else error)
