"""Mounts: flags, the options of config.json, the mount API of Linux 5.2."""

from __future__ import annotations

import os

from masu.errors import InvalidArgument, KernelError, closest
from masu.linux import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from masu.linux.idmap import MappingLike
    from masu.linux.mountinfo import MountInfo


# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

# umount2(2)
MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

# mount_setattr(2)
MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
MOUNT_ATTR_RELATIME = 0x00000000
MOUNT_ATTR_NOATIME = 0x00000010
MOUNT_ATTR_STRICTATIME = 0x00000020
MOUNT_ATTR__ATIME = 0x00000070
MOUNT_ATTR_NODIRATIME = 0x00000080
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

# open_tree(2), fsopen(2), fsmount(2), fspick(2), move_mount(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSPICK_CLOEXEC = 1
FSPICK_SYMLINK_NOFOLLOW = 2
FSPICK_NO_AUTOMOUNT = 4
FSPICK_EMPTY_PATH = 8
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_BINARY = 2
FSCONFIG_SET_PATH = 3
FSCONFIG_SET_PATH_EMPTY = 4
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
MOVE_MOUNT_F_SYMLINKS = 0x01
MOVE_MOUNT_F_AUTOMOUNTS = 0x02
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_AUTOMOUNTS = 0x20
MOVE_MOUNT_T_EMPTY_PATH = 0x40

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# statfs(2)
PROC_SUPER_MAGIC = 0x9FA0
TMPFS_MAGIC = 0x01021994
OVERLAYFS_SUPER_MAGIC = 0x794C7630
CGROUP2_SUPER_MAGIC = 0x63677270
DEVPTS_SUPER_MAGIC = 0x1CD1

# ---- the options of config.json ----

# Attributes of a mount: word -> (MOUNT_ATTR_*, whether the word sets or clears it). Each has a recursive form with
# an "r" in front.
_ATTRIBUTES: dict[str, tuple[int, bool]] = {
    "ro": (MOUNT_ATTR_RDONLY, True), "rw": (MOUNT_ATTR_RDONLY, False),
    "nosuid": (MOUNT_ATTR_NOSUID, True), "suid": (MOUNT_ATTR_NOSUID, False),
    "nodev": (MOUNT_ATTR_NODEV, True), "dev": (MOUNT_ATTR_NODEV, False),
    "noexec": (MOUNT_ATTR_NOEXEC, True), "exec": (MOUNT_ATTR_NOEXEC, False),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, True), "diratime": (MOUNT_ATTR_NODIRATIME, False),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, True), "symfollow": (MOUNT_ATTR_NOSYMFOLLOW, False),
}  # fmt: skip

# The access time is one choice of three, not bits: word -> (the choice, the choices it replaces). "atime" ends only
# noatime and "nostrictatime" only strictatime, as clearing the bit does in mount(2); None replaces whatever is there.
_ATIMES: dict[str, tuple[int, int | None]] = {
    "noatime": (MOUNT_ATTR_NOATIME, None),
    "strictatime": (MOUNT_ATTR_STRICTATIME, None),
    "relatime": (MOUNT_ATTR_RELATIME, None),
    "atime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME),
    "nostrictatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME),
}

_PROPAGATION: dict[str, int] = {
    "private": MS_PRIVATE, "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE, "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED, "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE, "runbindable": MS_UNBINDABLE | MS_REC,
}  # fmt: skip

# Flags of the file system, by the words fsconfig(2) takes: word -> the word that is its opposite. "ro" is both
# this and an attribute, as MS_RDONLY is for mount(2).
_SUPERBLOCK: dict[str, str] = {
    "ro": "rw", "rw": "ro",
    "sync": "async", "async": "sync",
    "dirsync": "", "lazytime": "nolazytime", "nolazytime": "lazytime",
    "mand": "nomand", "nomand": "mand",
}  # fmt: skip
_SUPERBLOCK_CLEARS = frozenset(("rw", "async", "nolazytime", "nomand"))

# Accepted, with nothing to do: "norelatime" because relatime is the kernel's default (mount(2), Linux 2.6.30),
# MS_SILENT and MS_I_VERSION because fsconfig(2) has no words for them (they quieten messages, and file systems
# that count versions do so by themselves).
_NOTHING = frozenset(("defaults", "norelatime", "rnorelatime", "silent", "loud", "iversion", "noiversion"))

# What is neither an attribute, nor a flag of the file system, nor propagation.
_OTHERS = ("bind", "rbind", "remount", "tmpcopyup", "copy-symlink", "dest-nofollow", "src-nofollow", "idmap", "ridmap")

# Every one of them, without doubles.
_KNOWN = sorted(
    {*_ATTRIBUTES, *_ATIMES, *_PROPAGATION, *_SUPERBLOCK, *_NOTHING, *_OTHERS}
    | {"r" + word for word in (*_ATTRIBUTES, *_ATIMES)}
)

# Options of file systems that stand one letter from a word of ours.
_NOT_MISSPELT = frozenset(("i_version", "noi_version", "nosync"))
_SELINUX = ("context", "fscontext", "defcontext", "rootcontext")
# UID_GID_MAP_MAX_EXTENTS, Linux 4.15.
_MAX_EXTENTS = 340


class MountOptions:
    """What a list of mount options asks for.

    `attr_set`, `attr_clr`: MOUNT_ATTR_* for the mount itself, `rec_attr_set`, `rec_attr_clr` for the whole tree;
    clear is applied before set, as mount_setattr(2) does. `sb_options`: flag words for fsconfig(2), without meaning
    for binds; words that only clear ("rw", "async") are kept for a remount alone. `data`: options of the file
    system, "key=value" or "flag", one each. `propagation`: MS_* flags in the order given.

    `idmap` wants the mount id-mapped (`idmap_recursive`: the tree); `idmap_uids`, `idmap_gids` are uid_map text of
    crun's `idmap=uids=…;gids=…`, lines that begin with "@" being relative (see `resolve_idmap`), or "".
    `tmpcopyup`, `copy_symlink`, `dest_nofollow` and `src_nofollow` are as runc and crun document them.
    """

    __slots__ = (
        "attr_clr",
        "attr_set",
        "bind",
        "copy_symlink",
        "data",
        "dest_nofollow",
        "idmap",
        "idmap_gids",
        "idmap_recursive",
        "idmap_uids",
        "propagation",
        "rec_attr_clr",
        "rec_attr_set",
        "recursive",
        "remount",
        "sb_options",
        "src_nofollow",
        "tmpcopyup",
    )

    def __init__(self) -> None:
        self.attr_set = 0
        self.attr_clr = 0
        self.rec_attr_set = 0
        self.rec_attr_clr = 0
        self.sb_options: tuple[str, ...] = ()
        self.data: tuple[str, ...] = ()
        self.propagation: tuple[int, ...] = ()
        self.bind = False
        self.recursive = False
        self.remount = False
        self.tmpcopyup = False
        self.copy_symlink = False
        self.dest_nofollow = False
        self.src_nofollow = False
        self.idmap = False
        self.idmap_recursive = False
        self.idmap_uids = ""
        self.idmap_gids = ""

    def __repr__(self) -> str:
        said = [f"{name}={value!r}" for name in self.__slots__ if (value := getattr(self, name))]
        return f"MountOptions({', '.join(said)})"


def known_options() -> list[str]:
    """Every option that is not the file system's own, sorted: the `mountOptions` of the features document."""
    return [*_KNOWN]


def parse_options(options: tuple[str, ...], where: str) -> MountOptions:
    """Read the options of a mount. `where` is the place of the list in the user's input; errors name
    `where[index]`.

    What is unknown belongs to the file system, unless it is a known word but for one slip; a bind mount, which has no
    use for it, is stricter about what may be one. Options joined by commas are taken apart, for mount(2) joins them
    anyway.

    Raises InvalidArgument.
    """
    state = _Parser(where)
    for index, option in enumerate(options):
        for word in _split(option) if "," in option else (option,):
            if word:
                state.take(word, index)
    return state.result()


class _Parser:
    __slots__ = ("atime", "data", "options", "propagation", "rec_atime", "superblock", "where")

    def __init__(self, where: str) -> None:
        self.where = where
        self.options = MountOptions()
        self.superblock: list[str] = []
        self.data: list[tuple[int, str]] = []
        self.propagation: list[int] = []
        self.atime: int | None = None
        self.rec_atime: int | None = None

    def take(self, word: str, index: int) -> None:
        if word in _SUPERBLOCK:
            self._superblock(word)
        if word in _ATTRIBUTES:
            self._attribute(word)
        elif word in _ATIMES:
            self.atime = _chosen(self.atime, word)
        elif word in _PROPAGATION:
            self.propagation.append(_PROPAGATION[word])
        elif word in _SUPERBLOCK or word in _NOTHING:
            pass
        elif word[0] == "r" and word[1:] in _ATTRIBUTES:
            self._recursive_attribute(word[1:])
        elif word[0] == "r" and word[1:] in _ATIMES:
            self.rec_atime = _chosen(self.rec_atime, word[1:])
        elif not self._special(word, index):
            self.data.append((index, word))

    def _superblock(self, word: str) -> None:
        for said in (word, _SUPERBLOCK[word]):
            if said in self.superblock:
                self.superblock.remove(said)
        self.superblock.append(word)

    def _attribute(self, word: str) -> None:
        bit, sets = _ATTRIBUTES[word]
        options = self.options
        if sets:
            options.attr_set, options.attr_clr = options.attr_set | bit, options.attr_clr & ~bit
        else:
            options.attr_set, options.attr_clr = options.attr_set & ~bit, options.attr_clr | bit

    def _recursive_attribute(self, word: str) -> None:
        bit, sets = _ATTRIBUTES[word]
        options = self.options
        if sets:
            options.rec_attr_set, options.rec_attr_clr = options.rec_attr_set | bit, options.rec_attr_clr & ~bit
        else:
            options.rec_attr_set, options.rec_attr_clr = options.rec_attr_set & ~bit, options.rec_attr_clr | bit

    def _special(self, word: str, index: int) -> bool:
        options = self.options
        if word in ("bind", "rbind"):
            options.bind = True
            options.recursive = options.recursive or word == "rbind"
        elif word == "remount":
            options.remount = True
        elif word == "tmpcopyup":
            options.tmpcopyup = True
        elif word == "copy-symlink":
            options.copy_symlink = True
        elif word == "dest-nofollow":
            options.dest_nofollow = True
        elif word == "src-nofollow":
            options.src_nofollow = True
        elif word in ("idmap", "ridmap"):
            options.idmap = True
            options.idmap_recursive = options.idmap_recursive or word == "ridmap"
        elif word.startswith(("idmap=", "ridmap=")):
            options.idmap = True
            options.idmap_recursive = options.idmap_recursive or word[0] == "r"
            self._idmap(word.partition("=")[2], f"{self.where}[{index}]")
        else:
            return False
        return True

    def _idmap(self, value: str, where: str) -> None:
        # crun(1), "idmap mount options": uids=0-1-10#10-11-10;gids=0-100-10
        for part in value.split(";"):
            key, _, ranges = part.partition("=")
            if key == "uids":
                self.options.idmap_uids = _idmap_text(ranges, where)
            elif key == "gids":
                self.options.idmap_gids = _idmap_text(ranges, where)
            else:
                hint = closest(key, ("uids", "gids"))
                raise InvalidArgument("idmap option", key, where=where, detail="allowed are uids and gids", hint=hint)

    def result(self) -> MountOptions:
        options = self.options
        # An access time is set by clearing the whole field first (mount_setattr(2)).
        if self.atime is not None:
            options.attr_set, options.attr_clr = options.attr_set | self.atime, options.attr_clr | MOUNT_ATTR__ATIME
        if self.rec_atime is not None:
            options.rec_attr_set |= self.rec_atime
            options.rec_attr_clr |= MOUNT_ATTR__ATIME
        options.sb_options = tuple(
            word for word in self.superblock if options.remount or word not in _SUPERBLOCK_CLEARS
        )
        for index, word in self.data:
            self._check_data(index, word)
        options.data = tuple(word for _, word in self.data)
        options.propagation = tuple(self.propagation)
        return options

    def _check_data(self, index: int, word: str) -> None:
        where = f"{self.where}[{index}]"
        if self.options.bind and (hint := closest(word, _KNOWN)):
            detail = "bind mounts have no options of a file system"
            raise InvalidArgument("mount option", word, where=where, detail=detail, hint=hint)
        if meant := _slip(word):
            raise InvalidArgument("mount option", word, where=where, hint=f'did you mean "{meant}"?')


def _chosen(current: int | None, word: str) -> int | None:
    choice, replaces = _ATIMES[word]
    return choice if replaces is None or current is None or current == replaces else current


def _split(option: str) -> list[str]:
    # As the kernel takes apart the data of mount(2): at commas, but not in SELinux's quotes, and not after the
    # backslash by which overlayfs keeps a comma in a path.
    words, current, quoted, escaped = [], "", False, False
    for char in option:
        if char == "," and not quoted and not escaped:
            words.append(current)
            current = ""
            continue
        if char == '"':
            quoted = not quoted
        escaped = char == "\\" and not escaped
        current += char
    words.append(current)
    return [_unquoted(word) for word in words]


def _unquoted(word: str) -> str:
    key, _, value = word.partition("=")
    if key in _SELINUX and len(value) >= 2 and value[0] == value[-1] == '"':
        return f"{key}={value[1:-1]}"
    return word


def _slip(word: str) -> str:
    """The word of ours that `word` is one typing slip away from: a letter wrong, missing, doubled or swapped."""
    if len(word) < 5 or "=" in word or word in _NOT_MISSPELT or not word.isalpha():
        return ""
    for known in _KNOWN:
        if len(known) >= 5 and abs(len(known) - len(word)) <= 1 and _one_slip(word, known):
            return known
    return ""


def _one_slip(a: str, b: str) -> bool:
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    rest_a, rest_b = a[start:], b[start:]
    if len(a) == len(b):
        swapped = rest_a[1::-1] + rest_a[2:] == rest_b
        return swapped or rest_a[1:] == rest_b[1:]
    return rest_a[1:] == rest_b if len(a) > len(b) else rest_a == rest_b[1:]


def _idmap_text(ranges: str, where: str) -> str:
    """"0-1-10#@5-6-7" -> "0 1 10\\n@5 6 7\\n"."""
    lines = []
    for item in ranges.split("#"):
        mark = "@" if item.startswith("@") else ""
        numbers = item[len(mark) :].split("-")
        if len(numbers) != 3 or not all(text.isascii() and text.isdecimal() and len(text) <= 10 for text in numbers):
            raise InvalidArgument("idmap range", item, where=where, detail="expected FIRST-HOST-LENGTH, three numbers")
        values = [int(text) for text in numbers]
        if values[2] == 0 or max(values[0], values[1]) + values[2] > 1 << 32:
            raise InvalidArgument("idmap range", item, where=where, detail="beyond 32 bits, or empty")
        lines.append(f"{mark}{values[0]} {values[1]} {values[2]}\n")
    if len(lines) > _MAX_EXTENTS:
        raise InvalidArgument("idmap", f"{len(lines)} ranges", where=where, detail=f"the kernel takes {_MAX_EXTENTS}")
    return "".join(lines)


def resolve_idmap(text: str, mappings: Iterable[MappingLike], where: str) -> str:
    """Make the relative lines ("@") of `idmap_uids` or `idmap_gids` absolute: their second number is an id in the
    container, which `mappings` (the container's own) translates. Other lines pass unchanged.

    Raises InvalidArgument when a range is not inside one of the mappings; crun would silently map it elsewhere.
    """
    if "@" not in text:
        return text
    known = tuple(mappings)
    lines = []
    for line in text.splitlines():
        if line[0] != "@":
            lines.append(line + "\n")
            continue
        first, inside, length = (int(word) for word in line[1:].split())
        for item in known:
            if item.container_id <= inside and inside + length <= item.container_id + item.size:
                lines.append(f"{first} {inside - item.container_id + item.host_id} {length}\n")
                break
        else:
            raise InvalidArgument(
                "idmap range",
                f"@{first}-{inside}-{length}",
                where=where,
                detail="not inside one mapping of the container's user namespace",
            )
    return "".join(lines)


# ---- making mounts on the host ----


def new_mount(fstype: str, source: str, options: Iterable[str] = (), *, attr: int = 0) -> int:
    """A detached mount of a new file system; its descriptor, close-on-exec, which owns it until it is attached.

    `options` are "key=value" or "flag", one each (MountOptions.sb_options + data). `attr` is MOUNT_ATTR_*. overlay's
    `lowerdir` is given directory by directory where it is too long for one string (`lowerdir+`, Linux 6.5).
    Raises KernelError, whose detail is what the kernel said ("overlay: Unknown parameter 'siz'").
    """
    try:
        context = _sys.fsopen(fstype, FSOPEN_CLOEXEC)
    except OSError as e:
        hint = "the kernel has no such file system" if e.errno == 19 else ""
        raise KernelError("fsopen", fstype, e.errno or 0, hint=hint) from e
    try:
        if source:
            configure(context, FSCONFIG_SET_STRING, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            if not equals:
                configure(context, FSCONFIG_SET_FLAG, key)
            elif key == "lowerdir" and len(os.fsencode(value)) > 255:
                for directory in split_lowerdir(value):
                    configure(context, FSCONFIG_SET_STRING, "lowerdir+", directory)
            else:
                configure(context, FSCONFIG_SET_STRING, key, value)
        configure(context, FSCONFIG_CMD_CREATE)
        try:
            return _sys.fsmount(context, FSMOUNT_CLOEXEC, attr)
        except OSError as e:
            raise KernelError("fsmount", fstype, e.errno or 0, detail=context_log(context)) from e
    finally:
        os.close(context)


def configure(context: int, command: int, key: str | None = None, value: str | None = None, aux: int = 0) -> None:
    """fsconfig(2) on a context; KernelError with the kernel's own words as detail."""
    try:
        _sys.fsconfig(context, command, key, value, aux)
    except OSError as e:
        what = "" if key is None else key if value is None else f"{key}={value}"
        raise KernelError("fsconfig", what, e.errno or 0, detail=context_log(context)) from e


def context_log(context: int) -> str:
    """What the kernel wrote into a file system context so far (fsopen(2)), one line; reading takes it away."""
    said = []
    for _ in range(32):
        try:
            line = os.read(context, 1024)
        except OSError:  # ENODATA: no more
            break
        # "e message": e, w or i for error, warning, information.
        said.append(os.fsdecode(line[2:] if line[1:2] == b" " else line).strip())
    return "; ".join(said)


def split_lowerdir(value: str) -> list[str]:
    """overlay's `lowerdir` as directories: separated by ":", which a backslash keeps in a name."""
    directories, current, escaped = [], "", False
    for char in value:
        if escaped:
            current, escaped = current + char, False
        elif char == "\\":
            escaped = True
        elif char == ":":
            directories.append(current)
            current = ""
        else:
            current += char
    return [*directories, current]


def clone_tree(path: str, *, dirfd: int = AT_FDCWD, recursive: bool = False, follow: bool = True) -> int:
    """A detached bind of what is at `path` (or of `dirfd` itself when `path` is ""). Raises KernelError."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= 0 if follow else AT_SYMLINK_NOFOLLOW
    flags |= 0 if path else AT_EMPTY_PATH
    try:
        return _sys.open_tree(dirfd, path, flags)
    except OSError as e:
        raise KernelError("open_tree", path, e.errno or 0) from e


def set_attributes(
    mount_fd: int, *, set: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, userns: int = -1
) -> None:
    """mount_setattr(2) on a mount's descriptor. `userns`, when not -1, is a user namespace whose mapping the mount
    takes (MOUNT_ATTR_IDMAP; the mount must not have been attached yet). Raises KernelError."""
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    if userns >= 0:
        set |= MOUNT_ATTR_IDMAP
    try:
        _sys.mount_setattr(mount_fd, "", flags, set, clear, propagation, max(userns, 0))
    except OSError as e:
        raise KernelError("mount_setattr", f"set={set:#x} clear={clear:#x}", e.errno or 0) from e


def attach(mount_fd: int, target: str, *, dirfd: int = AT_FDCWD, follow: bool = True) -> None:
    """Put a detached mount onto `target` (or onto `dirfd` itself when `target` is ""). Raises KernelError."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (MOVE_MOUNT_T_SYMLINKS if follow else 0)
    flags |= 0 if target else MOVE_MOUNT_T_EMPTY_PATH
    try:
        _sys.move_mount(mount_fd, "", dirfd, target, flags)
    except OSError as e:
        raise KernelError("move_mount", target, e.errno or 0) from e


def set_propagation(target: str, flags: int) -> None:
    """mount(NULL, target, NULL, MS_PRIVATE …, NULL). Raises KernelError."""
    try:
        _sys.mount(None, target, None, flags)
    except OSError as e:
        raise KernelError("mount", target, e.errno or 0) from e


def unmount(target: str, *, detach: bool = False) -> None:
    """umount2(2), never through a symlink at the end of `target`. EBUSY and others are KernelError."""
    try:
        _sys.umount2(target, UMOUNT_NOFOLLOW | (MNT_DETACH if detach else 0))
    except OSError as e:
        raise KernelError("umount2", target, e.errno or 0) from e


def mountinfo(pid: int | str = "self") -> list[MountInfo]:
    """See `masu.linux.mountinfo.read`."""
    from masu.linux import mountinfo as module  # never asked on the way to a container

    return module.read(pid)
