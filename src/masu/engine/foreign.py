"""Containers that were made through containerd's API, with a spec and a snapshot of their own.

They have no request and no image in masu's sense. What is to be run says the spec in the record, as the client wrote
it; where the root comes from say the mounts that the client brings along, else the snapshot that the record names,
else the spec's own root.path.
"""

from __future__ import annotations

import os

from masu.errors import InvalidArgument, NotFound
from masu.linux import fds
from masu.plan.host import Rootfs
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.engine.engine import Engine
    from masu.engine.records import Record
    from masu.runtime.bundle import Bundle
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


def bundle_path(engine: Engine, id: str) -> str:
    """Where the root is mounted when it has to be on the host: not in the run directory, which is removed with all that
    is in it."""
    return f"{engine.run}/bundles/{engine.namespace}/{id}"


def place_root(engine: Engine, record: Record, config: dict[str, object], mounts: Sequence[Mount] = ()) -> Rootfs:
    """What is to be the root: mounts, by the client or of the snapshot, for the container to mount itself or, where
    they have to be on the host, mounted in its bundle; else the directory that the spec names.

    Raises InvalidArgument, NotFound for the snapshot.
    """
    if not mounts and record.row.snapshot_key:
        from masu.snapshots import choose

        mounts = choose(engine.ns, record.row.snapshotter).mounts(record.row.snapshot_key)
    if mounts:
        from masu.engine import hostroot

        path = bundle_path(engine, record.id) + "/rootfs"
        if hostroot.may_be_private(mounts, hooks=bool(config.get("hooks"))):
            only = mounts[0]
            return Rootfs(path, (only.type, only.source, tuple(only.options)))
        os.makedirs(path, 0o711, exist_ok=True)
        hostroot.mount_all(mounts, path)
        return Rootfs(path)
    root = config.get("root")
    named = root.get("path") if isinstance(root, dict) else ""
    if not isinstance(named, str) or not named.startswith("/"):
        raise InvalidArgument(
            "container", record.id, where="root.path", detail="an absolute path, or a snapshot, is wanted"
        )
    return Rootfs(named)


def bundle_of(engine: Engine, record: Record, config: dict[str, object]) -> Bundle:
    """config.json as the runtime reads it, and the directory that hooks find it in."""
    from masu.runtime import bundle as bundles

    text = jsontext.dumps(config).encode()
    warnings: list[str] = []
    path = f"{engine.run_root}/{record.id}"
    if config.get("hooks"):
        path = bundle_path(engine, record.id)
        os.makedirs(path, 0o711, exist_ok=True)
        fds.atomic_write(path + "/config.json", text, 0o600, sync=False)
    return bundles.Bundle(path, text, bundles.parse_config(text, warnings), warnings)


def remove_bundle(engine: Engine, id: str) -> None:
    """What `place_root` and `bundle_of` have made. Raises KernelError when something stays mounted."""
    path = bundle_path(engine, id)
    if not os.path.isdir(path):
        return
    from masu.engine import hostroot

    hostroot.unmount_all(path + "/rootfs")
    for remove, name in ((os.rmdir, "/rootfs"), (os.unlink, "/config.json"), (os.rmdir, "")):
        try:
            remove(path + name)
        except FileNotFoundError:
            pass


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
