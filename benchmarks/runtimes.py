"""The OCI runtimes on one bundle, beside the floor and bubblewrap: `run`, and create -> start -> delete."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import images
from harness import programs
from measure import Contender, Work, command, sequence

CALLERS = (1, 4, 16)
RUNTIMES = ("masu-oci", "masu-oci warm", "runc", "crun")
# By a brain, or without: docs/design.md, "The warm front".
ENVIRONMENT = {"masu-oci": {"MASU_BRAIN": "off"}, "masu-oci warm": {"MASU_BRAIN": "require"}}


@contextmanager
def bundle(folder: Path) -> Iterator[Path]:
    """A bundle as `runc spec` writes it, with a busybox that runs `true` without a terminal."""
    place = folder / "bundle"
    images.copy(images.rootfs("busybox"), place / "rootfs")
    runtime = shutil.which("runc") or programs.MASU_OCI
    subprocess.run([runtime, "spec"], cwd=place, check=True)
    config = json.loads((place / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    (place / "config.json").write_text(json.dumps(config))
    # For crun where it needs on_v2_alone: there, without CAP_SYS_RESOURCE, it cannot load a device filter.
    del config["linux"]["resources"]
    v2 = folder / "bundle-v2"
    v2.mkdir()
    (v2 / "config.json").write_text(json.dumps(config | {"root": {"path": str(place / "rootfs"), "readonly": True}}))
    yield place


def runtime(name: str, folder: Path) -> tuple[list[str], str] | None:
    """The command with its own state directory, and what the reader should know of it."""
    if name in ENVIRONMENT:
        front = Path(programs.ROOT, "src/masu/libexec/masu-oci")
        note = "by an interpreter that runs already" if name.endswith("warm") else "a cold start"
        return ([str(front), "--root", str(folder / name)], note) if front.exists() else None
    path = shutil.which(name)
    note = "cgroup v2 alone, no device rules" if needs_v2(name) else ""
    return ([path, "--root", str(folder / name)], note) if path else None


def needs_v2(name: str) -> bool:
    """crun refuses a hybrid hierarchy. It gets a mount namespace with cgroup2 alone, which spares it v1's work."""
    return name == "crun" and Path("/sys/fs/cgroup/unified").exists()


def leave_v1() -> None:
    """The calling thread goes to a mount namespace of its own with cgroup2 alone; what it spawns is born there."""
    libc = ctypes.CDLL(None, use_errno=True)
    # unshare(2): CLONE_NEWNS implies CLONE_FS, so the other threads stay where they are. MS_REC | MS_SLAVE.
    if libc.unshare(0x00020000) or libc.mount(None, b"/", None, 0x84000, None):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    if libc.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", 0, None):
        raise OSError(ctypes.get_errno(), "mount cgroup2")


def on_v2_alone(work: Work) -> Work:
    thread = ThreadPoolExecutor(1, initializer=leave_v1)
    return lambda: thread.submit(work).result()


def own(name: str, place: Path) -> Path:
    return place.with_name("bundle-v2") if needs_v2(name) else place


def slug(name: str) -> str:
    return name.replace(" ", "-")


def call(name: str, *words: str) -> Work:
    return command(*words, env=ENVIRONMENT.get(name))


def contender(name: str, note: str, work: Work) -> Contender:
    return Contender(name, on_v2_alone(work) if needs_v2(name) else work, note=note)


def start(folder: Path, place: Path) -> list[Contender]:
    rootfs = place / "rootfs"
    floor = programs.compile_static(Path(__file__).with_name("floor.c"))
    contenders = [Contender("floor", command(floor, rootfs, "/bin/true"), note="bare C, same namespaces and mounts")]
    for name in RUNTIMES:
        if found := runtime(name, folder):
            words, note = found
            run = call(name, *words, "run", "--bundle", os.fspath(own(name, place)), f"bench-{slug(name)}")
            contenders.append(contender(name, note, run))
    if bwrap := shutil.which("bwrap"):
        words = ["--unshare-all", "--bind", str(rootfs), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        contenders.append(Contender("bubblewrap", command(bwrap, *words, "/bin/true")))
    python = str(Path(programs.ROOT, "build/ready").read_text().strip())
    return [*contenders, Contender("python -SIE -c ''", command(python, "-SIEc", ""), note="the interpreter alone")]


def rate(folder: Path, place: Path, rounds: int) -> list[tuple[str, ...]]:
    """Rows of containers run to their end a second, by so many callers at a time."""
    rows = [("", *(f"{count}" for count in CALLERS))]
    for name in RUNTIMES:
        if found := runtime(name, folder):
            rows.append((name, *(_rate(name, found[0], place, count, rounds) for count in CALLERS)))
    return rows


def _rate(name: str, words: list[str], place: Path, callers: int, rounds: int) -> str:
    bundle = os.fspath(own(name, place))

    def one(number: int) -> None:
        call(name, *words, "run", "--bundle", bundle, f"bench-{slug(name)}-{number}")()

    with ThreadPoolExecutor(callers, initializer=leave_v1 if needs_v2(name) else None) as pool:
        try:
            list(pool.map(one, range(2 * callers)))
            begun = time.perf_counter()
            count = max(rounds, 4 * callers)
            list(pool.map(one, range(count)))
        except RuntimeError as error:
            print(f"{name}, {callers} at a time: {error}")
            return "-"
        return f"{count / (time.perf_counter() - begun):.0f}"


def lifecycle(folder: Path, place: Path) -> list[Contender]:
    contenders = []
    for name in RUNTIMES:
        if found := runtime(name, folder):
            words, note = found
            steps = (["create", "--bundle", os.fspath(own(name, place))], ["start"], ["delete", "--force"])
            work = sequence(*(call(name, *words, *step, f"bench-{slug(name)}") for step in steps))
            contenders.append(contender(name, note, work))
    return contenders
