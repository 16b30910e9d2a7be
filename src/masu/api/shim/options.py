"""What clients and containerd's configuration ask of a shim: runc's options, whatever the runtime is, as a message or
as TOML."""

from __future__ import annotations

from masu.api.proto import small
from masu.errors import InvalidArgument, Unimplemented
from masu.isolation.backend import by_options
from masu.linux import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.isolation.backend import Isolation

OPTIONS = "containerd.runc.v1.Options"
CHECKPOINT_OPTIONS = "containerd.runc.v1.CheckpointOptions"
PROCESS_DETAILS = "containerd.runc.v1.ProcessDetails"
# What they were for containerd's first shim; ctr 1.6 takes a runtime that it does not know for one like that.
_OLD_OPTIONS = "containerd.linux.runc.CreateOptions"
_OLD_CHECKPOINT_OPTIONS = "containerd.linux.runc.CheckpointOptions"
# What containerd's CRI, and ctr's --runtime-config-path, send to a runtime of which they know nothing: TOML.
_GENERIC = ("runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options")
_MAX_CONFIG_BYTES = 1 << 20
# As containerd's config.toml has them, below a runtime's `options`.
_KEYS = {
    "BinaryName": "binary_name", "CriuWorkPath": "criu_work_path", "NoNewKeyring": "no_new_keyring",
    "NoPivotRoot": "no_pivot_root", "Root": "root", "ShimCgroup": "shim_cgroup", "SystemdCgroup": "systemd_cgroup",
}  # fmt: skip
# Of the message itself, or without a meaning here: who owns the stdio that clients name, where an old one has its criu.
_IGNORED = ("TypeUrl", "ConfigPath", "IoUid", "IoGid", "CriuPath", "CriuImagePath")
# Where containerd's own shim has the state of the runtimes that it calls.
_RUNTIMES_ROOT = "/run/containerd/runc"


def type_name(value: small.Any) -> str:
    return value.type_url.rpartition("/")[2]


def runtime_options(value: small.Any | None) -> small.Options:
    """Raises Unimplemented for options of another runtime, InvalidArgument."""
    if value is None or not value.type_url:
        return small.Options()
    if type_name(value) in _GENERIC:
        return _generic(small.GenericOptions.decode(value.value))
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


def _generic(given: small.GenericOptions) -> small.Options:
    if not given.config_path:
        return _parse(given.config_body, "runtime options")
    try:
        return _parse(fds.read_bounded(given.config_path, _MAX_CONFIG_BYTES), given.config_path)
    except FileNotFoundError as error:
        raise InvalidArgument("runtime options", given.config_path, detail="no such file") from error


def _parse(text: bytes, name: str) -> small.Options:
    options = small.Options()
    if not text:
        return options
    import tomllib  # by whose containerd has some

    try:
        table = tomllib.loads(text.decode())
    except ValueError as error:
        raise InvalidArgument("runtime options", name, detail=str(error)) from error
    for key, value in table.items():
        if key in _IGNORED:
            continue
        if key not in _KEYS:
            raise InvalidArgument(name, key, detail=f"unknown; known are {', '.join(_KEYS)}")
        kind = type(getattr(options, _KEYS[key]))
        if type(value) is not kind:
            raise InvalidArgument(name, key, detail=f"a {'boolean' if kind is bool else 'string'} is wanted")
        setattr(options, _KEYS[key], value)
    return options


def isolation(options: small.Options, namespace: str) -> Isolation:
    """Who makes the containers of a containerd namespace: our own runtime, or the one that is named. Raises NotFound
    when that is not there."""
    return by_options(options, _RUNTIMES_ROOT, namespace)


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
