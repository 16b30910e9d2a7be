"""Makes the pack that bytecode.py describes."""

from __future__ import annotations

import _imp
import marshal
import os
import sys
from _frozen_importlib_external import PathFinder, SourceFileLoader

from masu.cli.bytecode import LENGTH_DIGITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Modules of Python's that short commands load and that may be files of their own; most are built in somewhere.
_PYTHONS = (
    "__future__", "_blake2", "_json", "_socket", "_sqlite3", "_struct", "fcntl", "pwd", "select", "termios",
)  # fmt: skip


def make(pack: str) -> None:
    """Writes `pack`, …/masu/__pycache__/NAME. Raises OSError."""
    if sys.dont_write_bytecode:
        return
    folder = pack.rsplit("/", 3)[0]
    temporary = f"{pack}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(_packed(folder))
            file.flush()
            os.fsync(fd)  # half a pack after a power cut would be the end of every command
        os.rename(temporary, pack)
    except BaseException:
        os.unlink(temporary)
        raise


def _packed(folder: str) -> bytes:
    index: dict[str, str] = {}
    codes: list[bytes] = []
    offset = 0
    for name, file in [*_ours(folder), *_pythons()]:
        facts = os.stat(file)
        try:
            # As Python imports it: from its .pyc when that is right, which is written when it is not.
            code = marshal.dumps(SourceFileLoader(name, file).get_code(name)) if file.endswith(".py") else b""
        except SyntaxError:
            continue  # somebody is writing it; it is imported, and refused, as ever
        if name == "masu.cli.bytecode":
            finder = code
        entry = (file.removeprefix(f"{folder}/"), facts.st_mtime_ns, facts.st_size, offset, len(code))
        index[name] = "\n".join(map(str, entry))
        offset += len(code)
        codes.append(code)
    head = marshal.dumps((sys.hexversion, finder, index))
    return b"".join([b"%0*d" % (LENGTH_DIGITS, len(head)), head, *codes])


def _ours(folder: str) -> Iterator[tuple[str, str]]:
    """(name, file) of each module below `folder`/masu."""
    for directory, directories, files in os.walk(f"{folder}/masu"):
        directories[:] = [name for name in directories if os.path.exists(f"{directory}/{name}/__init__.py")]
        package = directory.removeprefix(f"{folder}/").replace("/", ".")
        for file in files:
            stem, _, suffix = file.partition(".")
            if suffix in ("py", "abi3.so") and stem != "__main__":
                yield package if stem == "__init__" else f"{package}.{stem}", f"{directory}/{file}"


def _pythons() -> Iterator[tuple[str, str]]:
    for name in _PYTHONS:
        spec = None if _imp.is_builtin(name) or _imp.is_frozen(name) else PathFinder.find_spec(name)
        if spec is not None and spec.origin is not None:
            yield name, spec.origin
