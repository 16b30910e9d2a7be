"""`hooks`: programs that run at fixed points of a container's life (runtime-spec, config.md "POSIX-platform Hooks")."""

from __future__ import annotations

from masu.spec.fields import I32, Value, invalid, many, number, slots, string, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.fields import Fields


def _hook_path(value: object, where: str, warnings: list[str]) -> str:
    path = string(value, where, warnings)
    if path[:1] != "/":
        raise invalid("hook path", path, where, "must be an absolute path")
    return path


class Hook(Value):
    """One program. `args` is its argv, () means the path alone; `env` None, that of whoever runs it; `timeout` is in
    seconds, None waits for ever."""

    FIELDS: ClassVar[Fields] = {
        "path": ("path", _hook_path, None),
        "args": ("args", strings, ()),
        "env": ("env", strings, None),
        "timeout": ("timeout", number(1, I32), None),
    }
    REQUIRED = ("path",)
    __slots__ = slots(FIELDS)
    path: str
    args: tuple[str, ...]
    env: tuple[str, ...] | None
    timeout: int | None


_hooks = many(Hook)


class Hooks(Value):
    """The six lists, in the order in which they run; `prestart` is deprecated and runs before `create_runtime`."""

    FIELDS: ClassVar[Fields] = {
        "prestart": ("prestart", _hooks, ()),
        "createRuntime": ("create_runtime", _hooks, ()),
        "createContainer": ("create_container", _hooks, ()),
        "startContainer": ("start_container", _hooks, ()),
        "poststart": ("poststart", _hooks, ()),
        "poststop": ("poststop", _hooks, ()),
    }
    __slots__ = slots(FIELDS)
    prestart: tuple[Hook, ...]
    create_runtime: tuple[Hook, ...]
    create_container: tuple[Hook, ...]
    start_container: tuple[Hook, ...]
    poststart: tuple[Hook, ...]
    poststop: tuple[Hook, ...]
