"""The mistakes of docs/errors.md: how each is made, and what masu-oci must say of it.

A `Mistake` is made in a `Scene`: a runtime, a bundle of its own that may be spoilt, and whatever has to be undone. The
tables are in the modules beside this one; tests/conformance/test_oci_errors.py makes them all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.leftovers import cgroups
from harness.oci import Runtime, base_config, wait_exited
from harness.programs import peer

Done = subprocess.CompletedProcess[str]
Change = Callable[[dict[str, Any], "Scene"], object]
Way = Callable[["Scene"], Done]


class Mistake:
    """`parts` are what our message must hold: the place in the input, the call and errno, the remedy. `status` is our
    exit status; `why_not` gives the reason when this machine cannot make the mistake."""

    def __init__(
        self,
        name: str,
        make: Way,
        *parts: str,
        status: int = 1,
        why_not: Callable[[], str] = lambda: "",
    ) -> None:
        self.name = name
        self.make = make
        self.parts = parts
        self.status = status
        self.why_not = why_not


class Scene:
    def __init__(self, runtime: Runtime, rootfs: Path) -> None:
        """`rootfs` is copied, so that it may be changed."""
        self.runtime = runtime
        self.folder = runtime.folder
        self.bundle = self.folder / "bundle"
        self.rootfs = self.bundle / "rootfs"
        self.bundle.mkdir()
        shutil.copytree(rootfs, self.rootfs, symlinks=True)
        self.undo = ExitStack()
        # Those whose birth failed, so that nothing of them may be there; under which roots.
        self.unborn: list[str] = []
        self.roots = [self.runtime.root]

    def __call__(self, *args: str, **options: Any) -> Done:
        """The runtime's command line, whatever its end. `wrap` is a command to be run through."""
        return self.runtime(*args, check=False, **options)

    def under(self, root: Path) -> Done:
        """`create` with another --root."""
        self.roots.append(root)
        return self.born("create", before=("--root", str(root)))

    def without(self, capability: str) -> None:
        """The runtime lacks a capability from now on, as root in the containers of many CI services does."""
        self.runtime.command[:0] = [peer("setpriv"), f"--bounding-set=-{capability}"]

    def write(self, change: Change | None = None, *, sleeping: bool = False) -> None:
        """config.json anew, changed; a program that ends at once unless it is to be `sleeping`."""
        config = base_config()
        config["root"]["path"] = "rootfs"
        config["process"]["args"] = ["/bin/probe", "sleep"] if sleeping else ["/bin/probe", "exit", "0"]
        if change is not None:
            change(config, self)
        (self.bundle / "config.json").write_text(json.dumps(config))

    def born(
        self, verb: str, *flags: str, change: Change | None = None, before: tuple[str, ...] = (), **options: Any
    ) -> Done:
        """`create` or `run` of the changed bundle."""
        if change is not None or not (self.bundle / "config.json").exists():
            self.write(change)
        id = self.runtime.id()
        done = self(*before, verb, "--bundle", str(self.bundle), *flags, id)
        if done.returncode != 0:
            self.unborn.append(id)
        return done

    def container(self, state: str, change: Change | None = None) -> str:
        """The id of a container that is created, running, paused or stopped."""
        self.write(change, sleeping=True)
        id = self.runtime.id()
        self.runtime("create", "--bundle", str(self.bundle), id)
        if state == "created":
            return id
        self.runtime("start", id)
        if state == "paused":
            self.runtime("pause", id)
        elif state == "stopped":
            pid = self.runtime.state(id)["pid"]
            self.runtime("kill", id, "KILL")
            wait_exited(pid)
        return id

    def mount(self, *words: str) -> None:
        """mount(8) with these words, the last of which is the mount point; undone at the end."""
        subprocess.run([peer("mount"), *words], check=True)
        self.undo.callback(subprocess.run, [peer("umount"), words[-1]], check=True)

    def close(self) -> None:
        self.runtime.close()
        self.undo.close()

    # --- what it came to

    def said(self, done: Done) -> str:
        """What the runtime said, errors before warnings, with words in the place of what differs from run to run."""
        errors: list[str] = []
        warnings: list[str] = []
        others: list[str] = []
        for line in done.stderr.splitlines():
            found = re.match(r'time="[^"]*" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)', line)
            if found is None:
                others.append(line)
                continue
            text = json.loads(found[2]) if found[2][0] == '"' else found[2]
            {"error": errors, "fatal": errors, "warning": warnings}.get(found[1], []).append(text)
        return self.without_accidents("\n".join(errors or [*warnings, *others]).strip())

    def without_accidents(self, text: str) -> str:
        for id in self.runtime.ids:
            text = text.replace(id, "box")
        for path, word in ((self.bundle, "/bundle"), (self.runtime.root, "/run/oci"), (self.folder, "/tmp")):
            text = text.replace(str(path), word)
        for pattern, word in _ACCIDENTS:
            text = re.sub(pattern, word, text)
        return text

    def left_of_the_unborn(self) -> list[str]:
        found = [f"{root}/{id}" for root in self.roots for id in self.unborn if (root / id).exists()]
        return found + [path for path in cgroups() if any(path.endswith("/" + id) for id in self.unborn)]

    def left(self) -> list[str]:
        """After `close`: state, cgroups and mounts that are still there."""
        found = [str(path) for path in self.runtime.root.glob("*")] if self.runtime.root.exists() else []
        found += [path for path in cgroups() if any(id in path for id in self.runtime.ids)]
        return found + [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.folder) in line
        ]


_ACCIDENTS = (
    (r"/proc/\d+", "/proc/PID"),
    (r"/proc/self/fd/\d+", "/proc/self/fd/N"),
    (r"\bpid \d+", "pid PID"),
    (r"usage: \d+", "usage: N"),
    # Where the cgroup of the tests lies, and how many processors there are.
    (r"(/sys/fs/cgroup/[^/ ]+)/\S*/box", r"\1/box"),
    (r"offers CPUs \S+\b", "offers CPUs 0-N"),
    (r"the hard limit is \d+ here", "the hard limit is N here"),
    (r"the kernel allows \d+", "the kernel allows N"),
    (r"; there are: [\w, ]+", "; there are: …"),
    (r"libseccomp [\d.]+", "libseccomp"),
    (r"nsexec(-?\d?)\[\d+\]", r"nsexec\1[PID]"),
    (r"failed to write \d+: ", "failed to write PID: "),
    (r"(/sys/fs/cgroup)/\w+(/box/workers)", r"\1/…\2"),
    (rf"\b{os.uname().machine}\b", "x86_64"),
)


# --- ways


def run(change: Change | None = None, *flags: str) -> Way:
    return lambda scene: scene.born("run", *flags, change=change)


def create(change: Change | None = None, *flags: str) -> Way:
    return lambda scene: scene.born("create", *flags, change=change)


def of(state: str, *words: str, change: Change | None = None) -> Way:
    """A verb and what follows, "ID" being a container in that state."""

    def make(scene: Scene) -> Done:
        id = scene.container(state, change)
        return scene(*(id if word == "ID" else word for word in words))

    return make


# --- changes


def put(path: str, value: object) -> Change:
    """`process.user.uid` and so on; missing objects on the way are made."""

    def change(config: dict[str, Any], scene: Scene) -> None:
        target = config
        *way, last = path.split(".")
        for name in way:
            target = target.setdefault(name, {})
        target[last] = value

    return change


def args(*words: str) -> Change:
    return put("process.args", list(words))


def both(*changes: Change) -> Change:
    def change(config: dict[str, Any], scene: Scene) -> None:
        for each in changes:
            each(config, scene)

    return change


def with_mount(destination: str, type: str, source: str, *options: str) -> Change:
    """One more mount; a source that begins with "./" is in the bundle."""

    def change(config: dict[str, Any], scene: Scene) -> None:
        path = str(scene.bundle / source[2:]) if source.startswith("./") else source
        config["mounts"].append({"destination": destination, "type": type, "source": path, "options": list(options)})

    return change


def without_namespace(kind: str) -> Change:
    def change(config: dict[str, Any], scene: Scene) -> None:
        spaces = config["linux"]["namespaces"]
        spaces[:] = [space for space in spaces if space["type"] != kind]

    return change


def with_user_namespace(config: dict[str, Any], scene: Scene) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        config["linux"][name] = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def joined(kind: str, path: str) -> Change:
    def change(config: dict[str, Any], scene: Scene) -> None:
        without_namespace(kind)(config, scene)
        config["linux"]["namespaces"].append({"type": kind, "path": path})

    return change


def file(path: str, data: str | bytes = "", mode: int = 0o755) -> Change:
    """A file below the bundle."""

    def change(config: dict[str, Any], scene: Scene) -> None:
        target = scene.bundle / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
        target.chmod(mode)

    return change


def folder(path: str, mode: int = 0o755) -> Change:
    def change(config: dict[str, Any], scene: Scene) -> None:
        (scene.bundle / path).mkdir(parents=True, exist_ok=True)
        (scene.bundle / path).chmod(mode)

    return change
