"""The flags of `run` and `create`, and the request that they come to."""

from __future__ import annotations

import os

from masu.cli import units
from masu.cli.options import Flag, integer, natural
from masu.engine import notation
from masu.engine.request import ContainerRequest
from masu.errors import InvalidArgument, Unimplemented

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.cli.options import Call, Values
    from masu.engine import Engine
    from masu.engine.request import MountRequest

FLAGS = (
    Flag("annotation", value="map", repeated=True, help="Add an annotation to the container (for the OCI runtime)"),
    Flag("attach", "a", value="list", repeated=True,
         choices=("stdin", "stdout", "stderr", "STDIN", "STDOUT", "STDERR"),
         help="Attach to STDIN, STDOUT or STDERR"),
    Flag("blkio-weight", value="uint16", convert=natural,
         help="Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    Flag("cap-add", value="list", repeated=True, help="Add Linux capabilities"),
    Flag("cap-drop", value="list", repeated=True, help="Drop Linux capabilities"),
    Flag("cgroup-parent", value="string", help="Optional parent cgroup for the container"),
    Flag("cgroupns", value="string", choices=("host", "private"), help="Cgroup namespace to use (host|private)"),
    Flag("cidfile", value="string", help="Write the container ID to the file"),
    Flag("cpu-period", value="int", convert=natural, help="Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", value="int", convert=integer, help="Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "c", value="int", convert=natural, help="CPU shares (relative weight)"),
    Flag("cpus", value="decimal", convert=notation.cpus, help="Number of CPUs"),
    Flag("cpuset-cpus", value="string", convert=notation.cpu_list, help="CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", value="string", convert=notation.cpu_list, help="MEMs in which to allow execution (0-3, 0,1)"),
    Flag("device", value="list", repeated=True, help="Add a host device to the container"),
    Flag("domainname", value="string", help="Container NIS domain name"),
    Flag("entrypoint", value="string", help="Overwrite the default ENTRYPOINT of the image"),
    Flag("env", "e", value="list", repeated=True, help="Set environment variables"),
    Flag("env-file", value="list", repeated=True, help="Read in a file of environment variables"),
    Flag("group-add", value="list", repeated=True, help="Add additional groups to join"),
    Flag("hostname", "h", value="string", help="Container host name"),
    Flag("init", help="Run an init inside the container that forwards signals and reaps processes"),
    Flag("interactive", "i", help="Keep STDIN open even if not attached"),
    Flag("ipc", value="string", help="IPC mode to use"),
    Flag("label", "l", value="list", repeated=True, help="Set meta data on a container"),
    Flag("label-file", value="list", repeated=True, help="Read in a line delimited file of labels"),
    Flag("log-opt", value="list", repeated=True, help="Log options: max-size=16m, max-file=4"),
    Flag("memory", "m", value="bytes", convert=units.size, help="Memory limit"),
    Flag("memory-reservation", value="bytes", convert=units.size, help="Memory soft limit"),
    Flag("memory-swap", value="bytes", convert=units.swap,
         help="Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Flag("mount", value="mount", repeated=True, help="Attach a filesystem mount to the container"),
    Flag("name", value="string", help="Assign a name to the container"),
    Flag("network", value="network", aliases=("net",),
         help="Network of the container: none (default), host, container:NAME, ns:PATH"),
    Flag("oom-kill-disable", help="Disable OOM Killer"),
    Flag("oom-score-adj", value="int", convert=integer, help="Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pid", value="string", help="PID namespace to use"),
    Flag("pids-limit", value="int", convert=integer, help="Tune container pids limit (set -1 for unlimited)"),
    Flag("platform", value="string", help="Set platform if server is multi-platform capable"),
    Flag("privileged", help="Give extended privileges to this container"),
    Flag("publish", "p", value="list", repeated=True, hidden=True),
    Flag("publish-all", "P", hidden=True),
    Flag("pull", value="string", default="missing", choices=("always", "missing", "never"),
         help='Pull image before running ("always", "missing", "never")'),
    Flag("quiet", "q", help="Suppress the pull output"),
    Flag("read-only", help="Mount the container's root filesystem as read only"),
    Flag("restart", value="string", hidden=True),
    Flag("rm", help="Automatically remove the container and its associated anonymous volumes when it exits"),
    Flag("rootfs", value="DIR", help="Use a directory as the root file system; no image is named then"),
    Flag("security-opt", value="list", repeated=True,
         help="Security Options (seccomp=FILE|unconfined, no-new-privileges)"),
    Flag("shm-size", value="bytes", convert=units.size, help="Size of /dev/shm"),
    Flag("stop-signal", value="string", help="Signal to stop the container"),
    Flag("stop-timeout", value="int", convert=integer, help="Timeout (in seconds) to stop a container"),
    Flag("sysctl", value="map", repeated=True, help="Sysctl options"),
    Flag("tls-verify", hidden=True, default=True, help="Verify certificates of the registry"),
    Flag("tmpfs", value="list", repeated=True, help="Mount a tmpfs directory"),
    Flag("tty", "t", help="Allocate a pseudo-TTY"),
    Flag("ulimit", value="ulimit", repeated=True, convert=notation.ulimit, help="Ulimit options"),
    Flag("user", "u", value="string", help="Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("uts", value="string", help="UTS namespace to use"),
    Flag("volume", "v", value="list", repeated=True, help="Bind mount a volume"),
    Flag("workdir", "w", value="string", help="Working directory inside the container"),
)  # fmt: skip


def image_and_command(call: Call) -> tuple[str, list[str]]:
    """The image and what follows it; with --rootfs all of it is the command."""
    if call.options.given("rootfs"):
        return "", list(call.args)
    if not call.args:
        from masu.cli.options import UsageError, usage_of

        raise UsageError(
            f"'masu {call.command.name}' requires at least 1 argument", usage=usage_of(call.program, call.command)
        )
    return call.args[0], list(call.args[1:])


def request_of(call: Call, command: Sequence[str]) -> ContainerRequest:
    """The request that the flags of a call come to. Raises InvalidArgument, Unimplemented."""
    options, cwd, environ = call.options, os.getcwd(), os.environ
    if options.given("publish") or options.on("publish-all"):
        raise Unimplemented(
            "publishing ports", where="--publish", detail="there are no bridge networks yet",
            hint="--network host shows the container's ports on this machine",
        )  # fmt: skip
    if options.text("restart") not in ("", "no"):
        raise Unimplemented(
            "restart policy", options.text("restart"), where="--restart", detail="nobody would restart it"
        )
    environment: list[str] = []
    for path in options.all("env-file"):
        environment += notation.env_file(path, environ)
    environment += [notation.env(text, environ) for text in options.all("env")]
    labels: dict[str, str] = {}
    for path in options.all("label-file"):
        labels.update(notation.label_file(path))
    labels.update(notation.label(text) for text in options.all("label"))
    entrypoint: list[str] | None = None
    if options.given("entrypoint"):
        entrypoint = [options.text("entrypoint")]
    log = _log_options(options)
    return ContainerRequest(
        command=list(command),
        entrypoint=entrypoint,
        env=environment,
        labels=labels,
        annotations=dict(_pair(text, "--annotation") for text in options.all("annotation")),
        interactive=options.on("interactive"),
        tty=options.on("tty"),
        auto_remove=options.on("rm"),
        workdir=notation.workdir(options.text("workdir")) if options.given("workdir") else "",
        user=options.text("user"),
        group_add=options.all("group-add"),
        hostname=notation.hostname(options.text("hostname")) if options.given("hostname") else "",
        domainname=notation.hostname(options.text("domainname"), "--domainname") if options.given("domainname") else "",
        network=options.text("network"),
        pid=options.text("pid"),
        ipc=options.text("ipc"),
        uts=options.text("uts"),
        cgroupns=options.text("cgroupns"),
        cgroup_parent=options.text("cgroup-parent"),
        read_only=options.on("read-only"),
        rootfs=options.text("rootfs"),
        mounts=_mounts(options, cwd),
        devices=[notation.device(text) for text in options.all("device")],
        ulimits=options.items("ulimit"),
        shm_bytes=options.number("shm-size"),
        memory_bytes=options.number("memory"),
        memory_reservation_bytes=options.number("memory-reservation"),
        memory_swap_bytes=options.number("memory-swap"),
        cpus_nano=options.number("cpus"),
        cpu_shares=options.number("cpu-shares"),
        cpu_period=options.number("cpu-period"),
        cpu_quota=options.number("cpu-quota"),
        cpuset_cpus=options.text("cpuset-cpus"),
        cpuset_mems=options.text("cpuset-mems"),
        pids_limit=options.number("pids-limit"),
        blkio_weight=options.number("blkio-weight"),
        oom_kill_disable=options.on("oom-kill-disable"),
        oom_score_adj=options.number("oom-score-adj") if options.given("oom-score-adj") else None,
        cap_add=options.all("cap-add"),
        cap_drop=options.all("cap-drop"),
        privileged=options.on("privileged"),
        security_opt=_security_options(options, cwd),
        sysctls=dict(notation.sysctl(text) for text in options.all("sysctl")),
        init=options.on("init"),
        platform=options.text("platform"),
        stop_signal=options.text("stop-signal"),
        stop_timeout_s=options.number("stop-timeout") if options.given("stop-timeout") else None,
        log_max_bytes=log[0],
        log_max_files=log[1],
    )


def _pair(text: str, where: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidArgument("annotation", text, where=where, detail="want KEY=VALUE")
    return key, value


def _mounts(options: Values, cwd: str) -> list[MountRequest]:
    return [
        *(notation.volume(text, cwd) for text in options.all("volume")),
        *(notation.mount(text, cwd) for text in options.all("mount")),
        *(notation.tmpfs(text) for text in options.all("tmpfs")),
    ]


def _security_options(options: Values, cwd: str) -> list[str]:
    # a profile's path counts from where the command was typed, whoever reads it later
    out = []
    for text in options.all("security-opt"):
        for start in ("seccomp=", "seccomp:"):
            path = text.removeprefix(start)
            if path != text and path not in ("unconfined", "default", "builtin"):
                text = "seccomp=" + os.path.join(cwd, path)
        out.append(text)
    return out


def _log_options(options: Values) -> tuple[int, int]:
    size = files = 0
    for text in options.all("log-opt"):
        key, _, value = text.partition("=")
        try:
            if key == "max-size":
                size = units.size(value)
            elif key == "max-file":
                files = max(natural(value), 1)
            else:
                raise ValueError("known are max-size and max-file")
        except ValueError as error:
            raise InvalidArgument("log option", text, where="--log-opt", detail=str(error)) from error
    return size, files


def ensure_image(engine: Engine, call: Call, image: str) -> None:
    """Pulls the image as --pull says; the pseudo-image and --rootfs need none."""
    from masu.engine.records import HOST

    if not image or image == HOST:
        return
    policy = call.options.text("pull")
    platform = call.options.text("platform")
    if policy != "always" and engine.images.is_local(image, platform=platform):
        return
    if policy == "never":
        from masu.errors import NotFound

        raise NotFound("image", image, detail="not here", where="--pull never", hint=f"masu pull {image}")
    from masu.cli.engine.pull_ import pull

    if policy == "missing" and not call.options.on("quiet"):
        from masu.cli.engine.common import say

        say(f"Unable to find image '{image}' locally")
    pull(engine, image, platform=platform, quiet=call.options.on("quiet"), to_stderr=True)


def write_cidfile(path: str, id: str) -> None:
    """Docker's --cidfile: a new file with the id."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise InvalidArgument(
            "container ID file", path, where="--cidfile", detail="it exists; remove it, or see if its container runs"
        ) from None
    except OSError as error:
        raise InvalidArgument("container ID file", path, error.errno or 0, where="--cidfile") from error
    try:
        os.write(fd, id.encode())
    finally:
        os.close(fd)
