"""masud as a whole: the site, the services, their sockets, from start to end."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from masu.api.containerd.collector import Settings
from masu.api.containerd.plugins import plugins
from masu.api.containerd.restarts import Restarts
from masu.api.containerd.site import Site
from masu.api.containerd.table import services
from masu.daemon import activation, warm
from masu.daemon.config import GC, RESTART, TRANSFER, Config
from masu.daemon.connection import Limits
from masu.daemon.server import Server
from masu.daemon.sockets import Place
from masu.daemon.threads import Threads
from masu.daemon.ttrpc import Ttrpc
from masu.errors import FailedPrecondition, MasuError, closest
from masu.linux import executable, process

logger = logging.getLogger("masud")
GRACE_S = 2.0
# Above those that are passed to programs by their numbers.
_KEPT_FDS = 64
# Three for each thread that has used the database, and what there is of containers and clients.
_LEAST_DESCRIPTORS = 512


class Daemon:
    """A context: what it opened is shut at its end. Containers run on."""

    def __init__(self, config: Config) -> None:
        """Raises what opening the store does, and FailedPrecondition."""
        _require_descriptors()
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
        async with AsyncExitStack() as stack:
            stack.callback(self.site.close)
            await self._begin(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _begin(self, stack: AsyncExitStack) -> None:
        """All in the order in which it is needed; what is begun ends in the reverse one."""
        config, site = self.config, self.site
        # Mounted once; a container's birth would wait 10 ms for its own to be taken down.
        executable.keep_ready(executable.launcher_path(), _KEPT_FDS)
        held = await asyncio.to_thread(warm.hold)
        if held >= 0:
            stack.callback(os.close, held)
        for error in await asyncio.to_thread(site.mounting.recover):
            logger.warning("mounts of an earlier masud: %s", error)
        stack.callback(site.release_mounts)
        site.collector.start()
        stack.callback(site.collector.stop)
        site.exits.start()
        stack.callback(site.exits.stop)
        self._threads = Threads(config.number("masu", "threads"))
        stack.callback(self._threads.close)
        if RESTART not in config.texts("disabled_plugins"):
            restarts = Restarts(site, self._threads, config.seconds("plugins", RESTART, "interval"))
            restarts.start()
            stack.callback(restarts.stop)
        site.feed.start()
        stack.callback(site.feed.stop)
        follower = asyncio.create_task(self._follow(), name="exits")
        stack.callback(follower.cancel)
        await self._listen(stack)
        uid, gid = (config.number("ttrpc", name) or config.number("grpc", name) for name in ("uid", "gid"))
        stack.callback(Ttrpc(site, config.text("ttrpc", "address") or f"{self.address}.ttrpc", uid, gid).close)
        await self._begin_http(stack)

    async def _listen(self, stack: AsyncExitStack) -> None:
        """gRPC on its address, or behind the socket that the service manager has opened."""
        config = self.config
        self._server = Server(
            self.site,
            services(self.site, config.texts("disabled_plugins")),
            self._threads,
            Limits(
                receive_bytes=config.number("grpc", "max_recv_message_size"),
                send_bytes=config.number("grpc", "max_send_message_size"),
                streams=config.number("masu", "max_streams"),
            ),
        )
        self._require(config.texts("required_plugins"))
        bound = activation.inherited()
        if bound is not None:
            self.address = str(bound.getsockname())
        else:
            place = Place(self.address, config.number("grpc", "uid"), config.number("grpc", "gid"))
            stack.callback(place.close)
            bound = place.bind()
        self._server.listen(bound)
        stack.push_async_callback(self._server.stop, GRACE_S)
        if address := config.text("grpc", "tcp_address"):
            await self._listen_tcp(address)

    async def _listen_tcp(self, address: str) -> None:
        """For clients of other machines, encrypted in any case: who may call may be root here."""
        from masu.daemon import tls

        ca, cert, key, name = (
            self.config.text("grpc", f"tcp_tls_{word}") for word in ("ca", "cert", "key", "common_name")
        )
        if not ca:
            logger.warning("without tcp_tls_ca whoever reaches %s is let in, and may be root here", address)
        await self._server.listen_tcp(*tls.host_port(address), tls.context(cert, key, ca), name)

    def _require(self, required: list[str]) -> None:
        """Raises FailedPrecondition for a plugin that is not there, or does not work here."""
        known = {f"{each.type}.{each.id}": each.error for each in plugins(self.site, set(self.site.served.values()))}
        for name in required:
            if name not in known or known[name]:
                hint = closest(name, list(known)) if name not in known else ""
                raise FailedPrecondition("required plugin", name, detail=known.get(name, "there is none"), hint=hint)

    async def _begin_http(self, stack: AsyncExitStack) -> None:
        """What is configured of it: the HTTP server is loaded for nothing else."""
        config = self.config
        if not config.text("metrics", "address") and not config.text("debug", "address"):
            return
        from masu.daemon import debug, metrics
        from masu.daemon.http import Http

        if address := config.text("metrics", "address"):
            page = metrics.application(lambda: self._threads.run(metrics.page, self.site, self._server.calls))
            stack.push_async_callback((await Http.on_port(page, address)).close)
        if path := config.text("debug", "address"):
            owner = config.number("debug", "uid"), config.number("debug", "gid")
            stack.push_async_callback((await Http.on_socket(debug.application(), path, *owner)).close)

    async def _follow(self) -> None:
        """What other programs start on this state (`masu run`) is watched, too."""
        while True:
            found = self.site.feed.subscribe(lambda event: event.topic == "/tasks/start")
            try:
                async for event in found:
                    id = str(event.payload.get("container_id"))
                    await self._threads.run(self.site.exits.watch, event.namespace, id)
            except MasuError as error:
                logger.warning("what others have started: %s", error)
                await self._threads.run(self.site.exits.scan)
            finally:
                self.site.feed.unsubscribe(found)

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


def _require_descriptors() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < _LEAST_DESCRIPTORS:
        raise FailedPrecondition(
            "limit of open files", limit, detail=f"masud needs {_LEAST_DESCRIPTORS}, and one more for each container",
            hint="raise it (ulimit -n, LimitNOFILE= of a unit)",
        )  # fmt: skip


def _gc_settings(config: Config) -> Settings:
    def at(name: str) -> tuple[str, str, str]:
        return ("plugins", GC, name)

    return Settings(
        pause_threshold=config.real(*at("pause_threshold")),
        deletion_threshold=config.number(*at("deletion_threshold")),
        schedule_delay_s=config.seconds(*at("schedule_delay")),
        startup_delay_s=config.seconds(*at("startup_delay")),
    )
