"""masud beside containerd, by the same client: each with a store of its own, one registry on loopback for both."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import images
import unpacking
from engines import CONTAINERD_PLUGINS, daemon, pss_kb
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from harness import programs
from harness.subreaper import descendants
from measure import Contender, command, ms
from registryfixture import DockerRegistry

from masu.api.proto import events_pb2, namespaces_pb2, types_pb2

EVENTS = 2000
PULLS = 100
Row = tuple[str, ...]


@dataclass
class Server:
    """A daemon that serves at `socket`; `words` begin every command of its client."""

    name: str
    socket: Path
    words: Sequence[str]
    pid: int = 0

    def call(self, *arguments: str) -> None:
        command(*self.words, *arguments)()


@contextmanager
def servers(folder: Path) -> Iterator[tuple[list[Server], str]]:
    """Those that came up, and a registry that has busybox and an image of 1 GB."""
    with ExitStack() as stack:
        registry = stack.enter_context(DockerRegistry(folder / "registry"))
        images.push("busybox", registry.host)
        large = unpacking.image("1 GB")
        target = f"docker://{registry.host}/library/large:latest"
        words = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{large}:latest", target]
        subprocess.run(words, check=True)
        found = [stack.enter_context(make(folder / make.__name__)) for make in (masud, containerd)]
        for server in found:
            server.call("images", "pull", "--plain-http", busybox(registry.host))
        yield found, registry.host


def busybox(host: str) -> str:
    return f"{host}/library/busybox:latest"


@contextmanager
def masud(folder: Path) -> Iterator[Server]:
    folder.mkdir(parents=True)
    socket = folder / "c.sock"
    words = [str(programs.ROOT / "masud"), "--root", str(folder / "root"), "--state", str(folder / "state")]
    with serving("masud", [*words, "--address", str(socket)], folder, socket) as server:
        yield server


@contextmanager
def containerd(folder: Path) -> Iterator[Server]:
    folder.mkdir(parents=True)
    socket = folder / "c.sock"
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n{CONTAINERD_PLUGINS}\n'
        f'[grpc]\naddress = "{socket}"\n'
    )
    with serving("containerd", ["containerd", "--config", str(folder / "config.toml")], folder, socket) as server:
        yield server


@contextmanager
def serving(name: str, words: Sequence[str], folder: Path, socket: Path) -> Iterator[Server]:
    server = Server(name, socket, ["ctr", "--address", str(socket)])
    before = set(descendants(os.getppid()))
    with daemon(words, folder, [*server.words, "version"]):
        new = set(descendants(os.getppid())) - before
        server.pid = next(pid for pid in new if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes())
        yield server


def runs(found: list[Server], host: str) -> list[Contender]:
    id = f"bench-{os.getpid()}"
    return [Contender(one.name, command(*one.words, "run", "--rm", busybox(host), id, "/bin/true")) for one in found]


@contextmanager
def execs(found: list[Server], host: str) -> Iterator[list[Contender]]:
    for one in found:
        one.call("run", "-d", busybox(host), "box", "sleep", "10000")
    words = ["tasks", "exec", "--exec-id", f"bench-{os.getpid()}", "box", "/bin/true"]
    try:
        yield [Contender(one.name, command(*one.words, *words)) for one in found]
    finally:
        for one in found:
            remove(one, ["box"])


def pulls(found: list[Server], host: str) -> list[Contender]:
    """Fetched and unpacked; what was there of it is collected before, untimed."""
    name = f"{host}/library/large:latest"

    def pull(server: Server) -> Contender:
        def forget() -> None:
            subprocess.run([*server.words, "images", "rm", "--sync", name], capture_output=True, check=False)

        return Contender(server.name, command(*server.words, "images", "pull", "--plain-http", name), before=forget)

    return [pull(one) for one in found]


def at_once(found: list[Server], host: str) -> list[Row]:
    """Many clients pull one image, which is not there before."""
    rows: list[Row] = []
    for one in found:
        one.call("images", "rm", "--sync", busybox(host))
        with ThreadPoolExecutor(PULLS) as pool:
            begun = time.perf_counter()
            pull = command(*one.words, "images", "pull", "--plain-http", busybox(host))
            list(pool.map(lambda work: work(), [pull] * PULLS))
            rows.append((one.name, ms(time.perf_counter() - begun)))
    return rows


@contextmanager
def listings(found: list[Server], count: int) -> Iterator[list[Contender]]:
    """`ctr containers ls` with so many there, in a namespace of their own."""
    for one in found:
        for number in range(count):
            one.call("--namespace", "many", "containers", "create", "--rootfs", "/", f"c{number}")
    try:
        yield [Contender(one.name, command(*one.words, "--namespace", "many", "containers", "ls")) for one in found]
    finally:
        for one in found:
            one.call("--namespace", "many", "containers", "rm", *(f"c{number}" for number in range(count)))


def events(found: list[Server]) -> list[Row]:
    """Events a second, from one publisher to one subscriber who gets them all."""
    rows: list[Row] = []
    event = namespaces_pb2.Namespace(name="bench")
    body = Any(type_url=str(event.DESCRIPTOR.full_name), value=event.SerializeToString())
    headers = (("containerd-namespace", "bench"),)
    for one in found:
        with grpc.insecure_channel(f"unix:{one.socket}") as channel:
            service = "/containerd.services.events.v1.Events/"
            publish: Callable[..., Empty] = channel.unary_unary(
                service + "Publish", events_pb2.PublishRequest.SerializeToString, Empty.FromString
            )
            subscribe = channel.unary_stream(
                service + "Subscribe", events_pb2.SubscribeRequest.SerializeToString, types_pb2.Envelope.FromString
            )
            request = events_pb2.SubscribeRequest(filters=['topic=="/bench"'])
            stream = subscribe(request, metadata=headers, wait_for_ready=True)
            sent = events_pb2.PublishRequest(topic="/bench", event=body)
            # Containerd loses what is published before the subscription has come about, and says nothing of that.
            time.sleep(1)
            begun = time.perf_counter()
            for _ in range(EVENTS):
                publish(sent, metadata=headers)
            for _ in range(EVENTS):
                next(stream)
            rows.append((one.name, f"{EVENTS / (time.perf_counter() - begun):.0f}"))
            stream.cancel()
    return rows


def memory(found: list[Server], host: str, count: int) -> list[Row]:
    """(daemon, its own PSS idle, PSS of all that is beside `count` containers that sleep)."""
    rows: list[Row] = []
    for one in found:
        idle = pss_kb(one.pid)
        before = set(descendants(os.getppid()))
        names = [f"m{number}" for number in range(count)]
        try:
            for name in names:
                one.call("run", "-d", busybox(host), name, "sleep", "10000")
            beside = [pid for pid in {one.pid, *descendants(os.getppid())} - before if not _is_payload(pid)]
            total = pss_kb(one.pid) + sum(pss_kb(pid) for pid in beside if pid != one.pid)
            rows.append((one.name, f"{idle / 1024:.1f} MB", f"{total / 1024:.1f} MB"))
        finally:
            remove(one, names)
    return rows


def _is_payload(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    except OSError:
        return True


def remove(server: Server, names: Sequence[str]) -> None:
    for name in names:
        subprocess.run([*server.words, "tasks", "rm", "-f", name], capture_output=True, check=False)
    subprocess.run([*server.words, "containers", "rm", *names], capture_output=True, check=False)
