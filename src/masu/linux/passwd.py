"""Users and groups as an image's own /etc/passwd and /etc/group name them.

The files are the image's: they may be of any size and hold anything. They are read through the root's descriptor
(no symlink leads out of it), bounded, and only their own fields are believed. A number is a number: ASCII digits,
within 32 bits. Whatever does not parse is an error or no entry, never user 0 (CVE-2024-40635: "4294967296" became
root; CVE-2026-30892: so did what `exec -u` could not read; CVE-2025-4437: files of gigabytes).
"""

from __future__ import annotations

import errno

from masu.errors import InvalidArgument, KernelError, NotFound, ResourceExhausted
from masu.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PASSWD = "/etc/passwd"
GROUP = "/etc/group"

# (uid_t)-1 is no user: setresuid(2) takes it for "leave as it is".
MAX_ID = 0xFFFFFFFE
_LIMIT_BYTES = 4 << 20
# NGROUPS_MAX (setgroups(2)).
_MAX_GROUPS = 65536


class User:
    """Whom a process runs as. `additional_gids` begins with `gid`: a process that has its primary group only as
    the primary one loses it by setgid programs, and with it a denial by group (CVE-2022-36109, CVE-2023-25173).
    `name` is "" for a number that passwd does not know; `home` is then "/"."""

    __slots__ = ("additional_gids", "gid", "home", "name", "uid")

    def __init__(
        self, uid: int = 0, gid: int = 0, additional_gids: tuple[int, ...] = (), name: str = "", home: str = "/"
    ) -> None:
        self.uid = uid
        self.gid = gid
        self.additional_gids = additional_gids
        self.name = name
        self.home = home

    def __repr__(self) -> str:
        return f"User({self.uid}:{self.gid} {self.additional_gids} {self.name!r} {self.home!r})"


class Entry:
    """A line of passwd or group that is whole; `home` and `members` are of one or the other."""

    __slots__ = ("gid", "home", "id", "members", "name")

    def __init__(self, name: str, id: int, gid: int, home: str, members: tuple[str, ...]) -> None:
        self.name = name
        self.id = id
        self.gid = gid
        self.home = home
        self.members = members


def resolve(rootfd: int, spec: str, *, groups: Iterable[str] = (), where: str = "user") -> User:
    """The user that "name", "uid", "name:group", "uid:gid" or any mixture means in this root; "" is user 0.

    As Docker: a number is always an id, whether or not passwd knows it; a name must be in the file. Without a
    group the primary one is passwd's (0 for an unknown number) and the supplementary ones are those of
    /etc/group that list the user's name; with a group it is that alone. `groups` (Docker's --group-add) come on
    top, names or numbers.

    Raises NotFound for a name that is not there, InvalidArgument for what cannot be a user, ResourceExhausted for
    files beyond 4 MiB, KernelError.
    """
    user_word, colon, group_word = spec.partition(":")
    if colon and not group_word:
        raise InvalidArgument("user", spec, where=where, detail='nothing follows the ":"')
    user = _find_user(rootfd, user_word, spec, where)
    additional: list[int] = []
    if group_word:
        user.gid = _find_group(rootfd, group_word, where)
    elif user.name:
        additional = [entry.id for entry in _entries(rootfd, GROUP) if user.name in entry.members]
    for group in groups:
        additional.append(_find_group(rootfd, group, where))
    # In order, each once.
    user.additional_gids = tuple(dict.fromkeys([user.gid, *additional]))[:_MAX_GROUPS]
    return user


def _find_user(rootfd: int, word: str, spec: str, where: str) -> User:
    number = _number(word, "user", spec, where) if word else 0
    for entry in _entries(rootfd, PASSWD):
        if entry.name == word if number is None else entry.id == number:
            return User(entry.id, entry.gid, name=entry.name, home=entry.home)
    if number is None:
        raise NotFound("user", word, where=where, detail=f"no matching entries in the image's {PASSWD}")
    return User(number)


def _find_group(rootfd: int, word: str, where: str) -> int:
    number = _number(word, "group", word, where)
    if number is not None:
        return number
    for entry in _entries(rootfd, GROUP):
        if entry.name == word:
            return entry.id
    raise NotFound("group", word, where=where, detail=f"no matching entries in the image's {GROUP}")


def _number(word: str, what: str, spec: str, where: str) -> int | None:
    """The id, or None for what must be a name. What looks like a number but is none is refused, not looked up."""
    if not word or word[0] in "+-" or not word.isprintable() or "/" in word or "," in word or word.isspace():
        raise InvalidArgument(what, spec, where=where, detail="expected a name or a number")
    if not (word.isascii() and word.isdecimal()):
        if word.isdecimal():
            raise InvalidArgument(what, spec, where=where, detail="digits must be ASCII")
        return None
    number = int(word) if len(word) <= 10 else MAX_ID + 1
    if number > MAX_ID:
        raise InvalidArgument(what, spec, where=where, detail=f"uids and gids must be in range 0-{MAX_ID}")
    return number


def home(rootfd: int, uid: int, path: str = PASSWD) -> str:
    """HOME of a uid as passwd, by its path in this root, has it; "" when it does not say or cannot be read: never an
    error."""
    try:
        for entry in _entries(rootfd, path):
            if entry.id == uid:
                return entry.home
    except (KernelError, ResourceExhausted):
        pass
    return ""


def name_of(rootfd: int, uid: int) -> str:
    """The first name of a uid, "" when there is none or the file cannot be read."""
    try:
        for entry in _entries(rootfd, PASSWD):
            if entry.id == uid:
                return entry.name
    except (KernelError, ResourceExhausted):
        pass
    return ""


def _entries(rootfd: int, path: str) -> Iterator[Entry]:
    try:
        content = paths.read_in_root(rootfd, path, _LIMIT_BYTES)
    except KernelError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    parse = parse_group_line if path == GROUP else parse_passwd_line
    for line in content.split(b"\n"):
        entry = parse(line)
        if entry is not None:
            yield entry


def parse_passwd_line(line: bytes) -> Entry | None:
    """passwd(5): name:password:uid:gid:gecos:home:shell. None for a line that is not one."""
    words = line.split(b":")
    if len(words) < 4 or not words[0]:
        return None
    uid, gid = _id(words[2]), _id(words[3])
    if uid is None or gid is None:
        return None
    directory = words[5].decode("utf-8", "surrogateescape") if len(words) > 5 else ""
    # HOME goes into an environment: nothing that could end a line or a string there (CVE-2022-4318).
    if not directory.startswith("/") or not directory.isprintable():
        directory = "/"
    return Entry(words[0].decode("utf-8", "surrogateescape"), uid, gid, directory, ())


def parse_group_line(line: bytes) -> Entry | None:
    """group(5): name:password:gid:user,user. None for a line that is not one."""
    words = line.split(b":")
    if len(words) < 3 or not words[0]:
        return None
    gid = _id(words[2])
    if gid is None:
        return None
    members = words[3].decode("utf-8", "surrogateescape") if len(words) > 3 else ""
    return Entry(
        words[0].decode("utf-8", "surrogateescape"), gid, gid, "", tuple(name.strip() for name in members.split(","))
    )


def _id(word: bytes) -> int | None:
    if not word.isdigit() or len(word) > 10:
        return None
    number = int(word)
    return number if number <= MAX_ID else None
