"""A bundle: a directory with config.json and the root file system it names (bundle.md)."""

from __future__ import annotations

import os

from masu.errors import InvalidArgument, NotFound
from masu.linux import fds
from masu.spec import jsontext
from masu.spec import runtime as spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import Config

_MAX_CONFIG_BYTES = 16 << 20


class Bundle:
    """A read bundle: absolute `path`, the `text` of config.json, the `config` and the `extras` that its annotations ask
    for, what was accepted with a warning."""

    __slots__ = ("config", "extras", "path", "text", "warnings")

    def __init__(self, path: str, text: bytes, config: Config, warnings: list[str]) -> None:
        """Raises as `spec.extras_of`: wrong ones are told before anything has been made."""
        self.path = path
        self.text = text
        self.config = config.in_bundle(path)
        self.extras = spec.extras_of(config)
        self.warnings = warnings

    @property
    def rootfs(self) -> str:
        """The absolute path of the root file system, symlinks resolved."""
        root = self.config.root
        if root is None or not root.path:
            raise InvalidArgument("config.json", where="root.path", detail="it is required on Linux")
        return os.path.realpath(os.path.join(self.path, root.path))


def read(path: str, config: str = "config.json", *, to_run: bool = True) -> Bundle:
    """`config` is the configuration's name in the bundle, or a path. Raises NotFound without it, InvalidArgument with
    the JSON path of what is wrong in it, or, when it is `to_run`, of what this user may not do."""
    path = os.path.realpath(path)
    return parse(path, read_config(path, config), to_run=to_run)


def read_config(path: str, config: str = "config.json") -> bytes:
    """The text of a bundle's configuration. Raises NotFound."""
    file = os.path.join(path, config)
    try:
        return fds.read_bounded(file, _MAX_CONFIG_BYTES)
    except FileNotFoundError:
        if not os.path.isdir(path):
            raise NotFound("bundle", path, detail=f"chdir {path}: no such file or directory") from None
        raise NotFound(
            "bundle",
            path,
            detail=f"JSON specification file {config} not found",
            hint="make one with `masu-oci spec`, or name the directory with --bundle",
        ) from None


def parse(path: str, text: bytes, *, to_run: bool = True) -> Bundle:
    """The bundle of an absolute `path` whose config.json has been read."""
    warnings: list[str] = []
    bundle = Bundle(path, text, parse_config(text, warnings, to_run=to_run), warnings)
    rootfs = bundle.rootfs
    if not os.path.isdir(rootfs):
        if os.path.exists(rootfs):
            raise InvalidArgument(
                "rootfs", rootfs, where="root.path", detail="not a directory", hint="unpack the image into one"
            )
        raise NotFound(
            "rootfs",
            rootfs,
            where="root.path",
            detail="no such directory",
            hint="unpack an image there: e.g. docker export $(docker create busybox) | tar -C rootfs -xf -",
        )
    return bundle


def parse_config(text: bytes, warnings: list[str], *, to_run: bool = True) -> Config:
    """A config.json that Linux can run, and this user when it is `to_run`."""
    data = jsontext.loads(text, name="config.json")
    if not isinstance(data, dict):
        raise InvalidArgument("config.json", detail="an object is wanted")
    config = spec.parse_config(data, warnings)
    spec.require_linux(config)
    if to_run and os.geteuid() != 0:
        spec.check_rootless(config)
    return config
