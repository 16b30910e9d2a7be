"""Writing values into cgroup files, and reading them.

What is to be written is planned first as a list of `Setting`s (v1.py, v2.py: pure functions), then carried out by
`write_all`. A setting knows its place in the user's config, so a refused write names it; what the kernel meant is
found out afterwards, in explain.py.
"""

from __future__ import annotations

import errno
import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from masu.errors import MasuError

# No cgroup file that is read here comes near to this; memory.stat has 2 KB, cgroup.procs of 100,000 tasks 700 KB.
READ_MAX = 8 << 20


class Setting:
    """One value for one file.

    `file` begins with the controller's name on every kernel, but `controller` is asked for apart: it selects the
    directory on v1 ("" is the cgroup2 tree). `where` is the JSON path it came from.

    `pair`: neighbours with the same word depend on each other (a period and its quota, memory and memory+swap). The
    kernel refuses one with EINVAL while the other still has its old value, so these are tried until none moves.
    `optional`: a file that is not there is nothing to complain about.
    `otherwise`: what to write when the file is not there.
    """

    __slots__ = ("controller", "file", "optional", "otherwise", "pair", "value", "where")

    def __init__(
        self,
        controller: str,
        file: str,
        value: str,
        where: str,
        *,
        pair: str = "",
        optional: bool = False,
        otherwise: Setting | None = None,
    ) -> None:
        self.controller = controller
        self.file = file
        self.value = value
        self.where = where
        self.pair = pair
        self.optional = optional
        self.otherwise = otherwise

    def __repr__(self) -> str:
        return f"Setting({self.file!r} <- {self.value!r}, {self.where})"

    def describe(self) -> str:
        """`memory.max <- 1073741824`, for plans that are shown."""
        return f"{self.file} <- {self.value}"


class Directories:
    """The directories of one cgroup, opened when first needed and closed together.

    `path_of` gives a controller's directory, None where the container has none.
    """

    __slots__ = ("_fds", "path_of")

    def __init__(self, path_of: Callable[[str], str | None]) -> None:
        self.path_of = path_of
        self._fds: dict[str, int] = {}

    def fd(self, controller: str) -> int | None:
        """An O_PATH descriptor, valid until `close`; None without such a directory. Raises OSError."""
        path = self.path_of(controller)
        if path is None:
            return None
        fd = self._fds.get(path)
        if fd is None:
            fd = self._fds[path] = open_directory(path)
        return fd

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


def open_directory(path: str) -> int:
    """An O_PATH descriptor of a cgroup directory; a symlink in the last place is refused."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def write(directory_fd: int | None, file: str, value: str) -> None:
    """One write(2) of `value`: the kernel takes each as one whole command. Raises OSError."""
    # O_TRUNC means nothing to cgroup files and O_CREAT is refused; the name is checked by whoever takes it from
    # a config.
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(directory_fd: int | None, file: str) -> str:
    """The text of a cgroup file, bounded. Raises OSError."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd)
    try:
        return read_fd(fd)
    finally:
        os.close(fd)


def read_fd(fd: int) -> str:
    """What an open cgroup file says now, from its beginning."""
    os.lseek(fd, 0, 0)
    parts = []
    size = 0
    # A short read is no end: seq_file stops before a record that does not fit into its page any more.
    while size < READ_MAX and (chunk := os.read(fd, 1 << 16)):
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def present(settings: Sequence[Setting], directories: Directories) -> list[Setting]:
    """What would set the files of `settings` back to what they say now, as far as they can be read. Raises OSError
    when the cgroup itself is gone."""
    found = []
    for setting in settings:
        fd = directories.fd(setting.controller)
        for each in (setting, setting.otherwise):
            if fd is None or each is None:
                continue
            try:
                value = _present_value(each, read(fd, each.file))
            except OSError:
                continue  # not there, or not to be read: the write will tell
            if value is not None:
                found.append(Setting(each.controller, each.file, value, each.where, pair=each.pair))
            break
    return found


def _present_value(setting: Setting, text: str) -> str | None:
    """The value that leaves a file as it says it is; None where no single write would."""
    key, _, rest = setting.value.partition(" ")
    lines = text.splitlines()
    if ":" in key and rest:
        # A limit by device: its line, or the one that means there is none (blkio-controller.rst, cgroup-v2.rst "IO").
        none = "rbps=max wbps=max riops=max wiops=max" if setting.file == "io.max" else "0"
        return next((line for line in lines if line.startswith(key + " ")), f"{key} {none}")
    if setting.file == "memory.oom_control":
        return lines[0].rpartition(" ")[2]
    if len(lines) < 2:
        return text.strip() or "\n"
    return next((line for line in lines if line.startswith(key + " ")), None)


def write_all(settings: Sequence[Setting], directories: Directories) -> None:
    """Carry the settings out in order. Raises what explain.refused makes of the first that fails."""
    index = 0
    while index < len(settings):
        setting = settings[index]
        index += 1
        if not setting.pair:
            _put(setting, directories)
            continue
        group = [setting]
        while index < len(settings) and settings[index].pair == setting.pair:
            group.append(settings[index])
            index += 1
        _put_together(group, directories)


def _put_together(group: list[Setting], directories: Directories) -> None:
    while group:
        refused: list[Setting] = []
        first: MasuError | None = None
        for setting in group:
            try:
                _put(setting, directories)
            except Exception as e:
                if getattr(e, "errno", 0) != errno.EINVAL or len(group) == 1:
                    raise
                refused.append(setting)
                first = first or e  # type: ignore[assignment]
        if len(refused) == len(group):
            assert first is not None
            raise first
        group = refused


def _put(setting: Setting, directories: Directories) -> None:
    while True:
        try:
            fd = directories.fd(setting.controller)
            if fd is None:
                if setting.optional:
                    return
                break
            write(fd, setting.file, setting.value)
            return
        except OSError as e:
            if e.errno == errno.ENOENT:
                if setting.otherwise is not None:
                    setting = setting.otherwise
                    continue
                if setting.optional:
                    return
            # Only failures need the words; the module stays unloaded otherwise.
            from masu.linux.cgroups.explain import refused

            raise refused(setting, directories.path_of(setting.controller) or "", e) from e
    from masu.linux.cgroups.explain import no_controller

    raise no_controller(setting, directories)
