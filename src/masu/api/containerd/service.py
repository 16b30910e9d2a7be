"""How a service is declared, and what a call brings along.

    class Version(Service):
        DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Version"]

        def version(self, request: Empty, call: Call) -> pb.VersionResponse: ...

Each rpc of the descriptor is the method of its name in snake case. Who serves them asks `Method` which kind it is:

    def                 runs in a thread of the bounded pool, as everything does that touches the engine
    @brief def          runs in the event loop: what one look into the store answers
    def with yield      as `def`, a thread for each part of a stream; with @brief the first part in the event loop
    async def           runs in the event loop: what waits long (an exit, an event) and must hold no thread
    async with yield    likewise, for streams; the first argument is an iterator where the client streams

An rpc without a method is answered with Unimplemented.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from masu.api.containerd.site import Site
from masu.engine import Engine
from masu.errors import FailedPrecondition
from masu.store import NamespaceStore

NAMESPACE_HEADER = "containerd-namespace"
LEASE_HEADER = "containerd-lease"
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Threads(Protocol):
    """What calls of the engine run in (masu.daemon.threads)."""

    async def run(self, function: Callable[..., T], *values: object) -> T:
        """A caller that is cancelled waits for the thread to be done all the same."""


class Call:
    """What comes with a request beside its message."""

    __slots__ = ("_headers", "_threads", "site")

    def __init__(self, site: Site, headers: Mapping[str, str], threads: Threads) -> None:
        self.site = site
        self._headers = headers
        self._threads = threads

    async def run(self, function: Callable[..., T], *values: object) -> T:
        """From the event loop: what touches the engine, in a thread. See `Threads.run`."""
        return await self._threads.run(function, *values)

    @property
    def namespace(self) -> str:
        """Raises FailedPrecondition when the client named none, InvalidArgument when it cannot be one."""
        name = self._headers.get(NAMESPACE_HEADER, "")
        if not name:
            raise FailedPrecondition("namespace is required")
        return self.site.namespace(name)

    @property
    def lease(self) -> str | None:
        """The lease that is to hold what this call makes. Whether it exists is found when it is used."""
        return self._headers.get(LEASE_HEADER) or None

    @property
    def engine(self) -> Engine:
        """The engine of the call's namespace."""
        return self.site.engine(self.namespace)

    @property
    def ns(self) -> NamespaceStore:
        """The store of the call's namespace."""
        return self.engine.ns


class Service:
    """Base of the services."""

    DESCRIPTOR: ClassVar[ServiceDescriptor]
    # By what id introspection shows it, where that is not its package's.
    PLUGIN: ClassVar[str] = ""

    def __init__(self, site: Site) -> None:
        self.site = site

    @classmethod
    def name(cls) -> str:
        """containerd.services.version.v1.Version"""
        return str(cls.DESCRIPTOR.full_name)

    @classmethod
    def plugin(cls) -> str:
        """version"""
        return cls.PLUGIN or cls.name().split(".")[-3]

    def methods(self) -> Iterator[Method]:
        """Those that are there."""
        for rpc in self.DESCRIPTOR.methods:
            function = getattr(self, snake(rpc.name), None)
            if function is not None:
                yield Method(rpc, function)


class Method:
    """One rpc and the function that answers it. `is_brief`: in the event loop at once."""

    __slots__ = ("function", "in_loop", "is_brief", "name", "request", "response", "streams_in", "streams_out")

    def __init__(self, rpc: MethodDescriptor, function: Callable[..., Any]) -> None:
        self.name: str = rpc.name
        self.function = function
        self.request: type[Message] = GetMessageClass(rpc.input_type)
        self.response: type[Message] = GetMessageClass(rpc.output_type)
        self.streams_in: bool = rpc.client_streaming
        self.streams_out: bool = rpc.server_streaming
        self.in_loop = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        self.is_brief: bool = getattr(function, "is_brief", False)
        if self.streams_in and not self.in_loop:
            raise TypeError(f"{rpc.full_name}: what the client streams is read in the event loop")


def brief(function: F) -> F:
    """For a `def` that only reads the store: it is answered sooner than a thread has woken up."""
    function.is_brief = True  # type: ignore[attr-defined]
    return function


def snake(name: str) -> str:
    """ListStream -> list_stream, CloseIO -> close_io"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
