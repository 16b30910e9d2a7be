"""Id maps of user namespaces: writing, reading, translating (user_namespaces(7), subuid(5)).

A map is lines `inside outside length`. A process with CAP_SETUID and CAP_SETGID writes /proc/PID/uid_map and
gid_map itself. Without, it may map its own id alone, and must give up setgroups(2) for that; ranges of subordinate
ids are written by the setuid helpers newuidmap and newgidmap of the host, which look into /etc/subuid and
/etc/subgid. The helpers are taken from fixed directories, never through PATH.
"""

from __future__ import annotations

import errno
import os
import stat as _stat

from masu.errors import InvalidArgument, KernelError, NotFound, PermissionDenied, ResourceExhausted
from masu.linux import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    class MappingLike(Protocol):
        """One line of an id map, as `Mapping` below and the spec's IDMapping are."""

        @property
        def container_id(self) -> int: ...
        @property
        def host_id(self) -> int: ...
        @property
        def size(self) -> int: ...


# (uid_t)-1 means "no change" to the kernel and is never an id.
MAX_ID = 0xFFFFFFFE
# UID_GID_MAP_MAX_EXTENTS, Linux 4.15 (5 before).
MAX_EXTENTS = 340
_PROC_SUPER_MAGIC = 0x9FA0
_SUBID_LIMIT_BYTES = 1 << 20
_HELPER_DIRECTORIES = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin")


class Mapping:
    """`size` ids from `container_id` on, inside, are those from `host_id` on, outside."""

    __slots__ = ("container_id", "host_id", "size")

    def __init__(self, container_id: int, host_id: int, size: int) -> None:
        self.container_id = container_id
        self.host_id = host_id
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.as_tuple() == other.as_tuple()

    def __hash__(self) -> int:
        return hash(self.as_tuple())

    def __repr__(self) -> str:
        return f"Mapping({self.container_id}, {self.host_id}, {self.size})"

    def as_tuple(self) -> tuple[int, int, int]:
        return self.container_id, self.host_id, self.size


def text(mappings: Iterable[MappingLike]) -> str:
    """The text of a uid_map."""
    return "".join(f"{item.container_id} {item.host_id} {item.size}\n" for item in mappings)


def parse(content: str) -> list[Mapping]:
    """The mappings of a uid_map's text. Raises ValueError for anything else."""
    found = []
    for line in content.splitlines():
        words = line.split()
        if len(words) != 3 or not all(word.isascii() and word.isdecimal() and len(word) <= 10 for word in words):
            raise ValueError(line)
        found.append(Mapping(*(int(word) for word in words)))
    return found


def of_process(pid: int | str = "self", kind: str = "uid") -> list[Mapping]:
    """The map of a process's user namespace, `kind` "uid" or "gid", outside ids as we see them. KernelError."""
    path = f"/proc/{pid}/{kind}_map"
    try:
        with open(path, encoding="ascii") as file:
            return parse(file.read(1 << 16))
    except OSError as e:
        raise KernelError("read", path, e.errno or 0) from e


def check(mappings: Sequence[MappingLike], where: str) -> None:
    """What the kernel would refuse with a bare EINVAL: too many ranges, beyond 32 bits, overlapping.

    Raises InvalidArgument naming `where[index]`.
    """
    if len(mappings) > MAX_EXTENTS:
        raise InvalidArgument("id map", f"{len(mappings)} ranges", where=where, detail=f"at most {MAX_EXTENTS}")
    for index, item in enumerate(mappings):
        shown = f"{item.container_id} {item.host_id} {item.size}"
        if item.size <= 0 or min(item.container_id, item.host_id) < 0:
            raise InvalidArgument("id map range", shown, where=f"{where}[{index}]", detail="size must be above 0")
        if max(item.container_id, item.host_id) + item.size > MAX_ID + 1:
            raise InvalidArgument("id map range", shown, where=f"{where}[{index}]", detail="beyond 32 bits")
        for other, before in enumerate(mappings[:index]):
            if _overlap(item.container_id, item.size, before.container_id, before.size) or _overlap(
                item.host_id, item.size, before.host_id, before.size
            ):
                raise InvalidArgument(
                    "id map range", shown, where=f"{where}[{index}]", detail=f"overlaps with {where}[{other}]"
                )


def _overlap(a: int, a_size: int, b: int, b_size: int) -> bool:
    return a < b + b_size and b < a + a_size


def to_host(mappings: Iterable[MappingLike], id: int) -> int | None:
    """The id outside for one inside; None when it is not mapped."""
    for item in mappings:
        if item.container_id <= id < item.container_id + item.size:
            return item.host_id + id - item.container_id
    return None


def to_container(mappings: Iterable[MappingLike], id: int) -> int | None:
    """The id inside for one outside; None when it is not mapped (programs then see the overflow id, 65534)."""
    for item in mappings:
        if item.host_id <= id < item.host_id + item.size:
            return item.container_id + id - item.host_id
    return None


def write(pid: int, uid_map: str, gid_map: str) -> None:
    """Write both maps of a process that has just made a user namespace and waits. An empty text writes nothing.

    Directly where that is allowed, else through newuidmap and newgidmap. Raises NotFound (no such process, or a
    helper that is needed is not installed), PermissionDenied with what the helper said, KernelError.
    """
    try:
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        if e.errno == errno.ENOENT:
            raise NotFound("process", pid) from e
        raise KernelError("open", f"/proc/{pid}", e.errno or 0) from e
    try:
        # What is written here decides who is root: only into a real procfs (CVE-2019-16884 and its kin).
        if _sys.fstatfs_type(process) != _PROC_SUPER_MAGIC:
            raise PermissionDenied("/proc", detail="not a procfs")
        if uid_map and not _write_directly(process, pid, "uid_map", uid_map):
            _run_helper("uid", pid, uid_map)
        if gid_map and not _write_directly(process, pid, "gid_map", gid_map):
            _write_gid_map_unprivileged(process, pid, gid_map)
    finally:
        os.close(process)


def _write_directly(process: int, pid: int, name: str, content: str) -> bool:
    try:
        _write_file(process, name, content)
    except OSError as e:
        if e.errno == errno.EPERM and os.geteuid() != 0:
            return False
        if e.errno == errno.EPERM:
            raise KernelError(
                "write",
                f"/proc/{pid}/{name}",
                errno.EPERM,
                detail="it has been written before, or a capability is missing",
                hint="CAP_SETUID and CAP_SETGID; CAP_SETFCAP too where the host's root is mapped (Linux 5.12)",
            ) from e
        detail = _why_refused(e.errno, content)
        raise KernelError("write", f"/proc/{pid}/{name}", e.errno or 0, detail=detail) from e
    return True


def _write_gid_map_unprivileged(process: int, pid: int, gid_map: str) -> None:
    mappings = parse(gid_map)
    if len(mappings) == 1 and mappings[0].size == 1 and mappings[0].host_id == os.getegid():
        # Else the container could drop a group that a file's mode denies something to (CVE-2014-8989).
        try:
            _write_file(process, "setgroups", "deny")
            _write_file(process, "gid_map", gid_map)
        except OSError as e:
            raise KernelError("write", f"/proc/{pid}/gid_map", e.errno or 0) from e
        return
    _run_helper("gid", pid, gid_map)


def _write_file(process: int, name: str, content: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=process)
    try:
        # The kernel takes a map in one write only.
        os.write(fd, content.encode("ascii"))
    finally:
        os.close(fd)


def _why_refused(number: int | None, content: str) -> str:
    if number != errno.EINVAL:
        return ""
    try:
        check(parse(content), "range")
    except InvalidArgument as e:
        return str(e)
    except ValueError:
        return "not lines of three numbers"
    return "ranges overlap, or an outside id is not mapped in our own user namespace"


def _run_helper(kind: str, pid: int, content: str) -> None:
    from masu.linux import spawn  # only without privileges

    name = f"new{kind}map"
    path = helper(name)
    output = os.memfd_create(name, os.MFD_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        child = spawn.spawn(path, [path, str(pid), *content.split()], {}, stdio=(null, output, output), cwd="/")
        status = spawn.wait(child)[1]
        said = os.pread(output, 1024, 0).decode("utf-8", "replace").strip()
    finally:
        os.close(null)
        os.close(output)
    if status:
        hint = _needed_line(kind, parse(content))
        raise PermissionDenied(name, content.replace("\n", "; ").rstrip("; "), detail=said, hint=hint)


def _needed_line(kind: str, mappings: list[Mapping]) -> str:
    """What an administrator would have to write into /etc/subuid for the first range that is not the caller's."""
    import pwd  # only for this hint

    uid, own = os.getuid(), os.getuid() if kind == "uid" else os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid} has no line in /etc/passwd, without which new{kind}map does nothing"
    given = subordinate(kind, uid, name)
    for item in mappings:
        first, last = item.host_id, item.host_id + item.size - 1
        if (item.size == 1 and first == own) or any(at <= first and last < at + count for at, count in given):
            continue
        return (
            f'/etc/sub{kind} would need the line "{name}:{first}:{item.size}": '
            f"as root, usermod --add-sub{kind}s {first}-{last} {name}"
        )
    return f"/etc/sub{kind} gives {name} these ranges; is new{kind}map setuid root, and its file system not nosuid?"


def helper(name: str) -> str:
    """The absolute path of newuidmap or newgidmap: a file of root's that nobody else may write. Raises NotFound."""
    for directory in _HELPER_DIRECTORIES:
        path = f"{directory}/{name}"
        try:
            facts = os.stat(path)
        except OSError:
            continue
        if _stat.S_ISREG(facts.st_mode) and facts.st_uid == 0 and not facts.st_mode & 0o022 and facts.st_mode & 0o111:
            return path
    raise NotFound(
        "program", name, detail="not in " + ", ".join(_HELPER_DIRECTORIES), hint="install the package uidmap"
    )


def subordinate(kind: str, uid: int, name: str = "") -> list[tuple[int, int]]:
    """(first, count) of the ranges that /etc/subuid (`kind` "uid") or /etc/subgid ("gid") gives to a user, by name
    or by number. A missing file gives none; lines that are none are passed over.

    Raises ResourceExhausted for a file beyond 1 MiB, KernelError.
    """
    path = f"/etc/sub{kind}"
    try:
        with open(path, "rb") as file:
            content = file.read(_SUBID_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as e:
        raise KernelError("read", path, e.errno or 0) from e
    if len(content) > _SUBID_LIMIT_BYTES:
        raise ResourceExhausted("file", path, detail=f"longer than {_SUBID_LIMIT_BYTES} bytes")
    return parse_subordinate(content, uid, name)


def parse_subordinate(content: bytes, uid: int, name: str = "") -> list[tuple[int, int]]:
    owners = {str(uid).encode(), os.fsencode(name or str(uid))}
    found = []
    for line in content.split(b"\n"):
        words = line.strip().split(b":")
        if len(words) != 3 or words[0] not in owners or line.startswith(b"#"):
            continue
        if not all(word.isdigit() and len(word) <= 10 for word in words[1:]):
            continue
        first, count = int(words[1]), int(words[2])
        if count and first + count <= MAX_ID + 1:
            found.append((first, count))
    return found


def rootless(uid: int, gid: int, name: str = "") -> tuple[list[Mapping], list[Mapping]]:
    """The usual maps of a container without root: the caller is 0 inside, the subordinate ids follow from 1 on."""
    return _rootless("uid", uid, uid, name), _rootless("gid", gid, uid, name)


def _rootless(kind: str, own: int, uid: int, name: str) -> list[Mapping]:
    mappings, next_id = [Mapping(0, own, 1)], 1
    for first, count in subordinate(kind, uid, name)[: MAX_EXTENTS - 1]:
        mappings.append(Mapping(next_id, first, count))
        next_id += count
    return mappings
