"""Volumes: directories that outlive containers.

`volumes/<name>/_data` is what is mounted, `volumes/<name>/volume.json` says more.

A volume is there when its volume.json is; the directory is filled beside it first (`create` writes the file last), so a
killed `create` leaves something that the next one takes over.
"""

from __future__ import annotations

import errno
import os

from masu.engine import notation
from masu.errors import FailedPrecondition, KernelError, NotFound
from masu.linux import fds
from masu.spec import jsontext, times
from masu.store.trees import remove_tree

_MAX_RECORD_BYTES = 1 << 20


class Volume:
    """`path` is the directory that is mounted."""

    __slots__ = ("anonymous", "created_at", "labels", "name", "path")

    def __init__(self, name: str, path: str, *, anonymous: bool, created_at: str, labels: dict[str, str]) -> None:
        self.name = name
        self.path = path
        self.anonymous = anonymous
        self.created_at = created_at
        self.labels = labels

    def fill(self, source: int) -> None:
        """Copies what is in the open directory `source` into the volume if that is empty, as Docker does.

        One process at a time; what one that was killed has left half full is started again. Raises KernelError.
        """
        from masu.engine import treecopy  # only for volumes over something

        home, marker = os.path.dirname(self.path), os.path.dirname(self.path) + "/filling"
        lock = fds.lock_file(home + "/lock")
        try:
            target = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.path.exists(marker):
                    for name in os.listdir(target):
                        remove_tree(f"{self.path}/{name}")
                elif os.listdir(target):
                    return
                os.close(os.open(marker, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                treecopy.copy_contents(source, target)
                treecopy.copy_metadata(source, target)
                os.unlink(marker)
            finally:
                os.close(target)
        except OSError as error:
            raise KernelError("copy", self.path, error.errno or errno.EIO) from error
        finally:
            os.close(lock)


class Volumes:
    """The volumes of one state directory."""

    def __init__(self, root: str) -> None:
        self._root = f"{root}/volumes"

    def ensure(self, name: str = "", *, anonymous: bool = False, labels: dict[str, str] | None = None) -> Volume:
        """The volume `name`, made when it is not there; without a name a new one. Raises InvalidArgument."""
        name = notation.volume_name(name) if name else os.urandom(32).hex()
        os.makedirs(self._root, 0o700, exist_ok=True)
        directory = f"{self._root}/{name}"
        try:
            return self.get(name)
        except NotFound:
            pass
        os.makedirs(f"{directory}/_data", 0o755, exist_ok=True)
        os.chmod(f"{directory}/_data", 0o755)
        record = {"created_at": times.now(), "anonymous": anonymous, "labels": labels or {}}
        fds.atomic_write(f"{directory}/volume.json", jsontext.dumps(record).encode(), 0o600)
        return self.get(name)

    def get(self, name: str) -> Volume:
        """Raises NotFound, InvalidArgument."""
        directory = f"{self._root}/{notation.volume_name(name)}"
        try:
            with open(f"{directory}/volume.json", "rb") as file:
                data = jsontext.loads(file.read(_MAX_RECORD_BYTES), name=f"{directory}/volume.json")
        except FileNotFoundError:
            raise NotFound("volume", name) from None
        record = data if isinstance(data, dict) else {}
        labels = record.get("labels")
        return Volume(
            name,
            f"{directory}/_data",
            anonymous=record.get("anonymous") is True,
            created_at=str(record.get("created_at", "")),
            labels=labels if isinstance(labels, dict) else {},
        )

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        try:
            names = sorted(os.listdir(self._root))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            try:
                found.append(self.get(name))
            except NotFound:
                continue
        return found

    def remove(self, name: str, users: list[str]) -> None:
        """Deletes a volume unless it has `users` (containers, for the message). Raises FailedPrecondition, NotFound."""
        self.get(name)
        if users:
            raise FailedPrecondition("volume", name, detail=f"is in use by container {', '.join(users)}")
        directory = f"{self._root}/{name}"
        # the record goes first: from then on it is no volume, only something to be cleaned away
        os.unlink(f"{directory}/volume.json")
        remove_tree(directory)
