"""Each snapshot a whole copy of its parent: slow and large, and works everywhere.

    snapshots/native/<n>/fs     the whole tree

Files are copied by reflink where the file system can (FICLONE), else by copy_file_range(2), holes kept.
"""

from __future__ import annotations

import os

from masu.snapshots.copytree import copy_tree
from masu.snapshots.driver import Driver, copy_attributes, disk_usage, id_map_options
from masu.snapshots.mounts import Mount
from masu.store.snapshots import VIEW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.snapshots.mounts import IdMaps
    from masu.store.snapshots import Info


class Native(Driver):
    name = "native"

    def _fill(self, folder: str, kind: str, parents: list[int], id_maps: IdMaps | None) -> None:
        top = f"{folder}/fs"
        os.mkdir(top, 0o755)
        os.chmod(top, 0o755)  # whatever the umask
        if parents and kind != VIEW:
            copy_tree(f"{self.folder(parents[0])}/fs", top)
        if parents:
            copy_attributes(f"{self.folder(parents[0])}/fs", top)
        elif id_maps is not None:
            os.chown(top, *id_maps.root())

    def _mounts(self, info: Info, parents: list[int]) -> list[Mount]:
        if info.kind == VIEW:
            shown = parents[0] if parents else info.id
            return [Mount("bind", f"{self.folder(shown)}/fs", ("ro", "rbind", *id_map_options(info.labels)))]
        # The copy keeps the parent's owners: a mapped container sees them through an idmapped mount.
        mapped = id_map_options(info.labels) if parents else []
        return [Mount("bind", f"{self.folder(info.id)}/fs", ("rw", "rbind", *mapped))]

    def _usage(self, info: Info, parents: list[int]) -> tuple[int, int]:
        if info.kind == VIEW and parents:
            return 0, 0
        return disk_usage(f"{self.folder(info.id)}/fs")
