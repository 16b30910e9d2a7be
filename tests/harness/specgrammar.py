"""Documents by the specification's grammar: strategies made of the FIELDS tables that also read them.

What a reader takes is told by its closure (the borders of a number, the words that are known, the class of an object).
Readers that are functions of their own are asked: of all values at hand, those that they take.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from harness.fuzzing import ODD
from masu.errors import MasuError
from masu.linux.mount import known_options
from masu.spec.fields import Value

if TYPE_CHECKING:
    from masu.spec.fields import Reader

_WORDS = ["a", "b-1", "/", "/a/b", "/a/../b", "a" * 300, "é", "x=y", "rw", "0", "0-3", "1048576", "lo", "eth0", "true"]
_WORDS += ["/dev/null", "/proc", "/sys/fs/cgroup", "/dev", "/dev/shm", "tmpfs", "bind", "overlay", "cgroup", "cgroup2"]
_WORDS += ["PATH=/bin", "HOME=", "mode=755", "size=1k", "idmap", "copy-symlink", "uid=5", "context=a:b:c", "data=1"]
_WORDS += ["net.ipv4.ip_forward", "kernel.shm_rmid_forced", "fs.mqueue.msg_max", "run.oci.keep_original_groups"]
_WORDS += ["2MB", "1GB", "mlx5_0", "system.slice:runc:box", "memory.high", "SCMP_ACT_ERRNO", "shared", "rslave"]


@cache
def _pool() -> list[Any]:
    """Every value of an example that has all fields, and the words above; smaller ones first."""
    from unit.test_spec_runtime import full_config

    found: list[Any] = [*_WORDS, *known_options(), 0, 1, 7, 1000, 65536, -1, True, False]
    found += [*_below(full_config())]
    return found


def _below(value: Any) -> Iterator[Any]:
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _below(item)


def _takes(reader: Reader, value: Any) -> bool:
    try:
        reader(value, "x", [])
    except MasuError:
        return False
    return True


def _text() -> st.SearchStrategy[Any]:
    return st.sampled_from([word for word in _pool() if isinstance(word, str)])


@cache
def of_reader(reader: Reader) -> st.SearchStrategy[Any]:
    """Values that it takes, as far as it alone decides."""
    kind = reader.__qualname__.partition(".")[0]
    within = inspect.getclosurevars(reader).nonlocals if ".<locals>." in reader.__qualname__ else {}
    if kind == "number":
        low, high = within["low"], within["high"]
        near = [each for each in (low, low + 1, 0, 1, 100, high - 1, high) if low <= each <= high]
        return st.sampled_from(near) | st.integers(low, high)
    if kind in ("word", "words"):
        words = st.sampled_from(sorted(within["known"]))
        return words if kind == "word" else st.lists(words, max_size=4)
    if kind in ("one", "many", "named"):
        item = of_class(within["cls"])
        if kind == "named":
            return st.dictionaries(_text(), item, max_size=2)
        return item if kind == "one" else st.lists(item, max_size=3)
    if kind == "each":
        return st.lists(of_reader(within["item_reader"]), max_size=3)
    if kind == "string_map":
        return st.dictionaries(_text(), _text(), max_size=3)
    if kind == "strings":
        return st.lists(_text(), max_size=4)
    taken = [value for value in _pool() if _takes(reader, value)]
    return st.sampled_from(taken) if taken else st.sampled_from(_pool())


def _later(reader: Reader) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: of_reader(reader))


@cache
def of_class(cls: type[Value]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of that class: what is required, and any of the rest."""
    fields = {name: _later(reader) for name, (_, reader, _) in cls.FIELDS.items()}
    required = {name: fields.pop(name) for name in cls.REQUIRED}
    return st.fixed_dictionaries(required, optional=fields)


def _names(cls: type[Value]) -> list[str]:
    """Of its fields; of a whole configuration's those that Linux obeys, many times over."""
    if "ociVersion" not in cls.FIELDS:
        return sorted(cls.FIELDS)
    own = ["annotations", "domainname", "hooks", "hostname", "linux", "mounts", "process", "root"]
    return own * 4 + ["linux", "process", "mounts"] * 12 + sorted(cls.FIELDS)


def vary(draw: st.DrawFn, cls: type[Value], document: dict[str, Any], *, odd: bool) -> dict[str, Any]:
    """`document`, an object of class `cls`, with some fields made anew, and with `odd` one of them made wrong."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 5))):
        where, own = document, cls
        while True:
            name = draw(st.sampled_from(_names(own)))
            reader = own.FIELDS[name][1]
            within = (
                inspect.getclosurevars(reader).nonlocals if reader.__qualname__.startswith(("one.", "many.")) else {}
            )
            inner = where.get(name)
            if within and isinstance(inner, list) and inner and isinstance(inner[0], dict):
                inner = inner[draw(st.integers(0, len(inner) - 1))]
            if not within or not isinstance(inner, dict) or draw(st.integers(0, 7)) == 0:
                break
            where, own = inner, within["cls"]
        if draw(st.integers(0, 5)) == 0 and name not in own.REQUIRED:
            where.pop(name, None)
        else:
            where[name] = draw(of_reader(reader))
    if odd:
        # The one that was made last.
        where[name] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return document
