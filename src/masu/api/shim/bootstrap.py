"""How a shim is started: what containerd tells it, and the address it gets to hear.

Until containerd 2.2 that is flags, environment variables and, on standard input, an Any with the runtime's options;
the answer is the address as text. Since 2.3 it is one message, BootstrapParams, beside the same flags; the answer is a
BootstrapResult. The two messages can be taken for each other, so the ids decide, as in containerd's own shims.
"""

from __future__ import annotations

from masu.api.proto import small
from masu.api.shim import options as wanted
from masu.errors import DataLoss
from masu.linux import fds
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKETS = "/run/containerd/s"
GROUP = "io.containerd.runc.v2.group"
_MAX_CONFIG_BYTES = 16 << 20
_DEBUG = -4


class Start:
    """What was asked for: the namespace's containerd (its two addresses), the container, the runtime's options."""

    __slots__ = ("address", "debug", "id", "is_message", "namespace", "options", "socket_dir", "ttrpc_address")

    def __init__(self, flags: Mapping[str, str], environment: Mapping[str, str], stdin: bytes) -> None:
        """Raises DataLoss for input that is none of the two."""
        self.id = flags["id"]
        self.namespace = flags["namespace"]
        self.address = flags.get("address", "") or environment.get("GRPC_ADDRESS", "")
        self.ttrpc_address = environment.get("TTRPC_ADDRESS", "")
        self.debug = "debug" in flags
        self.socket_dir = SOCKETS
        self.options = small.Options()
        params = _params(stdin, self.id, self.namespace)
        self.is_message = params is not None
        if params is None:
            if stdin:
                self.options = wanted.runtime_options(small.Any.decode(stdin))
            return
        self.address = params.containerd_grpc_address or self.address
        self.ttrpc_address = params.containerd_ttrpc_address or self.ttrpc_address
        self.debug = self.debug or params.log_level <= _DEBUG
        self.socket_dir = params.socket_dir or SOCKETS
        for extension in params.extensions:
            if extension.value is not None and wanted.type_name(extension.value) == wanted.OPTIONS:
                self.options = wanted.runtime_options(extension.value)

    def socket(self, bundle: str) -> str:
        """Where the shim of this container listens: that of all in the namespace, or of its group."""
        name = f"{self.address}\n{self.namespace}\n{_group(bundle)}".encode()
        return f"{self.socket_dir}/{_fnv(0xCBF29CE484222325, name):016x}{_fnv(0x84222325CBF29CE4, name):016x}"

    def answer(self, socket: str) -> bytes:
        address = f"unix://{socket}"
        if not self.is_message:
            return address.encode()
        return small.BootstrapResult(version=3, address=address, protocol="ttrpc").encode()


def _fnv(value: int, data: bytes) -> int:
    """FNV-1a, twice for a name that no two have."""
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def _params(stdin: bytes, id: str, namespace: str) -> small.BootstrapParams | None:
    try:
        params = small.BootstrapParams.decode(stdin)
    except DataLoss:
        return None
    return params if (params.instance_id, params.namespace) == (id, namespace) else None


def _group(bundle: str) -> str:
    try:
        text = fds.read_bounded(f"{bundle}/config.json", _MAX_CONFIG_BYTES)
    except FileNotFoundError:  # a sandbox has none yet
        return ""
    if GROUP.encode() not in text:  # parsed only for those that have one
        return ""
    config = jsontext.loads(text, name="config.json")
    annotations = config.get("annotations") if isinstance(config, dict) else None
    group = annotations.get(GROUP) if isinstance(annotations, dict) else None
    return group if isinstance(group, str) else ""
