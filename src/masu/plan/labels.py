"""Labels of the security modules: of the process, of its keyring, and of what is mounted for it.

Where the module is not there or off nobody would heed them: that is refused, as runc refuses it.
"""

from __future__ import annotations

from masu.errors import FailedPrecondition
from masu.plan.ops import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.plan.draft import Draft
    from masu.plan.host import Host
    from masu.spec.runtime import Config, Process

# Their files have labels by the policy's own rules (genfscon) and take none by mount option. mqueue's superblock comes
# with the ipc namespace, before any option could (selinux_set_mnt_opts()): its directory is labelled afterwards.
_OWN_LABELS = frozenset(("proc", "sysfs", "mqueue", "cgroup", "cgroup2"))


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
    """linux.mountLabel, or an empty string."""
    label = config.linux.mount_label or ""
    if label and not host.selinux:
        raise _no_selinux("label of mounts", label, "linux.mountLabel")
    return label


def with_label(words: tuple[str, ...], kind: str, label: str) -> tuple[str, ...]:
    """The options of a file system with linux.mountLabel among them, unless they bring a label of their own."""
    if not label or kind in _OWN_LABELS or any(word.startswith("context=") for word in words):
        return words
    # Not in quotes, as mount(8) wants them for a label with commas: here each option goes by itself.
    return (*words, "context=" + label)


def add_after_mount(draft: Draft, kind: str, target: str, label: str) -> None:
    """The label of what cannot be given one while it is mounted."""
    if kind == "mqueue" and label:
        draft.inside.append(Op("label", "linux.mountLabel", target=target, label=label))


def _no_selinux(what: str, label: str, where: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"SELinux {what}",
        label,
        where=where,
        detail="selinux label is specified in config, but selinux is disabled or not supported",
        hint="this kernel has it not, or off: leave the label out",
    )
