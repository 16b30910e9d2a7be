"""config.json: every field of runtime-spec 1.3 read into its attribute, defaults, frozen values, writing back."""

from __future__ import annotations

import copy
import pickle
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from harness.programs import peer

from masu.spec import fields, foreign, image, jsontext, runtime
from masu.spec.fields import Value
from masu.spec.platform import Platform
from masu.spec.process import Process, User
from masu.spec.runtime import Config, Linux, LinuxNamespace, State

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL: dict[str, Any] = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}}

# Every field that Linux has, none at its default.
_FULL: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "user": {"uid": 1000, "gid": 1001, "umask": 18, "additionalGids": [5, 4294967294]},
        "args": ["sh", "-c", ""],
        "env": ["PATH=/bin", "EMPTY="],
        "cwd": "/home",
        "capabilities": {
            "bounding": ["CAP_KILL", "CAP_BPF"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_CHOWN"],
            "permitted": ["CAP_KILL"],
            "ambient": ["CAP_CHOWN"],
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512},
            {"type": "RLIMIT_CORE", "hard": 18446744073709551615, "soft": 0},
        ],
        "noNewPrivileges": True,
        "apparmorProfile": "acme",
        "oomScoreAdj": -100,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "nice": 1,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "runtime": 2048,
            "deadline": 4096,
            "period": 8192,
        },
        "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0:c124,c675",
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
        "execCPUAffinity": {"initial": "7", "final": "0-3,7"},
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "box",
    "domainname": "example.org",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/data",
            "type": "none",
            "source": "/volumes/data",
            "options": ["rbind", "ro", "idmap"],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        },
    ],
    "hooks": {
        name: [{"path": f"/bin/{name}", "args": [name, "x"], "env": ["K=v"], "timeout": 5}, {"path": "/bin/true"}]
        for name in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    },
    "annotations": {"com.example.key": "value", "empty": ""},
    "linux": {
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "user.max_ipc_namespaces": "1"},
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                {"allow": True, "type": "b", "major": -1, "minor": -1, "access": "m"},
            ],
            "memory": {
                "limit": 536870912,
                "reservation": 268435456,
                "swap": -1,
                "kernel": -1,
                "kernelTCP": -1,
                "swappiness": 0,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1024,
                "quota": 1000000,
                "burst": 1000,
                "period": 500000,
                "realtimeRuntime": 950000,
                "realtimePeriod": 1000000,
                "cpus": "2-3",
                "mems": "0-7",
                "idle": 0,
            },
            "pids": {"limit": 0},
            "blockIO": {
                "weight": 10,
                "leafWeight": 20,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 1, "rate": 601}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 2, "rate": 602}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 3, "rate": 603}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}, {"pageSize": "64KB", "limit": 0}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe3": {"hcaObjects": 0}},
            "unified": {"memory.high": "1G", "io.max": "259:0 rbps=2097152"},
        },
        "cgroupsPath": "/my/group",
        "namespaces": [
            {"type": "pid"},
            {"type": "network", "path": "/var/run/netns/a"},
            {"type": "mount"},
            {"type": "ipc"},
            {"type": "uts"},
            {"type": "user"},
            {"type": "cgroup"},
            {"type": "time"},
        ],
        "devices": [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2},
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
            {"path": "/fifo", "type": "p"},
        ],
        "netDevices": {"eth0": {"name": "container_eth0"}, "ens4": {}},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "foo",
            "syscalls": [
                {"names": ["getcwd", "chmod"], "action": "SCMP_ACT_ALLOW"},
                {
                    "names": ["clone"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 38,
                    "args": [{"index": 5, "value": 2114060288, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
                },
                {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
            ],
        },
        "rootfsPropagation": "rslave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811",
        "intelRdt": {
            "closID": "guaranteed_group",
            "schemata": ["L3:0=7f0;1=1f"],
            "l3CacheSchema": "L3:0=7f0;1=1f",
            "memBwSchema": "MB:0=20;1=70",
            "enableMonitoring": True,
        },
        "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-3,7", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"]},
        "timeOffsets": {"monotonic": {"secs": 172800, "nanosecs": 999999999}, "boottime": {"secs": -604800}},
    },
}


def full_config() -> dict[str, Any]:
    return copy.deepcopy(_FULL)


def test_every_field_is_read() -> None:
    warnings: list[str] = []
    config = runtime.parse_config(full_config(), warnings)
    assert config.to_json() == _FULL
    assert warnings == [
        "linux.resources.memory: kernel memory settings are ignored and will be removed",
        'linux.personality.flags: ignoring unsupported personality flags: "ADDR_NO_RANDOMIZE"',
    ]
    process = config.process
    assert process is not None
    assert process.no_new_privileges is True
    assert process.user == User(uid=1000, gid=1001, umask=0o22, additional_gids=(5, 4294967294))
    assert process.args == ("sh", "-c", "")
    assert process.capabilities is not None
    assert process.capabilities.bounding == ("CAP_KILL", "CAP_BPF")
    assert (process.rlimits[1].type, process.rlimits[1].hard) == ("RLIMIT_CORE", (1 << 64) - 1)
    assert process.scheduler is not None
    assert process.scheduler.deadline == 4096
    assert process.io_priority is not None
    assert (process.io_priority.class_, process.io_priority.priority) == ("IOPRIO_CLASS_IDLE", 4)
    assert process.exec_cpu_affinity is not None
    assert process.exec_cpu_affinity.final == "0-3,7"
    assert config.mounts[0].options == ()
    assert config.mounts[1].uid_mappings[0].host_id == 1000
    assert config.hooks is not None
    assert config.hooks.create_runtime[0].timeout == 5
    assert config.hooks.poststop[1].timeout is None
    linux = config.linux
    assert linux.namespace("network") == LinuxNamespace("network", "/var/run/netns/a")
    assert linux.namespace("pid") == LinuxNamespace("pid")
    assert linux.devices[0].file_mode == 0o666
    assert linux.devices[2].major is None
    assert linux.net_devices["ens4"].name is None
    assert linux.seccomp is not None
    assert linux.seccomp.syscalls[1].args[0].value_two == 1
    resources = linux.resources
    assert resources is not None
    assert resources.memory is not None
    assert resources.memory.disable_oom_killer is False
    assert resources.pids is not None
    assert resources.pids.limit == 0
    assert resources.block_io is not None
    assert resources.block_io.throttle_write_iops_device[0].rate == 603
    assert resources.network is not None
    assert resources.network.class_id == 1048577
    assert resources.rdma["rxe3"].hca_handles is None
    assert linux.intel_rdt is not None
    assert linux.intel_rdt.l3_cache_schema == "L3:0=7f0;1=1f"
    assert linux.memory_policy is not None
    assert linux.memory_policy.node_set() == {0, 1, 2, 3, 7}
    assert linux.time_offsets["boottime"].secs == -604800


# The json tags of specs-go/config.go at 1.3.0.
TAGS = frozenset(
    """
    DNSSearchList access action additionalGids affinity allow allowUnqualifiedDNSQuery allowedAddress ambient anet
    annotations apparmorProfile architectures args blockIO bounding bps burst capabilities cappedCPU cappedMemory
    cgroupsPath checkBeforeUpdate chflags class classID closID commandLine configureAllowedAddress consoleSize
    containerID count cpu cpus createContainer createRuntime credentialSpec cwd deadline defaultAction defaultErrnoRet
    defrouter destination deviceTree devices disableOOMKiller domain domainname dtdevs effective enableMonitoring
    endpointList enforceStatfs env errnoRet execCPUAffinity fileMode final firstGFN firstMFN flags format freebsd gid
    gidMappings group hard hcaHandles hcaObjects height hooks host hostID hostname hugepageLimits hwConfig hyperv
    hypervisor id idType idle ignoreFlushesDuringBoot image index inheritable initial initrd intelRdt interface
    ioPriority iomems iops ip4 ip4Addr ip6 ip6Addr irqs jail kernel kernelTCP l3CacheSchema layerFolders leafWeight
    limit limitpriv linkProtection linkname linux listenerMetadata listenerPath lowerLink macAddress major mask
    maskedPaths maxShmMemory maximum memBwSchema memory memoryPolicy mems milestone minor mlock mode monotonic mount
    mountLabel mounts name names namespaces nanosecs ncpus netDevices network networkNamespace
    networkSharedContainerName nice noNewPrivileges nodes nrMFNs ociVersion oomScoreAdj op options pageSize parameters
    parent path period permitted personality physical pids policy poststart poststop prestart priorities priority
    process quota quotas rate rawSockets rdma readonly readonlyPaths realtimePeriod realtimeRuntime reservation
    reservedPorts resources rlimits root rootfsPropagation runtime sandboxSize scheduler schemata seccomp secs
    selinuxLabel servicing setHostname shares size socketAf soft solaris source startContainer storage suser swap
    swappiness syscalls sysctl sysvmsg sysvsem sysvshm terminal throttleReadBpsDevice throttleReadIOPSDevice
    throttleWriteBpsDevice throttleWriteIOPSDevice timeOffsets timeout type uid uidMappings umask unified useHierarchy
    user username utilityVMPath value valueTwo vcpus vm vnet vnetInterfaces weight weightDevice width windows zos
    """.split()  # noqa: SIM905
) - {"monotonic"}


def value_classes() -> list[type[Value]]:
    modules = ("masu.spec.runtime", "masu.spec.foreign")
    found, queue = [], [Value]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if cls.FIELDS and (cls.__module__.startswith("masu.spec.") or cls.__module__ in modules):
            found.append(cls)
    return found


def test_every_field_of_the_specification_is_known() -> None:
    assert foreign.SECTIONS
    assert image.Manifest in value_classes()
    assert TAGS - {name for cls in value_classes() for name in cls.FIELDS} == set()


def test_the_example_has_every_field_of_linux() -> None:
    seen: set[tuple[str, str]] = set()

    def walk(value: object) -> None:
        if isinstance(value, Value):
            for name, (attribute, _, default) in value.FIELDS.items():
                if getattr(value, attribute) != default:
                    seen.add((type(value).__name__, name))
                walk(getattr(value, attribute))
        elif isinstance(value, tuple):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)

    walk(runtime.parse_config(full_config()))
    classes = {name for name, _ in seen}
    missing = {
        (cls.__name__, name)
        for cls in value_classes()
        if cls.__name__ in classes
        for name in cls.FIELDS
        if (cls.__name__, name) not in seen
    }
    assert missing == {
        ("Config", "windows"),
        ("Config", "vm"),
        ("Config", "solaris"),
        ("Config", "freebsd"),
        ("Config", "zos"),
        ("Config", "platform"),
        ("Process", "commandLine"),
        ("User", "username"),
        ("Scheduler", "priority"),  # excludes deadline
    }


@pytest.mark.parametrize("cls", value_classes(), ids=lambda cls: cls.__name__)
def test_tables_are_whole(cls: type[Value]) -> None:
    assert set(cls.REQUIRED) <= set(cls.FIELDS)
    assert set(cls.RENAMED.values()) <= set(cls.FIELDS)
    assert cls.__slots__ == fields.slots(cls.FIELDS)
    # Attributes are the JSON names in snake_case.
    for name, (attribute, _, _) in cls.FIELDS.items():
        assert attribute.replace("_", "") == name.replace("_", "").replace(".", "").lower()
    if cls.__module__ not in ("masu.spec.foreign",):
        assert set(cls.__annotations__) - {"FIELDS", "RENAMED"} == set(cls.__slots__)


def test_defaults() -> None:
    config = runtime.parse_config(MINIMAL)
    assert config.process is None
    assert config.linux == Linux()
    assert config.mounts == ()
    assert config.annotations == {}
    assert config.hostname is None
    process = runtime.parse_process({"cwd": "/", "args": ["sh"]})
    assert process.user == User(uid=0, gid=0)
    assert process.terminal is False
    assert process.capabilities is None
    assert process.oom_score_adj is None
    memory = runtime.parse_resources({"memory": {}}).memory
    assert memory is not None
    assert memory.limit is None
    assert memory.disable_oom_killer is None


def test_maps_of_two_values_are_not_one() -> None:
    first, second = runtime.parse_config(MINIMAL), runtime.parse_config(MINIMAL)
    first.annotations["a"] = "b"
    first.linux.sysctl["a"] = "b"
    assert second.annotations == {}
    assert second.linux.sysctl == {}
    assert Config().annotations == {}
    assert Linux().sysctl == {}


@pytest.mark.parametrize("path", ["hostname", "process.selinuxLabel", "linux.cgroupsPath", "linux.namespaces.0.path"])
def test_empty_strings_count_as_absent(path: str) -> None:
    # Go omits them when writing; what it reads is the same either way.
    data: Any = full_config()
    data["linux"]["netDevices"] = {}
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    parent = data
    for step in parents:
        parent = parent[step]
    parent[last] = ""
    empty = runtime.parse_config(data)
    parent[last] = None
    assert runtime.parse_config(data) == empty
    del parent[last]
    assert runtime.parse_config(data) == empty


def test_values_are_frozen() -> None:
    config = runtime.parse_config(full_config())
    with pytest.raises(AttributeError, match="frozen"):
        config.hostname = "other"
    with pytest.raises(AttributeError):
        del config.hostname
    changed = config.replace(hostname="other")
    assert (config.hostname, changed.hostname) == ("box", "other")
    assert changed != config
    assert changed.replace(hostname="box") == config
    assert config != _FULL
    with pytest.raises(TypeError):
        config.replace(hostnam="x")
    with pytest.raises(TypeError):
        LinuxNamespace("pid", "/x", "y")
    with pytest.raises(TypeError):
        LinuxNamespace(typ="pid")
    with pytest.raises(TypeError):
        hash(config)
    assert repr(LinuxNamespace("pid")) == "LinuxNamespace(type='pid')"


def test_values_can_be_copied_and_pickled() -> None:
    config = runtime.parse_config(full_config())
    for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        assert other is not config
    platform = Platform("linux", "arm", "v7")
    assert pickle.loads(pickle.dumps(platform)) == platform


def test_unknown_fields_are_ignored() -> None:
    warnings: list[str] = []
    config = runtime.parse_config(
        {**MINIMAL, "x-vendor": {"deep": [1]}, "linux": {"somethingElse": 1, "resources": {"newController": None}}},
        warnings,
    )
    assert config == runtime.parse_config({**MINIMAL, "linux": {"resources": {}}})
    assert warnings == []


def test_near_misses_are_told() -> None:
    warnings: list[str] = []
    runtime.parse_config({**MINIMAL, "mouts": [], "linux": {"maskedPath": ["/proc/kcore"]}}, warnings)
    assert warnings == [
        'linux.maskedPath: unknown field ignored (did you mean "maskedPaths"?)',
        'mouts: unknown field ignored (did you mean "mounts"?)',
    ]


def test_case_is_folded_as_in_go() -> None:
    warnings: list[str] = []
    config = runtime.parse_config(
        {"OCIVersion": "1.0.2", "Root": {"Path": "r"}, "root": {"path": "rootfs"}, "Process": None}, warnings
    )
    assert config == runtime.parse_config({"ociVersion": "1.0.2", "root": {"path": "rootfs"}})
    assert warnings == [
        'OCIVersion: taken as "ociVersion"',
        'Root: differs from "root", which is given too, in case only: ignored',
    ]
    process = runtime.parse_process({"cwd": "/", "args": ["x"], "nonewprivileges": True})
    assert process.no_new_privileges is True


# --- seccomp's own absences


def test_seccomp_of_nothing_is_none() -> None:
    empty: dict[str, Any]
    for empty in ({}, {"syscalls": []}, {"defaultAction": ""}, {"architectures": ["SCMP_ARCH_X86"]}):
        assert runtime.parse_config({**MINIMAL, "linux": {"seccomp": empty}}).linux.seccomp is None


def test_seccomp_flags_absent_are_not_flags_empty() -> None:
    def flags(section: dict[str, object]) -> tuple[str, ...]:
        section = {"defaultAction": "SCMP_ACT_ALLOW", **section}
        seccomp = runtime.parse_config({**MINIMAL, "linux": {"seccomp": section}}).linux.seccomp
        assert seccomp is not None
        written = runtime.LinuxSeccomp(**{a: getattr(seccomp, a) for a in seccomp.__slots__}).to_json()
        again = runtime.parse_config({**MINIMAL, "linux": {"seccomp": written}}).linux.seccomp
        assert again == seccomp
        return seccomp.flags

    assert flags({}) == ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
    assert flags({"flags": None}) == ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
    assert flags({"flags": []}) == ()


# --- state


def test_state() -> None:
    state = State("1.3.0", "box", "running", 4422, "/containers/redis", {"myKey": "myValue"})
    assert state.to_json() == {
        "ociVersion": "1.3.0",
        "id": "box",
        "status": "running",
        "pid": 4422,
        "bundle": "/containers/redis",
        "annotations": {"myKey": "myValue"},
    }
    assert State(oci_version="1.3.0", id="a", status="stopped", bundle="/b").to_json() == {
        "ociVersion": "1.3.0",
        "id": "a",
        "status": "stopped",
        "bundle": "/b",
    }
    assert fields.read(State, state.to_json(), "", []) == state


# --- the starter config


@pytest.mark.parametrize("rootless", [False, True])
def test_default_config_is_what_runc_writes(rootless: bool, tmp_path: Path) -> None:
    subprocess.run([peer("runc"), "spec", *(["--rootless"] if rootless else [])], cwd=tmp_path, check=True)
    theirs = (tmp_path / "config.json").read_text()
    known: Any = jsontext.loads(theirs)
    cgroup2 = {"type": "cgroup"} in known["linux"]["namespaces"]
    ours: Any = runtime.default_config(rootless, cgroup2=cgroup2)
    ours["ociVersion"] = known["ociVersion"]
    if "ambient" in known["process"]["capabilities"]:
        # Gone since runc 1.2: nothing in the starter needs it.
        ours["process"]["capabilities"]["ambient"] = ours["process"]["capabilities"]["permitted"]
    assert jsontext.dumps(ours, indent="\t") == theirs


@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("cgroup2", [False, True])
def test_default_config_is_valid(rootless: bool, cgroup2: bool) -> None:
    warnings: list[str] = []
    config = runtime.parse_config(runtime.default_config(rootless, cgroup2=cgroup2), warnings)
    assert warnings == []
    assert config.oci_version == runtime.VERSION
    assert (config.linux.namespace("cgroup") is not None) == cgroup2
    if rootless:
        runtime.check_rootless(config)
    assert isinstance(config.process, Process)
