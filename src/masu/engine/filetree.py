"""The files behind a container, as people like to look at them with tree(1)."""

from __future__ import annotations

import os

from masu.engine import states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.engine import Engine
    from masu.engine.records import Record

_WORDS = {
    "attach.sock": "the monitor listens here: attach, resize, close stdin, the end",
    "config.json": "what the runtime was asked for",
    "exec.fifo": "the process waits here for its start",
    "exit": "how it ended, written by the monitor",
    "hostname": "bound into the container",
    "hosts": "bound into the container",
    "lock": "held by whoever changes the container",
    "log": "what it wrote, in CRI's format",
    "pid": "process and monitor, with their start times",
    "resolv.conf": "bound into the container",
    "started": "somebody has begun to start it",
    "state.json": "what the runtime knows: pid, start time, cgroups",
    "task.json": "the process that a client has added",
    "told": "its end has been published",
}
_KINDS = {0o140000: "socket", 0o010000: "FIFO", 0o120000: "link"}
_MAX_ENTRIES = 1000
# What an image holds is not what is wanted here.
_SHUT = ("upper", "work", "fs", "rootfs")


def lines(engine: Engine, record: Record) -> list[str]:
    """The tree, a line each: what must outlive a reboot, what need not, the layers, the cgroups."""
    out: list[str] = []
    places = [engine.directory(record.id), f"{engine.run_root}/{record.id}"]
    places.append(f"{engine.run}/bundles/{engine.namespace}/{record.id}")
    places.append(f"{engine.run}/execs/{engine.namespace}/{record.id}")
    for place in places:
        if os.path.isdir(place):
            out.append(place)
            _walk(place, "", out)
    if record.row.snapshot_key:
        out.append(f"snapshot {record.row.snapshot_key} of {record.row.snapshotter}")
        from masu.snapshots import choose

        for mount in choose(engine.ns, record.row.snapshotter).mounts(record.row.snapshot_key):
            options = [word for word in mount.options if "dir=" in word]
            shown = [path for word in options for path in word.partition("=")[2].split(":")] or [mount.source]
            out += [f"{'└' if path is shown[-1] else '├'}── {path}" for path in shown]
    runtime = states.open_runtime(engine, record.id)
    if runtime is not None and runtime.facts.cgroup_paths:
        out.append("cgroups")
        paths = sorted(set(runtime.facts.cgroup_paths.values()))
        out += [f"{'└' if path is paths[-1] else '├'}── {path}" for path in paths]
    return out


def _walk(directory: str, indent: str, out: list[str]) -> None:
    names = sorted(os.listdir(directory))
    for name in names:
        if len(out) >= _MAX_ENTRIES:
            out.append(f"{indent}… and more")
            return
        path = f"{directory}/{name}"
        last = name is names[-1]
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue  # gone meanwhile
        kind = status.st_mode & 0o170000
        about = _KINDS.get(kind, "")
        word = _WORDS.get(name, "")
        note = ": ".join(filter(None, (about, word)))
        shown = name if name.isprintable() else repr(name)
        out.append(f"{indent}{'└' if last else '├'}── {shown}{f'  ({note})' if note else ''}")
        if kind == 0o040000 and name not in _SHUT:
            _walk(path, indent + ("    " if last else "│   "), out)
