"""The byte code of all of masu in one file, beside Python's own: `masu/__pycache__/masu.<cache tag>.pack`.

To import a module from its .pyc costs Python a search and a dozen system calls, and the start of a container loads a
hundred. From here it is one stat of the source, which must have the time and the size that it was packed with, as
with a .pyc: who edits a file gets what it says now. What is missing here or outdated is imported as ever, and the pack
is made anew (packing.py) when the command has done its work.

    8 digits   length of the head
    head       marshal'ed: (sys.hexversion, byte code of this module, {name of a module: its entry})
    sets       marshal'ed: {name of a module: its byte code}; offsets are counted from the first one

An entry is five lines, which cost less to read than five values: the file, relative to the folder that masu is in or
absolute when it is Python's own; its st_mtime_ns and st_size; offset and length of its set, 0 for an extension. What
is loaded together is one set, for most of reading byte code is making strings, and those of a set are made once.

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
    """For sys.meta_path: finds and loads what is packed. `outdated`: something was not as it was packed."""

    __slots__ = ("_begin", "_codes", "_folder", "_index", "_pack", "outdated")

    def __init__(self, folder: str, pack: str, begin: int, index: dict[str, str]) -> None:
        """`begin` is where the head ends."""
        self._folder = folder
        self._pack = pack
        self._begin = begin
        self._index = index
        self._codes: dict[str, CodeType] = {}  # of the sets that were read, what has not been asked for yet
        self.outdated = self.find_spec(__name__) is None

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        entry = self._index.get(name)
        if entry is None:
            self.outdated |= name.startswith("masu.")
            return None
        file, time, size, offset, length = entry.split("\n")
        if file[0] != "/":
            file = f"{self._folder}/{file}"
        try:
            facts = posix.stat(file)
        except OSError:
            self.outdated = True
            return None
        if facts.st_mtime_ns != int(time) or facts.st_size != int(size):
            self.outdated = True
            return None
        if length == "0":
            from _frozen_importlib_external import ExtensionFileLoader

            return ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
        spec = ModuleSpec(name, self, origin=file, loader_state=(int(offset), int(length)))  # type: ignore[arg-type]
        if file.endswith("/__init__.py"):
            spec.submodule_search_locations = [file.removesuffix("/__init__.py")]
        return spec

    def create_module(self, spec: ModuleSpec) -> "ModuleType | None":
        return None  # the usual kind

    def exec_module(self, module: "ModuleType") -> None:
        spec = module.__spec__
        assert spec is not None
        module.__file__ = spec.origin
        if spec.name not in self._codes:
            self._read(*spec.loader_state)
        code = self._codes.pop(spec.name)
        _fix_co_filename(code, spec.origin)  # the folder may have moved
        exec(code, module.__dict__)

    def _read(self, offset: int, length: int) -> None:
        # Not held open: callers hand on descriptors by their numbers, and this one is nobody's.
        fd = posix.open(self._pack, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            self._codes.update(marshal.loads(posix.pread(fd, length, self._begin + offset)))
        finally:
            posix.close(fd)
