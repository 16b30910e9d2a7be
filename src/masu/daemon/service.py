"""masud as a whole: the site, the services, their sockets, from start to end."""

from __future__ import annotations

import asyncio
import logging
import os
from types import TracebackType
from typing import Self

from masu.api.containerd.collector import Settings
from masu.api.containerd.site import Site
from masu.api.containerd.table import services
from masu.daemon.config import GC, TRANSFER, Config
from masu.daemon.server import Server, Threads
from masu.daemon.sockets import Place
from masu.errors import Unavailable
from masu.linux import process

logger = logging.getLogger("masud")
GRACE_S = 2.0


class Daemon:
    """A context: what it opened is shut at its end. Containers run on."""

    def __init__(self, config: Config) -> None:
        """Raises what opening the store does."""
        self.config = config
        self.address = config.address
        if config.flag("masu", "subreaper"):
            process.become_subreaper()
        self._oom_score(config.number("oom_score"))
        self.site = Site(
            config.root,
            config.state,
            snapshotter=config.text("masu", "snapshotter"),
            gc=_gc_settings(config),
            hosts_dirs=config.hosts_dirs,
            downloads=config.number("plugins", TRANSFER, "max_concurrent_downloads"),
            event_buffer=config.number("masu", "event_buffer"),
        )

    async def __aenter__(self) -> Self:
        config = self.config
        self.site.feed.start()
        self._threads = Threads(config.number("masu", "threads"))
        self._server = Server(
            self.site,
            services(self.site),
            self._threads,
            max_receive_bytes=config.number("grpc", "max_recv_message_size"),
            max_send_bytes=config.number("grpc", "max_send_message_size"),
            max_streams=config.number("masu", "max_streams"),
        )
        self._place = Place(self.address, config.number("grpc", "uid"), config.number("grpc", "gid"))
        with self._place.binding() as address:
            try:
                self._server.listen(f"unix:{address}")
            except RuntimeError as error:
                raise Unavailable("socket", self.address, detail=str(error)) from None
        await self._server.start()
        self.site.exits.start()
        self._follower = asyncio.create_task(self._follow(), name="exits")
        self.site.collector.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._follower.cancel()
        await self._server.stop(GRACE_S)
        self._place.close()
        await self.site.feed.stop()
        self._threads.close()
        self.site.exits.stop()
        self.site.collector.stop()
        self.site.close()

    async def _follow(self) -> None:
        """What other programs start on this state (`masu run`) is watched, too."""
        found = await self.site.feed.subscribe(lambda event: event.topic == "/tasks/start")
        async for event in found:
            await self._threads.run(self.site.exits.watch, event.namespace, str(event.payload.get("container_id")))

    def reload(self, config: Config) -> None:
        """What can change while it runs: the log, the registries' settings."""
        self.config = config
        self.site.hosts_dirs = tuple(config.hosts_dirs)
        self.site.downloads = config.number("plugins", TRANSFER, "max_concurrent_downloads")

    def _oom_score(self, score: int) -> None:
        if score:
            try:
                with open("/proc/self/oom_score_adj", "w") as file:
                    file.write(str(score))
            except OSError as error:
                # Below what it is: CAP_SYS_RESOURCE, which many machines' root lacks.
                logger.warning("oom_score %d could not be set: %s", score, os.strerror(error.errno or 0))


def _gc_settings(config: Config) -> Settings:
    def at(name: str) -> tuple[str, str, str]:
        return ("plugins", GC, name)

    return Settings(
        pause_threshold=config.real(*at("pause_threshold")),
        deletion_threshold=config.number(*at("deletion_threshold")),
        schedule_delay_s=config.seconds(*at("schedule_delay")),
        startup_delay_s=config.seconds(*at("startup_delay")),
    )
