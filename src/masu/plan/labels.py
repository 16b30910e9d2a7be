"""Labels of the security modules: of the process, of its keyring, and of what is mounted for it.

Where the module is not there or off nobody would heed them: that is refused, as runc refuses it.
"""

from __future__ import annotations

from masu.errors import FailedPrecondition, InvalidArgument
from masu.plan.ops import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.plan.draft import Draft
    from masu.plan.host import Host
    from masu.spec.runtime import Config, Process

# Their files have labels by the policy's own rules (genfscon) and take none by mount option. mqueue's superblock comes
# with the ipc namespace, before any option could (selinux_set_mnt_opts()): its directory is labelled afterwards.
_OWN_LABELS = frozenset(("proc", "sysfs", "mqueue", "cgroup", "cgroup2"))
# How a label goes into the options of a mount (mount(8)); crun's annotation chooses.
_CONTEXT_TYPE = "run.oci.mount_context_type"
_CONTEXT_TYPES = ("context", "fscontext", "defcontext", "rootcontext")


def of_process(process: Process, host: Host, where: str) -> list[Op]:
    """What makes the program run under its AppArmor profile and its SELinux label."""
    ops = []
    if process.apparmor_profile:
        if not host.apparmor:
            raise FailedPrecondition(
                "AppArmor profile",
                process.apparmor_profile,
                where=where + ".apparmorProfile",
                # runc's sentence, as the next one.
                detail="apparmor: config provided but apparmor not supported",
                hint="this kernel has it not, or off: leave the profile out",
            )
        data = b"exec " + process.apparmor_profile.encode()
        ops.append(Op("proc_write", where + ".apparmorProfile", path="self/attr/apparmor/exec", data=data))
    if process.selinux_label:
        if not host.selinux:
            raise _no_selinux("label", process.selinux_label, where + ".selinuxLabel")
        data = process.selinux_label.encode()
        ops.append(Op("proc_write", where + ".selinuxLabel", path="self/attr/exec", data=data))
    return ops


def of_keyring(process: Process, host: Host, where: str) -> list[Op]:
    """What labels the session keyring that is made next like the process, so that no other container's gets at it. The
    exec takes it back (SELinux resets it there)."""
    if not process.selinux_label or not host.selinux:
        return []
    data = process.selinux_label.encode()
    return [Op("proc_write", where + ".selinuxLabel", path="self/attr/keycreate", data=data)]


def of_mounts(config: Config, host: Host) -> str:
    """linux.mountLabel as an option of a mount, "context=LABEL", or an empty string."""
    kind = config.annotations.get(_CONTEXT_TYPE, "context")
    if kind not in _CONTEXT_TYPES:
        allowed = "allowed are " + ", ".join(_CONTEXT_TYPES)
        raise InvalidArgument("context type", kind, where=f"annotations[{_CONTEXT_TYPE}]", detail=allowed)
    label = config.linux.mount_label or ""
    if label and not host.selinux:
        raise _no_selinux("label of mounts", label, "linux.mountLabel")
    return f"{kind}={label}" if label else ""


def with_label(words: tuple[str, ...], kind: str, label: str) -> tuple[str, ...]:
    """The options of a file system with the label of `of_mounts` among them, unless they bring one of their own."""
    own = any(word.partition("=")[0] in _CONTEXT_TYPES for word in words)
    # Not in quotes, as mount(8) wants them for a label with commas: here each option goes by itself.
    return words if own or not label or kind in _OWN_LABELS else (*words, label)


def add_after_mount(draft: Draft, kind: str, target: str, label: str) -> None:
    """The label of what cannot be given one while it is mounted."""
    if kind == "mqueue" and label:
        draft.inside.append(Op("label", "linux.mountLabel", target=target, label=label.partition("=")[2]))


def _no_selinux(what: str, label: str, where: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"SELinux {what}",
        label,
        where=where,
        detail="selinux label is specified in config, but selinux is disabled or not supported",
        hint="this kernel has it not, or off: leave the label out",
    )
