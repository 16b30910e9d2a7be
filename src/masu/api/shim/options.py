"""What clients and containerd's configuration ask of a shim: runc's options, whatever the runtime is."""

from __future__ import annotations

from masu.api.proto import small
from masu.errors import Unimplemented

OPTIONS = "containerd.runc.v1.Options"
CHECKPOINT_OPTIONS = "containerd.runc.v1.CheckpointOptions"
PROCESS_DETAILS = "containerd.runc.v1.ProcessDetails"
# Which containerd's CRI sends to a runtime of which it knows nothing: a path of a configuration that we have not.
_GENERIC = ("runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options")


def type_name(value: small.Any) -> str:
    return value.type_url.rpartition("/")[2]


def runtime_options(value: small.Any | None) -> small.Options:
    """Raises Unimplemented for options of another runtime."""
    if value is None or not value.type_url or type_name(value) in _GENERIC:
        return small.Options()
    if type_name(value) != OPTIONS:
        raise Unimplemented("options", value.type_url, detail=f"{OPTIONS} is known")
    return small.Options.decode(value.value)


def checkpoint_options(value: small.Any | None) -> small.CheckpointOptions:
    if value is None or not value.type_url:
        return small.CheckpointOptions()
    if type_name(value) != CHECKPOINT_OPTIONS:
        raise Unimplemented("options", value.type_url, detail=f"{CHECKPOINT_OPTIONS} is known")
    return small.CheckpointOptions.decode(value.value)
