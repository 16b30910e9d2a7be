"""A container in `list` and `state`, with runc's keys. As runc has it, only `list` names the owner."""

from __future__ import annotations

from masu.runtime import lifecycle
from masu.runtime.container import Container


def row(container: Container, *, owner: bool = True) -> dict[str, object]:
    facts = container.facts
    status = container.status()
    return {
        "ociVersion": facts.oci_version,
        "id": facts.id,
        "pid": 0 if status == lifecycle.STOPPED else facts.pid,
        "status": status,
        "bundle": facts.bundle,
        "rootfs": facts.rootfs,
        "created": facts.created,
        **({"annotations": facts.annotations} if facts.annotations else {}),
        "owner": _owner(facts.owner_uid) if owner else "",
    }


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
