"""TOML out: what `masud config` prints. (tomllib reads.)"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# JSON's escapes are TOML's, but for DEL.
_DEL = chr(0x7F)


def dumps(table: Mapping[str, object]) -> str:
    """Values first, in the order of keys, then the tables, indented as containerd does."""
    return "".join(_table(table, (), 0)).lstrip("\n")


def _table(table: Mapping[str, object], path: tuple[str, ...], depth: int) -> list[str]:
    indent = "  " * depth
    lines = [f"{indent}{_key(name)} = {_value(item)}\n" for name, item in table.items() if not isinstance(item, dict)]
    for name, item in table.items():
        if isinstance(item, dict):
            inner = (*path, name)
            lines.append(f"\n{indent}[{'.'.join(map(_key, inner))}]\n")
            lines += _table(item, inner, depth + 1)
    return lines


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace(_DEL, "\\u007f")


def _value(item: object) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        return _quoted(item)
    if isinstance(item, list):
        return f"[{', '.join(map(_value, item))}]"
    if isinstance(item, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(inner)}" for name, inner in item.items()) + " }"
    return str(item)
