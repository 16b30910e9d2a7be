"""Containers that were made through containerd's API, with a spec and a snapshot of their own.

They have no request and no image in masu's sense. What is to be run says the spec in the record, as the client wrote
it; where the root comes from say the mounts that the client brings along, else the snapshot that the record names,
else the spec's own root.path.
"""

from __future__ import annotations

from masu.errors import InvalidArgument, NotFound, Unimplemented
from masu.plan.host import Rootfs
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.engine.engine import Engine
    from masu.engine.records import Record
    from masu.snapshots import Mount


def config_of(engine: Engine, record: Record) -> dict[str, object]:
    """The spec. Raises InvalidArgument when it is none."""
    text = record.row.spec
    if text is None:  # a listing does without
        text = engine.ns.containers.get(record.id).spec
    if not text:
        raise InvalidArgument("container", record.id, where="spec", detail="it has none")
    config = jsontext.loads(text, name="spec")
    if not isinstance(config, dict):
        raise InvalidArgument("container", record.id, where="spec", detail="an object is wanted")
    return config


def rootfs_of(engine: Engine, record: Record, config: dict[str, object], mounts: Sequence[Mount] = ()) -> Rootfs:
    """What is mounted as the root. Raises InvalidArgument, NotFound for the snapshot."""
    if not mounts and record.row.snapshot_key:
        from masu.snapshots import choose

        mounts = choose(engine.ns, record.row.snapshotter).mounts(record.row.snapshot_key)
    if len(mounts) > 1:
        raise Unimplemented("root file system", record.id, detail=f"of {len(mounts)} mounts")
    if mounts:
        only = mounts[0]
        return Rootfs(record.row.image or record.id, (only.type, only.source, tuple(only.options)))
    root = config.get("root")
    path = root.get("path") if isinstance(root, dict) else ""
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidArgument(
            "container", record.id, where="root.path", detail="an absolute path, or a snapshot, is wanted"
        )
    return Rootfs(path)


def add_home(config: dict[str, object], rootfs: Rootfs) -> None:
    """HOME as the root's own passwd has it, where the spec names none: runtimes of the field do that."""
    process = process_of(config)
    env, user = process.get("env"), process.get("user")
    words = [str(item) for item in env] if isinstance(env, list) else []
    if not process or any(word.startswith("HOME=") and word != "HOME=" for word in words):
        return
    from masu.engine import roots
    from masu.linux import passwd

    uid = user.get("uid") if isinstance(user, dict) else 0
    with roots.OpenRoot(rootfs, writable=False) as root:
        home = passwd.home(root.fd, uid if isinstance(uid, int) else 0) or "/"
    process["env"] = [*(word for word in words if word != "HOME="), f"HOME={home}"]


def process_of(config: dict[str, object]) -> dict[str, object]:
    process = config.get("process")
    return process if isinstance(process, dict) else {}


def arguments(engine: Engine, record: Record) -> list[str]:
    """The program and its arguments."""
    try:
        words = process_of(config_of(engine, record)).get("args")
    except (InvalidArgument, NotFound):
        return []
    return [str(word) for word in words] if isinstance(words, list) else []
