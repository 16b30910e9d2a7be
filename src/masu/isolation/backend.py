"""What the engine asks of whatever runs a container; two answer: our own runtime, and another one's binary (`oci`).

A container that was made is a `runtime.container.Container` either way: a directory with state.json, a first process
known by pid and start time, cgroups, a monitor. What it is doing is found by looking at those; what is asked of it goes
to whoever made it.
"""

from __future__ import annotations

import os

from masu.errors import NotFound
from masu.isolation import namespaces
from masu.isolation.oci import Oci
from masu.runtime import delete as runtime_delete
from masu.runtime import kill as runtime_kill
from masu.runtime import start as runtime_start
from masu.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from masu.isolation.namespaces import Request
    from masu.isolation.stdio import Stdio
    from masu.runtime.criu.options import CriuOptions

    class RuncOptions(Protocol):
        """containerd's options for runc and its like, containerd.runc.v1.Options, whoever has decoded them."""

        binary_name: str
        root: str
        systemd_cgroup: bool
        no_new_keyring: bool
        no_pivot_root: bool

    class Isolation(Protocol):
        """Errors are the kinds of `masu.errors`; FailedPrecondition for a container in another state than wanted."""

        def to_json(self) -> dict[str, object]:
            """For `from_json`: what whoever goes on with a restore has to know."""
            ...

        def run(self, run_root: str, request: Request) -> tuple[Container, list[str]]:
            """Makes a container whose first process waits for `start`; warnings. After an error nothing is left."""
            ...

        def restore(self, run_root: str, request: Request, criu: CriuOptions) -> tuple[Container, list[str]]:
            """As `run`, out of a checkpoint; it runs when this returns. See `namespaces.restore`."""
            ...

        def start(self, container: Container) -> list[str]:
            """Returns when its program runs; warnings."""
            ...

        def kill(self, container: Container, signal: int, *, everyone: bool = False) -> None: ...

        def pause(self, container: Container) -> None: ...

        def resume(self, container: Container) -> None: ...

        def update(self, container: Container, resources: dict[str, object]) -> list[str]:
            """New limits, as `linux.resources`; warnings."""
            ...

        def checkpoint(self, container: Container, criu: CriuOptions, *, leave_running: bool) -> None:
            """Written down to `criu.image_path`; gone with all it had then, or running on."""
            ...

        def exec(
            self,
            container: Container,
            process: dict[str, object],
            stdio: Stdio,
            *,
            directory: str,
            seccomp_cache: str = "",
            on_ready: Callable[[int], None] | None = None,
        ) -> list[str]:
            """One more process, an object as a spec's, with a monitor of its own; see `namespaces.start_exec`. What it
            does not speak of is as confined as the container's own."""
            ...

        def delete(self, container: Container) -> list[str]:
            """All of it goes, whatever it does; warnings."""
            ...


class Namespaces:
    """Our own runtime; with `systemd` cgroups are units of its, the others are as in `runtime.create.Options`."""

    __slots__ = ("no_new_keyring", "no_pivot", "systemd")

    def __init__(self, *, systemd: bool = False, no_new_keyring: bool = False, no_pivot: bool = False) -> None:
        self.systemd = systemd
        self.no_new_keyring = no_new_keyring
        self.no_pivot = no_pivot

    def to_json(self) -> dict[str, object]:
        return {"systemd": self.systemd}

    def run(self, run_root: str, request: Request) -> tuple[Container, list[str]]:
        request.gate = True
        request.no_new_keyring, request.no_pivot = self.no_new_keyring, self.no_pivot
        if self.systemd:
            request.cgroup_manager = "systemd"
        return namespaces.run(run_root, request)

    def restore(self, run_root: str, request: Request, criu: CriuOptions) -> tuple[Container, list[str]]:
        if self.systemd:
            request.cgroup_manager = "systemd"
        return namespaces.restore(run_root, request, criu)

    def start(self, container: Container) -> list[str]:
        return runtime_start.start(container)

    def kill(self, container: Container, signal: int, *, everyone: bool = False) -> None:
        runtime_kill.kill(container, signal, everyone=everyone)

    def pause(self, container: Container) -> None:
        container.require("pause")
        container.cgroup.freeze()

    def resume(self, container: Container) -> None:
        container.require("resume")
        container.cgroup.thaw()

    def update(self, container: Container, resources: dict[str, object]) -> list[str]:
        from masu.runtime import update

        return update.update(container, resources)

    def checkpoint(self, container: Container, criu: CriuOptions, *, leave_running: bool) -> None:
        from masu.runtime import checkpoint

        checkpoint.checkpoint(container, criu, leave_running=leave_running)

    def exec(
        self,
        container: Container,
        process: dict[str, object],
        stdio: Stdio,
        *,
        directory: str,
        seccomp_cache: str = "",
        on_ready: Callable[[int], None] | None = None,
    ) -> list[str]:
        from masu.runtime.execute import completed
        from masu.spec import runtime as spec

        wanted = completed(spec.parse_process(process, where="process"), container)
        return namespaces.start_exec(
            container, wanted, stdio, directory=directory, seccomp_cache=seccomp_cache, on_ready=on_ready
        )

    def delete(self, container: Container) -> list[str]:
        return runtime_delete.delete(container, force=True)


def by_options(options: RuncOptions, root: str, namespace: str) -> Isolation:
    """Our own runtime for no binary and for masu-oci, else that one, for a namespace of containerd's; `root` is where
    its state is when the options do not say. Raises NotFound."""
    choices = {
        "systemd": options.systemd_cgroup,
        "no_new_keyring": options.no_new_keyring,
        "no_pivot": options.no_pivot_root,
    }
    if options.binary_name.rpartition("/")[2] in ("", "masu-oci"):
        return Namespaces(**choices)
    found = Oci(options.binary_name, f"{options.root or root}/{namespace}", **choices)
    if not os.access(found.binary, os.X_OK):
        raise NotFound("OCI runtime", found.binary, detail="no program that can be executed")
    return found


def from_json(data: dict[str, object]) -> Isolation:
    """One as `to_json` has it."""
    return Oci.from_json(data) if data.get("binary") else Namespaces(systemd=data.get("systemd") is True)


def of(container: Container) -> Isolation:
    """Whoever made it."""
    return Oci.of(container) or Namespaces()
