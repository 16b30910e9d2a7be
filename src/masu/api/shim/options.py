"""What clients and containerd's configuration ask of a shim: runc's options, whatever the runtime is."""

from __future__ import annotations

from masu.api.proto import small
from masu.errors import Unimplemented

OPTIONS = "containerd.runc.v1.Options"
CHECKPOINT_OPTIONS = "containerd.runc.v1.CheckpointOptions"
PROCESS_DETAILS = "containerd.runc.v1.ProcessDetails"
# What they were for containerd's first shim; ctr 1.6 takes a runtime that it does not know for one like that.
_OLD_OPTIONS = "containerd.linux.runc.CreateOptions"
_OLD_CHECKPOINT_OPTIONS = "containerd.linux.runc.CheckpointOptions"
# Which containerd's CRI sends to a runtime of which it knows nothing: a path of a configuration that we have not.
_GENERIC = ("runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options")


def type_name(value: small.Any) -> str:
    return value.type_url.rpartition("/")[2]


def runtime_options(value: small.Any | None) -> small.Options:
    """Raises Unimplemented for options of another runtime."""
    if value is None or not value.type_url or type_name(value) in _GENERIC:
        return small.Options()
    if type_name(value) == _OLD_OPTIONS:
        old = small.CreateOptions.decode(value.value)
        return small.Options(
            no_pivot_root=old.no_pivot_root,
            no_new_keyring=old.no_new_keyring,
            shim_cgroup=old.shim_cgroup,
            criu_work_path=old.criu_work_path,
        )
    if type_name(value) != OPTIONS:
        raise Unimplemented("options", value.type_url, detail=f"{OPTIONS} is known")
    return small.Options.decode(value.value)


def checkpoint_options(value: small.Any | None) -> small.CheckpointOptions:
    if value is None or not value.type_url:
        return small.CheckpointOptions()
    if type_name(value) == _OLD_CHECKPOINT_OPTIONS:
        # The same but for the last two, which come the other way round.
        old = small.CheckpointOptions.decode(value.value)
        old.image_path, old.work_path = old.work_path, old.image_path
        return old
    if type_name(value) != CHECKPOINT_OPTIONS:
        raise Unimplemented("options", value.type_url, detail=f"{CHECKPOINT_OPTIONS} is known")
    return small.CheckpointOptions.decode(value.value)
