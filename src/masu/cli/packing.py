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

# Each line is a set: what importing these modules loads of the packages behind them, less what is in a set before.
# For every command, every verb of the OCI runtime, those that do more to a cgroup than look whether it is frozen, what
# both of the last have in common, whoever creates a container, whoever has an engine.
_TOGETHER = (
    (("masu.cli.start", "masu.cli.options"), "masu"),
    (("masu.cli.oci", "masu.runtime.container"), "masu"),
    (("masu.linux.cgroups.group", "masu.linux.cgroups.tasks"), "masu"),
    (("masu.linux.mount", "masu.linux.passwd", "masu.plan.host", "masu.plan.ops", "masu.spec.times"), "masu"),
    (("masu.runtime.create", "masu.cli.oci.create_"), "masu"),
    (("masu.cli.engine.common", "masu.engine.containers"), ("masu.engine", "masu.store", "masu.isolation")),
)
# Modules of Python's that short commands load and that may be files of their own; most are built in somewhere.
_PYTHONS = (
    "__future__", "_blake2", "_json", "_socket", "_sqlite3", "_struct", "fcntl", "pwd", "select", "termios",
)  # fmt: skip


def make(pack: str) -> None:
    """Writes `pack`, …/masu/__pycache__/NAME, as the last thing that this process does. Raises OSError."""
    if sys.dont_write_bytecode:
        return
    folder = pack.rsplit("/", 3)[0]
    _forget_torsos(pack)
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


def _forget_torsos(pack: str) -> None:
    """What makers have left that were killed."""
    directory, _, begin = f"{pack}.".rpartition("/")
    for name in os.listdir(directory):
        if name.startswith(begin) and not os.path.exists(f"/proc/{name.removeprefix(begin)}"):
            os.unlink(f"{directory}/{name}")


def _packed(folder: str) -> bytes:
    found = {name: (file, os.stat(file)) for name, file in [*_ours(folder), *_pythons()]}
    index: dict[str, str] = {}
    sets: list[bytes] = []
    offset = 0
    for names in _sets([name for name, (file, _) in found.items() if file.endswith(".py")]):
        codes = {}
        for name in names:
            try:
                # As Python imports it: from its .pyc when that is right, which is written when it is not.
                codes[name] = SourceFileLoader(name, found[name][0]).get_code(name)
            except SyntaxError:
                del found[name]  # somebody is writing it; it is imported, and refused, as ever
        if "masu.cli.bytecode" in codes:
            finder = marshal.dumps(codes["masu.cli.bytecode"])
        sets.append(marshal.dumps(codes))
        index |= {name: f"{offset}\n{len(sets[-1])}" for name in codes}
        offset += len(sets[-1])
    for name, (file, facts) in found.items():
        place = index.get(name, "0\n0")
        index[name] = f"{file.removeprefix(f'{folder}/')}\n{facts.st_mtime_ns}\n{facts.st_size}\n{place}"
    own = (os.stat(f"{folder}/masu/{name}").st_mtime_ns for name in ("__main__.py", "cli/bytecode.py"))
    head = marshal.dumps(((sys.hexversion, *own), finder, index))
    return b"".join([b"%0*d" % (LENGTH_DIGITS, len(head)), head, *sets])


def _sets(names: list[str]) -> Iterator[list[str]]:
    left = dict.fromkeys(names)
    for entries, packages in _TOGETHER:
        together = [name for name in _loaded_by(entries) if name in left and name.startswith(packages)]
        for name in together:
            del left[name]
        yield together
    yield from ([name] for name in left)


def _loaded_by(entries: tuple[str, ...]) -> list[str]:
    """What importing `entries` loads of masu where nothing of it is loaded yet: so this process forgets what it has."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "masu"]:
        del sys.modules[name]
    for entry in entries:
        try:
            __import__(entry)
        except Exception:
            pass  # somebody is writing it
    return [name for name in sys.modules if name.partition(".")[0] == "masu"]


def _ours(folder: str) -> Iterator[tuple[str, str]]:
    """(name, file) of each module below `folder`/masu that a command may load; daemons have the time for theirs."""
    daemons = (f"{folder}/masu/api", f"{folder}/masu/daemon")
    for directory, directories, files in os.walk(f"{folder}/masu"):
        directories[:] = [
            name
            for name in directories
            if os.path.exists(f"{directory}/{name}/__init__.py") and f"{directory}/{name}" not in daemons
        ]
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
