"""What the callers of checkpoint and restore choose, and what both requests have in common."""

from __future__ import annotations

import os

from masu.errors import InvalidArgument
from masu.linux import namespaces
from masu.runtime.criu import rpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import Config

_CONFIG_ANNOTATION = "org.criu.config"
_CONFIG_FILE = "/etc/criu/runc.conf"
# CRIU's log: 4 is everything.
_LOG_LEVEL = 4


class CriuOptions:
    """Flags of runc's checkpoint and restore, and two of crun's, by their names. `image_path` is where the checkpoint
    is, `work_path` where CRIU works and logs, "" for the same. `page_server` is (address, port)."""

    __slots__ = (
        "auto_dedup", "ext_unix_sk", "file_locks", "image_path", "lazy_pages", "link_remap", "lsm_mount_context",
        "lsm_profile", "manage_cgroups_mode", "network_lock", "page_server", "parent_path", "shell_job", "status_fd",
        "tcp_close", "tcp_established", "tcp_skip_in_flight", "work_path",
    )  # fmt: skip

    def __init__(
        self,
        *,
        image_path: str,
        work_path: str = "",
        parent_path: str = "",
        auto_dedup: bool = False,
        ext_unix_sk: bool = False,
        file_locks: bool = False,
        lazy_pages: bool = False,
        link_remap: bool = False,
        lsm_mount_context: str = "",
        lsm_profile: str = "",
        manage_cgroups_mode: str = "",
        network_lock: str = "",
        page_server: tuple[str, int] | None = None,
        shell_job: bool = False,
        status_fd: int = -1,
        tcp_close: bool = False,
        tcp_established: bool = False,
        tcp_skip_in_flight: bool = False,
    ) -> None:
        self.image_path = image_path
        # Opened once when it is one directory: by the second time another could have its name (CVE-2026-119101).
        self.work_path = "" if os.path.abspath(work_path) == os.path.abspath(image_path) else work_path
        self.parent_path = parent_path
        self.auto_dedup = auto_dedup
        self.ext_unix_sk = ext_unix_sk
        self.file_locks = file_locks
        self.lazy_pages = lazy_pages
        self.link_remap = link_remap
        self.lsm_mount_context = lsm_mount_context
        self.lsm_profile = lsm_profile
        self.manage_cgroups_mode = manage_cgroups_mode
        self.network_lock = network_lock
        self.page_server = page_server
        self.shell_job = shell_job
        self.status_fd = status_fd
        self.tcp_close = tcp_close
        self.tcp_established = tcp_established
        self.tcp_skip_in_flight = tcp_skip_in_flight


def common(options: CriuOptions, log: str, config: Config) -> rpc.Options:
    """The part of a request that dump and restore share, without the directories. Raises InvalidArgument."""
    mode = rpc.CGROUP_MODES.get(options.manage_cgroups_mode)
    if mode is None:
        raise InvalidArgument(
            "invalid manage-cgroups-mode value",
            options.manage_cgroups_mode,
            where="--manage-cgroups-mode",
            detail="allowed are soft, full, strict, ignore",
        )
    request = rpc.Options(
        log_level=_LOG_LEVEL,
        log_file=log,
        manage_cgroups=True,
        manage_cgroups_mode=mode,
        notify_scripts=True,
        shell_job=options.shell_job,
        ext_unix_sk=options.ext_unix_sk,
        tcp_established=options.tcp_established,
        file_locks=options.file_locks,
        # Network devices and what is configured on them are not the runtime's: hooks and callers make them anew.
        empty_ns=namespaces.CLONE_NEWNET,
        orphan_pts_master=True,
        auto_dedup=options.auto_dedup,
        lazy_pages=options.lazy_pages,
    )
    if options.network_lock:
        request.set(network_lock=rpc.NETWORK_LOCKS[options.network_lock])
    # Settings in CRIU's configuration file go before ours. An empty annotation means none at all.
    file = config.annotations.get(_CONFIG_ANNOTATION, _CONFIG_FILE)
    if file:
        request.set(config_file=file)
    return request


def external(config: Config) -> list[tuple[str, str, str]]:
    """(CRIU's word, its key, path) of the network and PID namespaces that are joined by path: they stay outside of the
    checkpoint, and are expected to be there at the restore. The keys are runc's."""
    words = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
    return [(*words[space.type], space.path) for space in config.linux.namespaces if space.path and space.type in words]
