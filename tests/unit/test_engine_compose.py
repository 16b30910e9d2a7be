"""Image config + request -> OCI runtime config."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from masu.engine import names
from masu.engine.compose import DEFAULT_CAPABILITIES, ImageDefaults, all_mounts, compose
from masu.engine.limits import DeviceNode, Facts
from masu.engine.request import ContainerRequest, MountRequest, Ulimit
from masu.engine.seccomp_profile import convert
from masu.errors import FailedPrecondition, InvalidArgument, Unimplemented
from masu.linux.capabilities import NUMBERS
from masu.linux.passwd import User
from masu.spec import runtime

ID = "0123456789abcdef" * 4
IMAGE = ImageDefaults(
    entrypoint=["/entry"],
    cmd=["serve", "--all"],
    env=["PATH=/img", "LANG=C"],
    workdir="/srv",
    labels={"org.criu.config": "/evil", "run.oci.handler": "krun"},
)
ALL = tuple(NUMBERS)


def build(
    request: ContainerRequest | None = None,
    image: ImageDefaults = IMAGE,
    facts: Facts | None = None,
    user: User | None = None,
    **more: Any,
) -> tuple[dict[str, Any], list[str]]:
    request = request or ContainerRequest()
    facts = facts or Facts(capabilities=ALL, cpus=4)
    sources = {mount.target: f"/host{mount.target}" for mount in all_mounts(image, request)}
    done = compose(
        image, request, facts, id=ID, user=user or User(home="/root", additional_gids=(0,)), sources=sources, **more
    )
    config = typing.cast("dict[str, Any]", done.config)
    # whatever is composed must be a config that the runtime takes
    warnings: list[str] = []
    runtime.parse_config(config, warnings)
    assert warnings == []
    return config, done.warnings


def mount_of(config: dict[str, Any], target: str) -> dict[str, Any]:
    found = [mount for mount in config["mounts"] if mount["destination"] == target]
    assert len(found) == 1
    return typing.cast("dict[str, Any]", found[0])


def test_defaults_are_dockers() -> None:
    config, warnings = build()
    process = config["process"]
    assert warnings == []
    assert process["args"] == ["/entry", "serve", "--all"]
    assert process["env"] == ["PATH=/img", f"HOSTNAME={ID[:12]}", "LANG=C", "HOME=/root"]
    assert process["cwd"] == "/srv"
    assert process["capabilities"]["bounding"] == list(DEFAULT_CAPABILITIES)
    assert "inheritable" not in process["capabilities"]
    assert "noNewPrivileges" not in process
    assert config["hostname"] == ID[:12]
    assert {space["type"] for space in config["linux"]["namespaces"]} == {
        "mount",
        "pid",
        "ipc",
        "uts",
        "network",
        "cgroup",
    }
    assert "/proc/kcore" in config["linux"]["maskedPaths"]
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert config["linux"]["cgroupsPath"] == f"/masu-{ID}"
    assert config["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert [mount["destination"] for mount in config["mounts"]] == [
        "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm",
    ]  # fmt: skip
    assert config["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"


def test_what_an_image_says_never_becomes_an_annotation() -> None:
    config, _ = build()
    assert "annotations" not in config
    config, _ = build(ContainerRequest(annotations={"a": "b"}, labels={"c": "d"}))
    assert config["annotations"] == {"a": "b"}


@pytest.mark.parametrize(
    ("request_", "want"),
    [
        (ContainerRequest(), ["/entry", "serve", "--all"]),
        (ContainerRequest(command=["x"]), ["/entry", "x"]),
        (ContainerRequest(entrypoint=["sh"]), ["sh"]),
        (ContainerRequest(entrypoint=["sh"], command=["-c", "ls"]), ["sh", "-c", "ls"]),
        (ContainerRequest(entrypoint=[""], command=["ls"]), ["ls"]),
    ],
)
def test_entrypoint_and_command(request_: ContainerRequest, want: list[str]) -> None:
    assert build(request_)[0]["process"]["args"] == want


def test_no_command_at_all() -> None:
    with pytest.raises(InvalidArgument, match="none given"):
        build(image=ImageDefaults())
    with pytest.raises(InvalidArgument, match="none given"):
        build(ContainerRequest(entrypoint=[""]))


def test_environment_replaces_in_place_and_unsets() -> None:
    config, _ = build(ContainerRequest(env=["LANG=ja", "X=", "PATH"], tty=True), user=User(home="/home/u"))
    assert config["process"]["env"] == [f"HOSTNAME={ID[:12]}", "TERM=xterm", "LANG=ja", "X=", "HOME=/home/u"]
    assert "HOME=/h" in build(ContainerRequest(env=["HOME=/h"]))[0]["process"]["env"]


def test_relative_workdir_of_an_image_counts_from_the_root() -> None:
    assert build(image=ImageDefaults(cmd=["a"], workdir="app/../x"))[0]["process"]["cwd"] == "/x"


def test_users_who_are_not_root_hold_no_capabilities() -> None:
    config, _ = build(user=User(uid=1000, gid=50, additional_gids=(50, 7)))
    assert config["process"]["user"] == {"uid": 1000, "gid": 50, "additionalGids": [50, 7]}
    assert config["process"]["capabilities"]["effective"] == []
    assert config["process"]["capabilities"]["bounding"] == list(DEFAULT_CAPABILITIES)


@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        (["NET_ADMIN"], [], ["CAP_NET_ADMIN", "CAP_CHOWN"], ["CAP_SYS_ADMIN"]),
        (["cap_sys_time"], ["chown"], ["CAP_SYS_TIME"], ["CAP_CHOWN"]),
        ([], ["ALL"], [], list(DEFAULT_CAPABILITIES)),
        (["CHOWN"], ["ALL"], ["CAP_CHOWN"], ["CAP_KILL"]),
        (["ALL"], ["SYS_ADMIN"], ["CAP_SYS_TIME"], ["CAP_SYS_ADMIN"]),
    ],
)
def test_capabilities(add: list[str], drop: list[str], has: list[str], lacks: list[str]) -> None:
    held = build(ContainerRequest(cap_add=add, cap_drop=drop))[0]["process"]["capabilities"]["bounding"]
    assert set(has) <= set(held)
    assert not set(lacks) & set(held)


def test_unknown_capability_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r'--cap-add: capability NET_ADMN: invalid.*did you mean "CAP_NET_ADMIN"'):
        build(ContainerRequest(cap_add=["NET_ADMN"]))


def test_what_the_caller_lacks_is_clamped_with_a_warning() -> None:
    poor = Facts(
        capabilities=tuple(name for name in ALL if name != "CAP_SYS_RESOURCE"),
        hard_limits={"nofile": 20000},
        oom_score_adj=0,
        cpus=2,
    )
    request = ContainerRequest(
        cap_add=["SYS_RESOURCE"],
        ulimits=[Ulimit(name="nofile", soft=100, hard=1 << 20), Ulimit(name="core", soft=-1, hard=-1)],
        oom_score_adj=-500,
    )
    config, warnings = build(request, facts=poor)
    assert config["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 20000},
        {"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1},
    ]
    assert config["process"]["oomScoreAdj"] == 0
    assert "CAP_SYS_RESOURCE" not in config["process"]["capabilities"]["bounding"]
    assert len(warnings) == 3
    assert all(
        words in " ".join(warnings) for words in ("--ulimit nofile", "--cap-add CAP_SYS_RESOURCE", "--oom-score-adj")
    )
    assert "CAP_SYS_RESOURCE" not in build(ContainerRequest(privileged=True), facts=poor)[1]


def test_privileged() -> None:
    node = DeviceNode("/dev/kvm", "c", 10, 232)
    config, _ = build(ContainerRequest(privileged=True), devices=[node])
    linux = config["linux"]
    assert config["process"]["capabilities"]["effective"] == list(ALL)
    assert "seccomp" not in linux
    assert "maskedPaths" not in linux
    assert "readonlyPaths" not in linux
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert linux["devices"][0]["path"] == "/dev/kvm"
    assert "rw" in mount_of(config, "/sys")["options"]
    assert "rw" in mount_of(config, "/sys/fs/cgroup")["options"]


def test_devices() -> None:
    node = DeviceNode("/dev/x", "b", 7, 1, mode=0o640, permissions="r")
    linux = build(devices=[node])[0]["linux"]
    assert linux["devices"] == [
        {"path": "/dev/x", "type": "b", "major": 7, "minor": 1, "fileMode": 0o640, "uid": 0, "gid": 0}
    ]
    assert linux["resources"]["devices"][1] == {"allow": True, "type": "b", "major": 7, "minor": 1, "access": "r"}


def test_security_options() -> None:
    config, _ = build(
        ContainerRequest(security_opt=["no-new-privileges", "seccomp=unconfined", "systempaths=unconfined"])
    )
    assert config["process"]["noNewPrivileges"] is True
    assert "seccomp" not in config["linux"]
    assert "maskedPaths" not in config["linux"]
    assert "noNewPrivileges" not in build(ContainerRequest(security_opt=["no-new-privileges:false"]))[0]["process"]
    profile = {"defaultAction": "SCMP_ACT_ALLOW"}
    assert build(ContainerRequest(security_opt=["seccomp=/p.json"]), seccomp=profile)[0]["linux"]["seccomp"] == profile
    with pytest.raises(InvalidArgument, match='did you mean "seccomp"'):
        build(ContainerRequest(security_opt=["secomp=x"]))
    with pytest.raises(Unimplemented):
        build(ContainerRequest(security_opt=["apparmor=docker-default"]))


def test_namespace_modes() -> None:
    config, _ = build(ContainerRequest(network="host", pid="host", ipc="host", cgroupns="host"))
    assert [space["type"] for space in config["linux"]["namespaces"]] == ["mount", "uts"]
    assert config["hostname"] == "localhost"
    assert mount_of(config, "/sys")["type"] == "bind"
    assert mount_of(config, "/dev/shm")["type"] == "bind"
    assert "sysctl" not in config["linux"]
    config, _ = build(ContainerRequest(network="container:web"), namespaces={"network": "/proc/7/ns/net"})
    assert {"type": "network", "path": "/proc/7/ns/net"} in config["linux"]["namespaces"]
    config, _ = build(ContainerRequest(network="ns:/run/netns/x", uts="host"))
    assert {"type": "network", "path": "/run/netns/x"} in config["linux"]["namespaces"]
    assert "hostname" not in config
    with pytest.raises(FailedPrecondition, match="not running"):
        build(ContainerRequest(pid="container:web"))
    with pytest.raises(Unimplemented, match="bridge"):
        build(ContainerRequest(network="bridge"))
    with pytest.raises(InvalidArgument, match='did you mean "host"'):
        build(ContainerRequest(network="hst"))
    with pytest.raises(InvalidArgument, match="want one of"):
        build(ContainerRequest(ipc="hst"))
    with pytest.raises(InvalidArgument, match="conflicts"):
        build(ContainerRequest(uts="host", hostname="x"))


def test_cgroup_namespace_is_private_on_v2_alone() -> None:
    facts = Facts(capabilities=ALL, cgroup_mode="hybrid")
    assert "cgroup" not in {space["type"] for space in build(facts=facts)[0]["linux"]["namespaces"]}


def test_mounts() -> None:
    image = ImageDefaults(cmd=["a"], volumes=["/data", "/cfg", "/proc/x", "/"])
    request = ContainerRequest(
        mounts=[
            MountRequest(source="/h", target="/data/sub/deep", readonly=True),
            MountRequest(source="/h", target="/cfg", recursive="disabled", propagation="rslave"),
            MountRequest(kind="tmpfs", target="/dev/shm", options=["size=1m", "exec"], readonly=True),
        ]
    )
    config, _ = build(request, image)
    assert [mount["destination"] for mount in config["mounts"]][-4:] == ["/cfg", "/data", "/dev/shm", "/data/sub/deep"]
    assert mount_of(config, "/data")["source"] == "/host/data"
    assert mount_of(config, "/data/sub/deep")["options"] == ["rbind", "rprivate", "rro"]
    assert mount_of(config, "/cfg")["options"] == ["bind", "rslave"]
    assert mount_of(config, "/dev/shm")["options"] == ["nosuid", "nodev", "size=1m", "exec", "ro"]
    volumes = [mount for mount in all_mounts(image, request) if mount.from_image]
    assert [volume.target for volume in volumes] == ["/data"]
    with pytest.raises(InvalidArgument, match="duplicate"):
        all_mounts(image, ContainerRequest(mounts=[MountRequest(target="/a"), MountRequest(target="/a")]))
    config, _ = build(ContainerRequest(read_only=True), files={"/etc/hosts": "/c/hosts"})
    assert config["root"]["readonly"] is True
    assert mount_of(config, "/etc/hosts")["options"] == ["rbind", "rprivate", "ro"]


def test_resources() -> None:
    request = ContainerRequest(
        memory_bytes=64 << 20,
        cpus_nano=1_500_000_000,
        cpuset_cpus="0-1",
        cpu_shares=512,
        pids_limit=100,
        blkio_weight=300,
        memory_reservation_bytes=32 << 20,
    )
    resources = build(request)[0]["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20}
    assert resources["cpu"] == {"period": 100000, "quota": 150000, "shares": 512, "cpus": "0-1"}
    assert resources["pids"] == {"limit": 100}
    assert resources["blockIO"] == {"weight": 300}
    swap = build(ContainerRequest(memory_bytes=64 << 20, memory_swap_bytes=-1))[0]["linux"]["resources"]["memory"][
        "swap"
    ]
    assert swap == -1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ContainerRequest(memory_bytes=4096), "least allowed is 6MB"),
        (ContainerRequest(memory_swap_bytes=1 << 30), "needs --memory"),
        (ContainerRequest(memory_bytes=1 << 30, memory_swap_bytes=1 << 20), "less than --memory"),
        (ContainerRequest(memory_bytes=1 << 30, memory_reservation_bytes=1 << 31), "more than --memory"),
        (ContainerRequest(cpus_nano=5_000_000_000), r"range is from 0.01 to 4.00"),
        (ContainerRequest(cpus_nano=1_000_000_000, cpu_quota=5), "conflicts"),
        (ContainerRequest(cpuset_cpus="0-9"), "processors 0-3"),
        (ContainerRequest(blkio_weight=5), "10 to 1000"),
        (ContainerRequest(oom_score_adj=2000), "-1000 to 1000"),
        (ContainerRequest(sysctls={"kernel.hostname": "x"}), "--hostname"),
        (ContainerRequest(sysctls={"vm.swappiness": "1"}), "whole machine"),
        (ContainerRequest(sysctls={"net.core.somaxconn": "1"}, network="host"), "network namespace"),
    ],
)
def test_bad_requests_are_explained(request_: ContainerRequest, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        build(request_)


def test_names_and_ids() -> None:
    assert len(names.new_id()) == 64
    name = names.random_name(lambda _: False)
    assert name.replace("_", "").isalpha()
    assert name.count("_") == 1
    seen: list[str] = []

    def taken(candidate: str) -> bool:
        seen.append(candidate)
        return len(seen) < 12

    assert names.random_name(taken)[-1].isdigit()
    assert names.random_name(lambda _: True).startswith("c")


def test_dockers_seccomp_profiles_are_converted_for_the_machine() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
        ],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["b"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8", "arches": ["amd64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.1"}},
            {"name": "old", "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        ],
    }
    out = typing.cast("dict[str, Any]", convert(profile, name="p", arch="amd64", capabilities=(), kernel=(6, 1)))
    assert out["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert [rule["names"] for rule in out["syscalls"]] == [["read"], ["b"], ["c"], ["old"]]
    assert out["syscalls"][1]["errnoRet"] == 38
    assert build(ContainerRequest(security_opt=["seccomp=p"]), seccomp=out)[0]["linux"]["seccomp"] is out
    wrong: tuple[object, ...] = (
        [],
        {"defaultAction": 1},
        {"defaultAction": "a", "syscalls": 1},
        {"defaultAction": "a", "syscalls": [1]},
    )
    for bad in wrong:
        with pytest.raises(InvalidArgument, match="seccomp"):
            convert(bad, name="p", arch="amd64", capabilities=(), kernel=(6, 1))
