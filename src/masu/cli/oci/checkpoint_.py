"""masu-oci checkpoint"""

from __future__ import annotations

import os

from masu.cli.oci import log_of, root_of
from masu.cli.options import Call, Command, Flag, integer
from masu.errors import FailedPrecondition, InvalidArgument
from masu.linux import namespaces
from masu.runtime.checkpoint import checkpoint
from masu.runtime.container import Container
from masu.runtime.criu.options import CriuOptions
from masu.runtime.criu.rpc import NETWORK_LOCKS

# Of both verbs.
CRIU_FLAGS = (
    Flag("image-path", value="value", help="path of CRIU's image files (default: ./checkpoint)"),
    Flag("work-path", value="value", help="path for work files and logs (default: that of the images)"),
    Flag("tcp-established", help="allow open tcp connections"),
    Flag("ext-unix-sk", help="allow external unix sockets"),
    Flag("shell-job", help="allow shell jobs"),
    Flag("lazy-pages", help="use userfaultfd to lazily restore memory pages"),
    Flag("file-locks", help="handle file locks, for safety"),
    Flag("manage-cgroups-mode", value="value", help="cgroups mode: soft|full|strict|ignore (default: soft)"),
    Flag(
        "network-lock", value="value", choices=tuple(NETWORK_LOCKS),
        help="how connections are held still meanwhile: iptables|nftables|skip (default: iptables)",
    ),
    Flag("empty-ns", value="value", repeated=True, help="create a namespace, but don't restore its properties"),
    Flag("auto-dedup", help="enable auto deduplication of memory images"),
)  # fmt: skip


def run(call: Call) -> int:
    check_root(call)
    options = call.options
    container = Container.open(root_of(call), call.args[0])
    wanted = criu_options(call)
    wanted.parent_path = options.text("parent-path")
    wanted.tcp_skip_in_flight = options.on("tcp-skip-in-flight")
    wanted.link_remap = options.on("link-remap")
    wanted.status_fd = options.number("status-fd")
    wanted.page_server = _page_server(options.text("page-server"))
    leave_running, pre_dump = options.on("leave-running"), options.on("pre-dump")
    for warning in checkpoint(container, wanted, leave_running=leave_running, pre_dump=pre_dump):
        log_of(call).warning(warning)
    return 0


def check_root(call: Call) -> None:
    """Raises FailedPrecondition for a user without root; root of a user namespace is warned, as by runc."""
    if os.geteuid() != 0:
        raise FailedPrecondition(
            call.command.name,
            detail="CRIU wants root: it reads and makes processes, their pids and mounts as no user may",
            hint="containers of users without root cannot be checkpointed; run the container as root",
        )
    if not namespaces.in_initial_user_namespace():
        log_of(call).warning(f"masu-oci {call.command.name} is untested with rootless containers")


def criu_options(call: Call) -> CriuOptions:
    """What both verbs' flags say. Raises InvalidArgument."""
    options = call.options
    for name in options.all("empty-ns"):
        # The network namespace is empty anyway, as with runc.
        if name != "network":
            raise InvalidArgument("--empty-ns", name, detail=f'namespace "{name}" is not supported, only network')
    return CriuOptions(
        image_path=options.text("image-path") or os.path.abspath("checkpoint"),
        work_path=options.text("work-path"),
        auto_dedup=options.on("auto-dedup"),
        ext_unix_sk=options.on("ext-unix-sk"),
        file_locks=options.on("file-locks"),
        lazy_pages=options.on("lazy-pages"),
        manage_cgroups_mode=options.text("manage-cgroups-mode"),
        network_lock=options.text("network-lock"),
        shell_job=options.on("shell-job"),
        tcp_established=options.on("tcp-established"),
    )


def _page_server(text: str) -> tuple[str, int] | None:
    """ADDRESS:PORT, an IPv6 address in brackets."""
    if not text:
        return None
    address, colon, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        colon = ""
    if not (address and colon and port):
        raise InvalidArgument("--page-server", text, detail="Use --page-server ADDRESS:PORT to specify page server")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise InvalidArgument("--page-server", text, detail="Invalid port number")
    return address, int(port)


COMMAND = Command(
    "checkpoint",
    "[command options] <container-id>",
    "saves the state of a running container, and ends it",
    flags=(
        *CRIU_FLAGS,
        Flag("parent-path", value="value", help="path of the images of a pre-dump, relative to the image path"),
        Flag("leave-running", help="leave the process running after checkpointing"),
        Flag("tcp-skip-in-flight", help="skip in-flight tcp connections"),
        Flag("link-remap", help="allow one to link unlinked files back when possible"),
        Flag(
            "status-fd", value="value", default=-1, convert=integer,
            help="a zero byte is written to this fd once lazy-pages is ready",
        ),
        Flag("page-server", value="value", help="ADDRESS:PORT of the page server"),
        Flag("pre-dump", help="dump container's memory information only, leave the container running after this"),
    ),
    arity=(1, 1),
    run=run,
)  # fmt: skip
