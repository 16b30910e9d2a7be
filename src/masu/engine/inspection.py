"""A container as Docker's API shows it: the fields that people's templates and scripts name."""

from __future__ import annotations

from masu.engine import births, states
from masu.engine.compose import DEFAULT_STOP_SIGNAL, all_mounts, environment, network_of
from masu.engine.records import HOST
from masu.errors import MasuError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.engine import Engine
    from masu.engine.records import Record

    Json = dict[str, object]

_NEVER = "0001-01-01T00:00:00Z"


def _env(process: object) -> list[str]:
    env = process.get("env") if isinstance(process, dict) else None
    return [str(word) for word in env] if isinstance(env, list) else []


def container(engine: Engine, record: Record) -> Json:
    """docker inspect's object for one container."""
    state = states.look(engine, record)
    request, defaults = record.request, record.image.defaults
    directory = engine.directory(record.id)
    try:
        process = births.read_config(engine, record)[0].get("process")
    except MasuError:
        process = None
    args = process.get("args") if isinstance(process, dict) else None
    args = [str(word) for word in args] if isinstance(args, list) else []
    hostname = request.hostname or record.id[:12]
    entrypoint = defaults.entrypoint if request.entrypoint is None else request.entrypoint
    command = request.command or ([] if request.entrypoint is not None else defaults.cmd)
    return {
        "Id": record.id,
        "Created": record.row.created_at,
        "Path": args[0] if args else "",
        "Args": args[1:],
        "State": {
            "Status": state.status,
            "Running": state.is_up,
            "Paused": state.status == states.PAUSED,
            "Restarting": False,
            "OOMKilled": state.oom,
            "Dead": False,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error or state.reason,
            "StartedAt": state.started_at or _NEVER,
            "FinishedAt": state.finished_at or _NEVER,
        },
        "Image": record.image.id or record.image.name,
        "ResolvConfPath": f"{directory}/resolv.conf" if record.image.kind != HOST else "",
        "HostnamePath": f"{directory}/hostname" if record.image.kind != HOST else "",
        "HostsPath": f"{directory}/hosts" if record.image.kind != HOST else "",
        "LogPath": f"{directory}/log",
        "Name": f"/{record.name}",
        "RestartCount": 0,
        "Driver": record.row.snapshotter or record.image.kind,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(record),
        "Mounts": _mounts(engine, record),
        "Config": {
            "Hostname": hostname,
            "Domainname": request.domainname,
            "User": request.user or defaults.user,
            "AttachStdin": request.stdin_once,
            "AttachStdout": True,
            "AttachStderr": True,
            "ExposedPorts": {port: {} for port in defaults.exposed_ports} or None,
            "Tty": request.tty,
            "OpenStdin": request.interactive,
            "StdinOnce": request.stdin_once,
            "Env": environment(defaults, request, hostname, "/") if not record.is_foreign else _env(process),
            "Cmd": (args if record.is_foreign else command) or None,
            "Image": record.image.name,
            "Volumes": {volume: {} for volume in defaults.volumes} or None,
            "WorkingDir": request.workdir or defaults.workdir,
            "Entrypoint": entrypoint or None,
            "Labels": {**defaults.labels, **request.labels},
            "StopSignal": request.stop_signal or defaults.stop_signal or DEFAULT_STOP_SIGNAL,
            **({} if request.stop_timeout_s is None else {"StopTimeout": request.stop_timeout_s}),
        },
        "NetworkSettings": {"Networks": {network_of(request): {}}, "Ports": {}},
    }


def _host_config(record: Record) -> Json:
    request = record.request
    return {
        "Binds": [
            f"{m.source}:{m.target}" + (":ro" if m.readonly else "")
            for m in request.mounts
            if m.kind == "bind" or (m.kind == "volume" and m.source)
        ]
        or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "cri-file", "Config": {}},
        "NetworkMode": network_of(request),
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": request.auto_remove,
        "CapAdd": request.cap_add or None,
        "CapDrop": request.cap_drop or None,
        "CgroupnsMode": request.cgroupns,
        "IpcMode": request.ipc or "private",
        "PidMode": request.pid,
        "UTSMode": request.uts,
        "GroupAdd": request.group_add or None,
        "OomScoreAdj": request.oom_score_adj or 0,
        "OomKillDisable": request.oom_kill_disable,
        "Privileged": request.privileged,
        "ReadonlyRootfs": request.read_only,
        "SecurityOpt": request.security_opt or None,
        "ShmSize": request.shm_bytes or 64 << 20,
        "Sysctls": request.sysctls or None,
        "Runtime": record.row.runtime,
        "CpuShares": request.cpu_shares,
        "Memory": request.memory_bytes,
        "NanoCpus": request.cpus_nano,
        "CgroupParent": request.cgroup_parent,
        "BlkioWeight": request.blkio_weight,
        "CpuPeriod": request.cpu_period,
        "CpuQuota": request.cpu_quota,
        "CpusetCpus": request.cpuset_cpus,
        "CpusetMems": request.cpuset_mems,
        "Devices": [
            {"PathOnHost": d.source, "PathInContainer": d.target, "CgroupPermissions": d.permissions}
            for d in request.devices
        ],
        "MemoryReservation": request.memory_reservation_bytes,
        "MemorySwap": request.memory_swap_bytes or request.memory_bytes * 2,
        "PidsLimit": request.pids_limit or None,
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in request.ulimits] or None,
        "Tmpfs": {m.target: ",".join(m.options) for m in request.mounts if m.kind == "tmpfs"} or None,
        "Init": request.init,
    }


def _mounts(engine: Engine, record: Record) -> list[Json]:
    out: list[Json] = []
    names = {str(volume["target"]): str(volume["name"]) for volume in record.volumes}
    for mount in all_mounts(record.image.defaults, record.request):
        shown: Json = {"Type": mount.kind}
        if mount.kind == "volume":
            name = names.get(mount.target, mount.source)
            try:
                source = engine.volumes.get(name).path
            except NotFound:
                source = ""
            shown |= {"Name": name, "Source": source, "Driver": "local"}
        else:
            shown["Source"] = mount.source
        shown |= {
            "Destination": mount.target,
            "Mode": "ro" if mount.readonly else "",
            "RW": not mount.readonly,
            "Propagation": (mount.propagation or "rprivate") if mount.kind == "bind" else "",
        }
        out.append(shown)
    return out
