"""The byte code of all of masu in one file, beside Python's own: `masu/__pycache__/masu.<cache tag>.pack`.

To import a module from its .pyc costs Python a search and a dozen system calls, and the start of a container loads a
hundred. From here it is one stat of the source, which must have the time and the size that it was packed with, as
with a .pyc: who edits a file gets what it says now. What is missing here or outdated is imported as ever, and the pack
is made anew (packing.py) when the command has done its work.

    8 digits   length of the head
    head       marshal'ed: (stamp, byte code of this module, {name of a module: its entry})
    sets       marshal'ed: {name of a module: its byte code}; offsets are counted from the first one

The stamp is (sys.hexversion, st_mtime_ns of __main__.py, that of this file). An entry is five lines, which cost less
to read than five values: the file, relative to the folder that masu is in or absolute when it is Python's own; its
st_mtime_ns and st_size; offset and length of its set, 0 for an extension. What is loaded together is one set, for most
of reading byte code is making strings, and those of a set are made once.

__main__.py has this module from the pack itself. Without `from __future__`, the file of which would be looked for.
"""

import marshal
import posix
from _frozen_importlib import ModuleSpec
from _imp import _fix_co_filename  # type: ignore[attr-defined]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

LENGTH_DIGITS = 8


class Finder:
    """For sys.meta_path: finds and loads what is packed. `outdated`: something was not as it was packed.

    What daemons are made of never is."""

    __slots__ = ("_begin", "_codes", "_facts", "_folder", "_index", "_pack", "outdated")

    def __init__(self, folder: str, pack: str, facts: posix.stat_result, begin: int, index: dict[str, str]) -> None:
        """`facts` are those of the file `pack` that the head was read from, `begin` is where the head ends."""
        self._folder = folder
        self._pack = pack
        self._facts = facts
        self._begin = begin
        self._index = index
        self._codes: dict[str, CodeType] = {}  # of the sets that were read, what has not been asked for yet
        self.outdated = False

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        file = self._file(name)
        if not file:
            return None
        offset, length = self._index[name].split("\n")[3:]
        if length == "0":
            from _frozen_importlib_external import ExtensionFileLoader

            return ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
        if name not in self._codes and not self._read(int(offset), int(length)):
            return None
        spec = ModuleSpec(name, self, origin=file)  # type: ignore[arg-type]
        if file.endswith("/__init__.py"):
            spec.submodule_search_locations = [file.removesuffix("/__init__.py")]
        return spec

    def _file(self, name: str) -> str:
        """Where the module is, if it is packed and there as it was packed; else empty."""
        entry = self._index.get(name)
        if entry is None:
            self.outdated |= name.startswith("masu.") and not name.startswith(("masu.api", "masu.daemon"))
            return ""
        file, time, size, _, _ = entry.split("\n")
        if file[0] != "/":
            file = f"{self._folder}/{file}"
        try:
            facts = posix.stat(file)
        except OSError:
            self.outdated = True
            return ""
        if facts.st_mtime_ns == int(time) and facts.st_size == int(size):
            return file
        self.outdated = True
        return ""

    def create_module(self, spec: ModuleSpec) -> "ModuleType | None":
        return None  # the usual kind

    def exec_module(self, module: "ModuleType") -> None:
        spec = module.__spec__
        assert spec is not None
        module.__file__ = spec.origin
        code = self._codes.pop(spec.name)
        _fix_co_filename(code, spec.origin)  # the folder may have moved
        exec(code, module.__dict__)

    def _read(self, offset: int, length: int) -> bool:
        """The set at `offset`; False when another pack has taken the place of the one that the index is of."""
        # Not held open: callers hand on descriptors by their numbers, and this one is nobody's.
        try:
            fd = posix.open(self._pack, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return False
        try:
            facts = posix.fstat(fd)
            if (facts.st_ino, facts.st_mtime_ns) != (self._facts.st_ino, self._facts.st_mtime_ns):
                return False
            self._codes.update(marshal.loads(posix.pread(fd, length, self._begin + offset)))
            return True
        finally:
            posix.close(fd)
