"""Docker's notations for parts of a container, as text to values: -v, --mount, --tmpfs, --device, --ulimit, -e …

Pure but for `env_file` and `label_file`, which read the file they are named for. Errors are InvalidArgument (ValueError
from converters of single flags), with Docker's words where it has good ones and with what would have been right.
"""

from __future__ import annotations

import os

from masu.engine.request import DeviceRequest, MountRequest, Ulimit
from masu.errors import InvalidArgument, closest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
RLIMITS = (
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)
_MAX_FILE_BYTES = 4 << 20
_MOUNT_KEYS = (
    "type",
    "source",
    "src",
    "target",
    "destination",
    "dst",
    "readonly",
    "ro",
    "consistency",
    "bind-propagation",
    "bind-nonrecursive",
    "bind-recursive",
    "volume-nocopy",
    "volume-subpath",
    "volume-driver",
    "volume-label",
    "volume-opt",
    "tmpfs-size",
    "tmpfs-mode",
)


def volume(text: str, cwd: str) -> MountRequest:
    """`-v [SOURCE:]TARGET[:OPTIONS]`; a relative source that begins with `.` or `~` counts from `cwd` or the home."""

    def bad(why: str, hint: str = "") -> InvalidArgument:
        return InvalidArgument("volume specification", text, detail=why, where="--volume", hint=hint)

    parts = text.split(":")
    if "" in parts:
        raise bad("empty section between colons")
    if len(parts) > 3:
        raise bad("too many colons", "want [SOURCE:]TARGET[:OPTIONS]; a path with a colon needs --mount")
    source, target, options = "", parts[0], ""
    if len(parts) == 2 and not parts[1].startswith("/") and parts[0].startswith("/") and _all_modes(parts[1]):
        target, options = parts
    elif len(parts) >= 2:
        source, target = parts[:2]
        options = parts[2] if len(parts) == 3 else ""
    target = _target(target, bad)
    if source.startswith("~/"):
        source = os.path.expanduser(source)
    if source in (".", "..") or source.startswith(("./", "../")):
        source = os.path.join(cwd, source)
    mount = MountRequest(target=target)
    if source.startswith("/"):
        mount.source = os.path.normpath(source)
        mount.create_source = True
    elif source:
        mount.kind = "volume"
        mount.source = volume_name(source, bad)
    else:
        mount.kind = "volume"
        mount.anonymous = True
    for option in options.split(",") if options else ():
        _volume_option(mount, option, bad)
    return mount


def _all_modes(text: str) -> bool:
    return all(word in ("ro", "rw", "z", "Z", "nocopy", *PROPAGATIONS) for word in text.split(","))


def _volume_option(mount: MountRequest, option: str, bad: Callable[..., InvalidArgument]) -> None:
    if option in ("ro", "readonly"):
        mount.readonly = True
    elif option in ("rw", "z", "Z", "consistent", "cached", "delegated"):
        # z and Z ask for SELinux relabelling, which is nothing to do where SELinux is off; consistency is macOS's
        pass
    elif option in PROPAGATIONS:
        if mount.kind != "bind":
            raise bad(f'"{option}" is for binds of a host path only')
        mount.propagation = option
    elif option in ("nocopy", "volume-nocopy"):
        if mount.kind != "volume":
            raise bad(f'"{option}" is for volumes only')
        mount.nocopy = True
    else:
        allowed = ("ro", "rw", "z", "Z", "nocopy", *PROPAGATIONS)
        raise bad(f'invalid mode "{option}"', closest(option, allowed) or "modes: " + ", ".join(allowed))


def volume_name(name: str, bad: Callable[..., InvalidArgument] | None = None) -> str:
    """Checks a volume's name as Docker does. Raises InvalidArgument."""
    if len(name) < 2 or len(name) > 255 or not _is_name(name):
        why = (
            "a volume name is letters, digits, '_', '.' and '-', at least two of them, beginning with a letter or digit"
        )
        hint = f'a host path is absolute or begins with ./: "./{name}"' if "/" in name else ""
        raise bad(why, hint) if bad else InvalidArgument("volume name", name, detail=why, hint=hint)
    return name


def _is_name(name: str) -> bool:
    return name[:1].isalnum() and name.isascii() and all(c.isalnum() or c in "_.-" for c in name)


def _target(target: str, bad: Callable[..., InvalidArgument]) -> str:
    if not target.startswith("/"):
        raise bad(f'mount target "{target}" must be an absolute path')
    target = os.path.normpath(target)
    if target.startswith("//"):
        target = target[1:]
    if target == "/":
        raise bad("the target can't be '/'")
    return target


def mount(text: str, cwd: str) -> MountRequest:
    """`--mount type=bind,source=…,target=…[,…]`, comma-separated with CSV quoting."""

    def bad(why: str, hint: str = "") -> InvalidArgument:
        return InvalidArgument("mount", text, detail=why, where="--mount", hint=hint)

    out = MountRequest(kind="volume")
    seen: dict[str, str] = {}
    for field in _csv(text, bad):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if key not in _MOUNT_KEYS:
            near = closest(key, _MOUNT_KEYS)
            raise bad(f'unknown option "{key}"' if equals else f'"{field}" is not of the form key=value', near)
        flags = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
        if not equals and key not in flags:
            raise bad(f'option "{key}" needs a value')
        if key in flags and value not in ("", "true", "false", "1", "0", "True", "False"):
            raise bad(f'invalid value for {key}: "{value}", want true or false')
        seen[key] = value
        on = value in ("", "true", "1", "True")
        if key == "type":
            if value not in ("bind", "volume", "tmpfs"):
                raise bad(
                    f'type "{value}" is not supported',
                    closest(value, ("bind", "volume", "tmpfs")) or "types: bind, volume, tmpfs",
                )
            out.kind = value
        elif key in ("source", "src"):
            out.source = value
        elif key in ("target", "destination", "dst"):
            out.target = _target(value, bad)
        elif key in ("readonly", "ro"):
            out.readonly = on
        elif key == "bind-propagation":
            if value not in PROPAGATIONS:
                raise bad(
                    f'invalid propagation "{value}"',
                    closest(value, PROPAGATIONS) or "one of " + ", ".join(PROPAGATIONS),
                )
            out.propagation = value
        elif key == "bind-nonrecursive":
            out.recursive = "disabled" if on else out.recursive
        elif key == "bind-recursive":
            if value not in ("enabled", "disabled", "writable", "readonly"):
                raise bad(f'invalid bind-recursive "{value}", want enabled, disabled, writable or readonly')
            out.recursive = "" if value == "enabled" else value
        elif key == "volume-nocopy":
            out.nocopy = on
        elif key == "volume-subpath":
            if value.startswith("/") or ".." in value.split("/"):
                raise bad("volume-subpath must be a path below the volume")
            out.subpath = value
        elif key == "volume-driver" and value not in ("", "local"):
            raise bad(f'volume driver "{value}" is not installed, only "local" is there')
        elif key == "tmpfs-size":
            out.size_bytes = _size(value, bad)
        elif key == "tmpfs-mode":
            if not value or not all(c in "01234567" for c in value) or len(value) > 5:
                raise bad(f'invalid tmpfs-mode "{value}", want an octal mode')
            out.mode = value
    _check_mount(out, seen, cwd, bad)
    return out


def _check_mount(out: MountRequest, seen: Mapping[str, str], cwd: str, bad: Callable[..., InvalidArgument]) -> None:
    if not out.target:
        raise bad("target is required")
    for key in seen:
        kind = key.partition("-")[0]
        if "-" in key and kind in ("bind", "volume", "tmpfs") and kind != out.kind:
            raise bad(f'cannot mix "{key}" with mount type "{out.kind}"')
    if out.kind == "bind":
        if not out.source:
            raise bad("source is required for a bind mount")
        if not out.source.startswith("/"):
            if not out.source.startswith(("./", "../")) and out.source not in (".", ".."):
                raise bad(f'bind source "{out.source}" must be an absolute path', f"or begin with ./: ./{out.source}")
            out.source = os.path.join(cwd, out.source)
        out.source = os.path.normpath(out.source)
        if out.recursive == "readonly" and not out.readonly:
            raise bad("bind-recursive=readonly needs readonly")
    elif out.kind == "tmpfs":
        if out.source:
            raise bad("a tmpfs has no source")
    elif out.source:
        volume_name(out.source, bad)
    else:
        out.anonymous = True


def _size(text: str, bad: Callable[..., InvalidArgument]) -> int:
    digits = text.rstrip("bBkKmMgGtT")
    unit = text[len(digits) :].lower().removesuffix("b")
    if not digits.isdigit() or not digits.isascii() or unit not in ("", "k", "m", "g", "t") or len(digits) > 18:
        raise bad(f'invalid size "{text}", want a number with k, m or g')
    return int(digits) << 10 * ("", "k", "m", "g", "t").index(unit)


def _csv(text: str, bad: Callable[..., InvalidArgument]) -> list[str]:
    # One line of RFC 4180, as Go's encoding/csv reads it for --mount: "…" around a field that holds a comma.
    fields: list[str] = []
    at = 0
    while True:
        if text[at : at + 1] == '"':
            value, at = "", at + 1
            while True:
                end = text.find('"', at)
                if end < 0:
                    raise bad("unclosed quote")
                value += text[at:end]
                at = end + 1
                if text[at : at + 1] != '"':
                    break
                value += '"'
                at += 1
            if text[at : at + 1] not in ("", ","):
                raise bad("a quoted field must end at a comma")
        else:
            end = text.find(",", at)
            value = text[at:] if end < 0 else text[at:end]
            at = len(text) if end < 0 else end
        fields.append(value)
        if at >= len(text):
            return fields
        at += 1


def tmpfs(text: str) -> MountRequest:
    """`--tmpfs /path[:size=64m,mode=1777,exec…]`; the options are tmpfs's own, noexec, nosuid and nodev are given."""

    def bad(why: str, hint: str = "") -> InvalidArgument:
        return InvalidArgument("tmpfs", text, detail=why, where="--tmpfs", hint=hint)

    path, _, options = text.partition(":")
    words = [word for word in options.split(",") if word]
    for word in words:
        key, equals, _ = word.partition("=")
        keyed = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge")
        plain = (
            "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "atime", "noatime", "diratime",
            "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "sync", "async", "dirsync",
            "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable", "defaults",
        )  # fmt: skip
        if (key not in keyed) if equals else (key not in plain):
            raise bad(f'unknown option "{word}"', closest(key, keyed if equals else plain))
        if key == "size":
            _size(word.partition("=")[2].removesuffix("%"), bad)
    return MountRequest(kind="tmpfs", target=_target(path, bad), options=words, readonly="ro" in words)


def device(text: str) -> DeviceRequest:
    """`--device /dev/x[:/dev/y[:rwm]]`."""

    def bad(why: str) -> InvalidArgument:
        return InvalidArgument("device specification", text, detail=why, where="--device")

    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise bad("want SOURCE[:TARGET[:PERMISSIONS]]")
    source, target, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, permissions = parts[1] or source, parts[2]
    elif len(parts) == 2:
        # /dev/x:rwm or /dev/x:/dev/y, as Docker tells them apart
        if _is_permissions(parts[1]):
            permissions = parts[1]
        else:
            target = parts[1]
    if not _is_permissions(permissions):
        raise bad(f'invalid permissions "{permissions}", want some of r, w and m, each once')
    for path in (source, target):
        if not path.startswith("/"):
            raise bad(f'"{path}" is not an absolute path')
    return DeviceRequest(source=os.path.normpath(source), target=os.path.normpath(target), permissions=permissions)


def _is_permissions(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def ulimit(text: str) -> Ulimit:
    """`--ulimit nofile=1024[:2048]`; -1 and `unlimited` are without limit."""

    def bad(why: str, hint: str = "") -> InvalidArgument:
        return InvalidArgument("ulimit", text, detail=why, where="--ulimit", hint=hint)

    name, equals, value = text.partition("=")
    if not equals:
        raise bad("want NAME=SOFT[:HARD]")
    if name not in RLIMITS:
        raise bad(f'unknown limit "{name}"', closest(name, RLIMITS) or "limits: " + ", ".join(RLIMITS))
    soft, colon, hard = value.partition(":")
    limits: list[int] = []
    for word in (soft, hard if colon else soft):
        if word in ("-1", "unlimited"):
            limits.append(-1)
        elif word.isdigit() and word.isascii() and len(word) <= 20 and int(word) < 1 << 64:
            limits.append(int(word))
        else:
            raise bad(f'"{word}" is not a number')
    if limits[1] != -1 and (limits[0] == -1 or limits[0] > limits[1]):
        raise bad("the soft limit must not be greater than the hard limit")
    return Ulimit(name=name, soft=limits[0], hard=limits[1])


def env(text: str, environ: Mapping[str, str]) -> str:
    """`-e NAME=value`, or `-e NAME` for the caller's own value; NAME alone stays (and unsets) when there is none."""
    name, equals, _ = text.partition("=")
    if not name or "\0" in text:
        raise InvalidArgument("environment variable", text, where="--env", detail="want NAME=VALUE or NAME")
    return text if equals or name not in environ else f"{name}={environ[name]}"


def env_file(path: str, environ: Mapping[str, str]) -> list[str]:
    """The variables in a `--env-file`: NAME=value or NAME a line, `#` comments; a missing own value leaves NAME out."""
    out: list[str] = []
    for number, line in _lines(path, "--env-file"):
        name, equals, _ = line.partition("=")
        where = f"{path}:{number}"
        if not name:
            raise InvalidArgument("environment file line", line, where=where, detail="no variable name")
        if any(c.isspace() for c in name):
            raise InvalidArgument(
                "environment file line", line, where=where, detail=f"variable '{name}' contains whitespaces"
            )
        if "\0" in line:
            raise InvalidArgument("environment file line", line, where=where, detail="it holds a zero byte")
        if equals:
            out.append(line)
        elif name in environ:
            out.append(f"{name}={environ[name]}")
    return out


def label(text: str, where: str = "--label") -> tuple[str, str]:
    """`-l KEY=VALUE` or `-l KEY`."""
    key, _, value = text.partition("=")
    if not key:
        raise InvalidArgument("label", text, where=where, detail="want KEY=VALUE or KEY")
    return key, value


def label_file(path: str) -> list[tuple[str, str]]:
    return [label(line, where=f"{path}:{number}") for number, line in _lines(path, "--label-file")]


def _lines(path: str, where: str) -> list[tuple[int, str]]:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidArgument("file", path, error.errno or 0, where=where) from error
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidArgument("file", path, where=where, detail=f"larger than {_MAX_FILE_BYTES} bytes")
    try:
        # a byte order mark is what Windows editors leave
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidArgument("file", path, where=where, detail=f"line {line} is not UTF-8") from error
    lines = [(number, line.lstrip()) for number, line in enumerate(text.split("\n"), 1)]
    return [(number, line.removesuffix("\r")) for number, line in lines if line.strip() and not line.startswith("#")]


def sysctl(text: str) -> tuple[str, str]:
    """`--sysctl name=value`."""
    name, equals, value = text.partition("=")
    if not equals or not name or not all(c.isalnum() or c in "_./-" for c in name) or not name.isascii():
        raise InvalidArgument("sysctl", text, where="--sysctl", detail="want NAME=VALUE, as net.core.somaxconn=1024")
    return name.replace("/", "."), value


def cpus(text: str) -> int:
    """`--cpus 1.5` as nanoseconds of processor time a second. Raises ValueError."""
    whole, dot, fraction = text.partition(".")
    if not (whole.isdigit() or (not whole and dot)) or (dot and not fraction.isdigit()) or not text.isascii():
        raise ValueError("want a number of processors, as 1.5")
    if len(fraction) > 9:
        raise ValueError("value is too precise, nine decimals are the most")
    nano = int(whole or "0") * 1_000_000_000 + int(fraction.ljust(9, "0") or "0")
    if len(whole) > 6 or nano < 10_000_000:
        raise ValueError("0.01 is the least" if len(whole) <= 6 else "too many")
    return nano


def cpu_list(text: str) -> str:
    """`--cpuset-cpus 0-3,7`, checked. Raises ValueError."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdigit() and (not dash or last.isdigit()) and part.isascii()) or len(part) > 11:
            raise ValueError(f'"{part}" is neither a number nor a range, want for example 0-3,7')
        if dash and int(first) > int(last):
            raise ValueError(f'range "{part}" goes backwards')
    return text


def container_name(name: str) -> str:
    """Checks `--name` by Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+. Raises InvalidArgument."""
    bare = name.removeprefix("/")
    if len(bare) < 2 or len(bare) > 255 or not _is_name(bare):
        raise InvalidArgument(
            "container name",
            name,
            detail="letters, digits, '_', '.' and '-' are allowed, at least two, beginning with a letter or digit",
        )
    return bare


def hostname(name: str, where: str = "--hostname") -> str:
    """Checks a host name: what sethostname(2) takes (64 bytes) of characters that RFC 1123 knows, and `_`."""
    if not name or len(name) > 64 or not name.isascii() or not all(c.isalnum() or c in "-._" for c in name):
        raise InvalidArgument(
            "host name", name, where=where, detail="at most 64 letters, digits, '-' and '.', and not empty"
        )
    return name


def workdir(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidArgument("working directory", path, where="--workdir", detail="it needs to be an absolute path")
    return path
