"""Shares of cache and memory bandwidth: Intel RDT, AMD QoS, by the resctrl file system
(Documentation/filesystems/resctrl.rst, Linux 4.10; config-linux.md, "IntelRdt").

    <root>/                               the default class of service; info/ tells what the machine can do
    <root>/<closID or id>/                a class (CTRL_MON group): its shares in `schemata`, its threads in `tasks`
    <root>/<class>/mon_groups/<id>/       a MON group: of the class, but counted apart

What is forked is in the groups of who forks. A group that is removed leaves its tasks to the one above it, so nothing
keeps a class in use from being removed: only the container's own goes with it.
"""

from __future__ import annotations

import errno
import os

from masu.errors import FailedPrecondition, KernelError, MasuError, NotFound
from masu.linux import fds, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from masu.spec.linux import LinuxIntelRdt

WHERE = "linux.intelRdt"
# Where everybody mounts it.
USUAL_ROOT = "/sys/fs/resctrl"
_READ_MAX = 1 << 20
# info/L3_MON/mon_features -> the list that `events` has it in; the files in mon_data have the same names.
_COUNTERS = {"mbm_total_bytes": "mbm_stats", "mbm_local_bytes": "mbm_stats", "llc_occupancy": "cmt_stats"}


def find_root() -> str:
    """Where resctrl is mounted. Raises FailedPrecondition."""
    for mount in mountinfo.read():
        if mount.fstype == "resctrl":
            return mount.mount_point
    known = any(line.split()[-1:] == [b"resctrl"] for line in _read("/proc/filesystems").splitlines())
    raise FailedPrecondition(
        # runc's sentence.
        "intelRdt is specified in config, but Intel RDT is not enabled",
        detail="no resctrl file system is mounted",
        where=WHERE,
        hint=f"mount -t resctrl resctrl {USUAL_ROOT}"
        if known
        else "this kernel, or this processor, does not share out cache or bandwidth",
    )


def has_l3(root: str) -> bool:
    """Whether the L3 cache can be shared out (CAT)."""
    return os.path.isdir(root + "/info/L3")


def has_memory_bandwidth(root: str) -> bool:
    """Whether memory bandwidth can be shared out (MBA)."""
    return os.path.isdir(root + "/info/MB")


def check(root: str, wanted: LinuxIntelRdt) -> None:
    """Raises FailedPrecondition for shares of what this machine does not share out."""
    for value, field, technology, has in (
        (wanted.l3_cache_schema, "l3CacheSchema", "CAT", has_l3),
        (wanted.mem_bw_schema, "memBwSchema", "MBA", has_memory_bandwidth),
    ):
        if value and not has(root):
            raise FailedPrecondition(
                f"intelRdt.{field} is specified in config, but Intel RDT/{technology} is not enabled",
                where=f"{WHERE}.{field}",
                hint=f"see {root}/info for what this machine has",
            )


class Group:
    """The class of service of a container, and its MON group when it is counted apart.

    `path` and `monitor` are their directories; `own` is the one that goes with the container, "" for none. The
    object holds nothing open; what it is made of is kept in state.json (`paths`).
    """

    __slots__ = ("_made", "monitor", "own", "path", "root")

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.root = paths["root"]
        self.path = paths["group"]
        self.monitor = paths.get("monitor", "")
        self.own = paths.get("own", "")
        self._made = False

    @classmethod
    def of(cls, root: str, id: str, wanted: LinuxIntelRdt) -> Group:
        """The groups of container `id`; nothing is made yet."""
        name = wanted.clos_id or id
        path = root if name == "/" else f"{root}/{name}"
        monitor = f"{path}/mon_groups/{id}" if wanted.enable_monitoring else ""
        # A class that was there, or that was asked for by name, may have others in it.
        own = path if not wanted.clos_id and not os.path.exists(path) else monitor
        return cls({"root": root, "group": path, "monitor": monitor, "own": own})

    def paths(self) -> dict[str, str]:
        """What the constructor takes."""
        return {"root": self.root, "group": self.path, "monitor": self.monitor, "own": self.own}

    def make(self, wanted: LinuxIntelRdt) -> None:
        """Makes what is missing and writes the shares.

        Raises NotFound (a class without shares has to be there), FailedPrecondition (a class that is there has other
        shares), KernelError with what the kernel says of it (info/last_cmd_status).
        """
        lines = lines_of(wanted)
        if wanted.clos_id and not lines and not os.path.isdir(self.path):
            raise NotFound(
                "class of service",
                self.path,
                where=f"{WHERE}.closID",
                detail="clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are "
                "empty)",
                hint="mkdir it and write its schemata, or give them here",
            )
        self._made = self.path != self.root and self._mkdir(self.path, "L3", "num_closids")
        if not self._made:
            self._check_class(wanted)
        if lines:
            self.write(lines)
        if self.monitor:
            self._mkdir(self.monitor, "L3_MON", "num_rmids")

    def _mkdir(self, path: str, resource: str, limit: str) -> bool:
        """Whether it was not there before."""
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return False
        except OSError as error:
            hint = ""
            if error.errno == errno.ENOSPC:
                most = _text(f"{self.root}/info/{resource}/{limit}")
                hint = f"this machine has {most or 'few'} of them ({limit}): remove one, or name one by closID"
            raise self._error("mkdir", path, error, hint=hint) from error
        return True

    def _check_class(self, wanted: LinuxIntelRdt) -> None:
        """That what is there is a class and, if it was asked for by name, has the shares that are asked for: to change
        them would be to change those of others."""
        if not os.path.exists(self.path + "/tasks"):
            raise FailedPrecondition(
                "class of service", self.path, detail="it is none", where=f"{WHERE}.closID", hint="choose another name"
            )
        if not wanted.clos_id:
            return
        present = [_domains(line) for line in self.schemata()]
        for line, field in ((wanted.l3_cache_schema, "l3CacheSchema"), (wanted.mem_bw_schema, "memBwSchema")):
            name, domains = _domains(line or "")
            there = next((values for other, values in present if other == name), {})
            for number, value in domains.items():
                if there.get(number, value) not in (value, self._rounded(name, value)):
                    raise FailedPrecondition(
                        "class of service",
                        self.path,
                        detail=f"its schemata are others: {'; '.join(self.schemata())}",
                        where=f"{WHERE}.{field}",
                        hint="ask for these or for none, or name another class",
                    )

    def _rounded(self, name: str, value: int) -> int:
        # The kernel takes bandwidth up to the next step of the hardware (bw_validate()).
        step = _number(f"{self.root}/info/{name}/bandwidth_gran") or 1
        return -(-value // step) * step

    def schemata(self) -> list[str]:
        """The shares of the class, a resource a line. Raises KernelError."""
        return self._lines(self.path)

    def _lines(self, path: str) -> list[str]:
        path += "/schemata"
        try:
            text = fds.read_bounded(path, _READ_MAX)
        except FileNotFoundError as error:
            raise KernelError("open", path, errno.ENOENT, where=WHERE) from error
        return [line.strip() for line in text.decode("ascii", "replace").splitlines() if line.strip()]

    def write(self, lines: Iterable[str]) -> None:
        """Writes shares, all of them or, after a KernelError, none: the kernel takes one write as a whole."""
        text = "".join(line + "\n" for line in lines)
        try:
            fd = os.open(self.path + "/schemata", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                fds.write_all(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            shown = "; ".join(text.splitlines())
            raise self._error("write", self.path + "/schemata", error, detail=shown) from error

    def present(self, lines: Iterable[str]) -> list[str]:
        """The shares as they are of the resources that `lines` change."""
        names = {line.partition(":")[0].strip() for line in lines}
        return [line for line in self.schemata() if line.partition(":")[0] in names]

    def join_files(self) -> list[str]:
        """The files into which a task writes "0" to be in the groups, in this order: a MON group takes only those of
        its class."""
        return [path + "/tasks" for path in (self.path, self.monitor) if path]

    def remove(self) -> None:
        """Removes what goes with the container. Raises KernelError."""
        if self.own:
            self._rmdir(self.own)

    def undo(self) -> None:
        """Removes what `make` has made: unlike `remove`, also a class that was asked for by name, unless somebody is
        in it already."""
        self.remove()
        if self._made and self.path != self.own and not _text(self.path + "/tasks"):
            self._rmdir(self.path)

    def _rmdir(self, path: str) -> None:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._error("rmdir", path, error) from error

    def _error(self, call: str, path: str, error: OSError, *, detail: str = "", hint: str = "") -> MasuError:
        detail = "; ".join(filter(None, (detail, last_status(self.root))))
        return KernelError(call, path, error.errno or 0, detail=detail, where=WHERE, hint=hint)

    def stats(self) -> dict[str, object]:
        """What `events` tells as intel_rdt, in runc's words: the machine's shares, those of the class, and what the
        container, or without monitoring of its own its class, has used. What the kernel has no figure for at the
        moment is left out. Raises KernelError."""
        found: dict[str, object] = {}
        lines, top = self.schemata(), self._lines(self.root)
        if has_l3(self.root):
            found["l3_cache_info"] = self._info("L3", ("min_cbm_bits", "num_closids"), ("cbm_mask",))
            found |= _schema("l3_cache_schema", "L3:", lines, top)
        if has_memory_bandwidth(self.root):
            numbers = ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")
            found["mem_bw_info"] = self._info("MB", numbers)
            found |= _schema("mem_bw_schema", "MB:", lines, top)
        if lines:
            found["schemata"] = lines
        return found | self._counters()

    def _info(self, resource: str, numbers: tuple[str, ...], texts: tuple[str, ...] = ()) -> dict[str, object]:
        folder = f"{self.root}/info/{resource}/"
        values: dict[str, object] = {name: _text(folder + name) for name in texts}
        values |= {name: _number(folder + name) for name in numbers}
        return {name: value for name, value in values.items() if value}

    def _counters(self) -> dict[str, object]:
        """A list for each technology with an entry for each cache (mon_data/mon_L3_00), in their order."""
        features = [name for name in _text(f"{self.root}/info/L3_MON/mon_features").split() if name in _COUNTERS]
        if not features:
            return {}
        path = (self.monitor or self.path) + "/mon_data"
        try:
            caches = sorted(entry.path for entry in os.scandir(path) if entry.is_dir())
        except OSError as error:
            raise self._error("open", path, error) from error
        lists: dict[str, list[dict[str, int]]] = {_COUNTERS[name]: [] for name in features}
        for cache in caches:
            for key, entries in lists.items():
                values = {name: _number(f"{cache}/{name}") for name in features if _COUNTERS[name] == key}
                entries.append({name: value for name, value in values.items() if value is not None})
        return dict(lists)


def lines_of(wanted: LinuxIntelRdt) -> list[str]:
    """What is written to `schemata`, in the order that the specification asks for."""
    return [line for line in (wanted.l3_cache_schema, wanted.mem_bw_schema, *wanted.schemata) if line]


def last_status(root: str) -> str:
    """What the kernel says of the last thing that was asked of it there and failed; "" when it is nothing."""
    text = _text(root + "/info/last_cmd_status")
    return "" if text == "ok" else " ".join(text.split())


def _schema(key: str, start: str, lines: list[str], top: list[str]) -> dict[str, object]:
    found = {}
    for name, where in ((key + "_root", top), (key, lines)):
        line = next((line for line in where if line.startswith(start)), "")
        if line:
            found[name] = line
    return dict(found)


def _domains(line: str) -> tuple[str, dict[int, int]]:
    """ "L3:0=7f0;1=1f" as ("L3", {0: 0x7f0, 1: 0x1f}). What cannot be read is the kernel's to refuse: ("", {})."""
    name, _, rest = line.partition(":")
    base = 10 if name.strip() in ("MB", "SMBA") else 16
    try:
        pairs = [domain.split("=") for domain in rest.split(";")]
        return name.strip(), {int(number): int(value, base) for number, value in pairs}
    except ValueError:
        return "", {}


def _read(path: str) -> bytes:
    try:
        return fds.read_bounded(path, _READ_MAX)
    except (FileNotFoundError, MasuError, OSError):
        return b""


def _text(path: str) -> str:
    return _read(path).decode("ascii", "replace").strip()


def _number(path: str) -> int | None:
    # "Unavailable" and "Error" are what a counter says that cannot be read now (rdtgroup_mondata_show()).
    text = _text(path)
    return int(text) if text.isdecimal() else None
