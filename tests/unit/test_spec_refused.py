"""What a config.json cannot say: where it is, what was seen, what is allowed, what was probably meant.

Each case changes one place of the full example: a path, a value (or DELETED), the place named by the error when it
is another, and a piece of the message.
"""

from __future__ import annotations

from typing import Any

import pytest
from unit.test_spec_runtime import MINIMAL, full_config

from masu.errors import InvalidArgument
from masu.spec import runtime

DELETED = object()
U32 = 1 << 32
U64 = 1 << 64


def changed(path: str, value: object) -> dict[str, Any]:
    document = full_config()
    parent: Any = document
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        parent = parent[step]
    if value is DELETED:
        del parent[last]
    elif isinstance(parent, list) and last == len(parent):
        parent.append(value)
    else:
        parent[last] = value
    return document


def error_of(document: object) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        runtime.parse_config(document)
    message = str(caught.value)
    assert message.isprintable()
    assert caught.value.what
    return caught.value


def dotted(path: str) -> str:
    return "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in path.split("/")).lstrip(".")


# --- forms: (path, value, piece of the message)

FORMS: list[tuple[str, object, str]] = [
    ("ociVersion", DELETED, "must be given"),
    ("ociVersion", 1, "wanted a string, seen a number 1"),
    ("process", [], "wanted an object, seen a list"),
    ("process", "sh", 'wanted an object, seen a string "sh"'),
    ("process/terminal", "true", 'wanted true or false, seen a string "true"'),
    ("process/terminal", 1, "wanted true or false"),
    ("process/consoleSize/height", -1, "allowed are 0 to 4294967295"),
    ("process/consoleSize/width", U32, "allowed are 0 to 4294967295"),
    # CVE-2024-40635: an id that wraps to 0 is root.
    ("process/user/uid", U32, "id 4294967296"),
    ("process/user/uid", U32 - 1, "allowed are 0 to 4294967294"),
    ("process/user/uid", -1, "allowed are 0 to 4294967294"),
    ("process/user/uid", "0", "wanted a number"),
    ("process/user/uid", 0.0, "wanted a number"),
    ("process/user/uid", False, "wanted a number"),
    ("process/user/gid", U32 * U32, "allowed are 0 to 4294967294"),
    ("process/user/gid", 1 << 300, "a number of 301 bits"),
    ("process/user/umask", 0o1000, "allowed are 0 to 511"),
    ("process/user/additionalGids/1", U32 - 1, "allowed are 0 to 4294967294"),
    ("process/user/additionalGids", 5, "wanted a list"),
    ("process/args", "sh", "wanted a list of strings"),
    ("process/args", [], "args must not be empty"),
    ("process/args", DELETED, "args must not be empty"),
    ("process/args/1", None, "wanted a string, seen null"),
    ("process/args/1", "a\0b", "contains null byte"),
    ("process/args/1", ["x"], "wanted a string, seen a list"),
    ("process/env/0", "PATH", "missing '='"),
    ("process/env/0", "=x", "name cannot be empty"),
    ("process/env/0", "", "missing '='"),
    ("process/env/0", "A=\0", "contains null byte"),
    ("process/cwd", DELETED, "must be given"),
    ("process/cwd", "", "must be given"),
    ("process/cwd", "home", "Cwd must be an absolute path"),
    ("process/capabilities", "CAP_KILL", "wanted an object"),
    ("process/capabilities/bounding/0", 21, "wanted a string"),
    ("process/rlimits/0/type", "RLIMIT_NOFILES", 'did you mean "RLIMIT_NOFILE"?'),
    ("process/rlimits/0/type", "nofile", "wrong rlimit value; allowed are RLIMIT_CPU, "),
    ("process/rlimits/0/type", DELETED, "must be given"),
    ("process/rlimits/1/type", "RLIMIT_NOFILE", "given twice, first in process.rlimits[0]"),
    ("process/rlimits/0/hard", DELETED, "must be given"),
    ("process/rlimits/0/hard", U64, "allowed are 0 to 18446744073709551615"),
    ("process/rlimits/0/hard", -1, "allowed are 0 to 18446744073709551615"),
    ("process/rlimits/0/soft", 1025, "above the hard limit 1024"),
    ("process/apparmorProfile", "a\nb", "contains a line break"),
    ("process/oomScoreAdj", 1001, "allowed are -1000 to 1000"),
    ("process/oomScoreAdj", -1001, "allowed are -1000 to 1000"),
    ("process/scheduler/policy", "SCHED_NORMAL", "allowed are SCHED_OTHER, SCHED_FIFO"),
    ("process/scheduler/policy", "SCHED_FIFI", 'did you mean "SCHED_FIFO"?'),
    ("process/scheduler/policy", DELETED, "scheduler policy is required"),
    ("process/scheduler/flags/0", "RESET_ON_FORK", "allowed are SCHED_FLAG_RESET_ON_FORK"),
    ("process/scheduler/nice", 1 << 31, "allowed are -2147483648 to 2147483647"),
    ("process/scheduler/priority", 1, "can only be specified for SchedFIFO or SchedRR policy"),
    ("process/scheduler/runtime", 1023, "allowed are 1024 to the deadline 4096"),
    ("process/scheduler/runtime", 5000, "allowed are 1024 to the deadline 4096"),
    ("process/scheduler/period", 4095, "below the deadline 4096"),
    ("process/scheduler", {"policy": "SCHED_FIFO"}, ""),
    ("process/ioPriority/class", "IOPRIO_CLASS_NONE", "allowed are IOPRIO_CLASS_RT"),
    ("process/ioPriority/class", DELETED, "must be given"),
    ("process/ioPriority/priority", 8, "allowed are 0 to 7"),
    ("process/execCPUAffinity/initial", "1-", 'not of the form "0-3,7"'),
    ("process/execCPUAffinity/initial", "3-1", 'invalid range: "3-1"'),
    ("process/execCPUAffinity/initial", "65536", "values larger than 65535 are not supported"),
    ("process/execCPUAffinity/final", "٣", 'not of the form "0-3,7"'),
    ("process/execCPUAffinity/final", ",", "no members found in set"),
    ("process/execCPUAffinity/final", "0-65535," * 1000, "8000 characters, allowed are 4096"),
    ("process/execCPUAffinity/final", "9" * 30, 'not of the form "0-3,7"'),
    ("root/path", DELETED, "must be given"),
    ("root/path", "", "root must be specified"),
    ("root/path", "a\0", "contains null byte"),
    ("root/readonly", "yes", "wanted true or false"),
    ("root", DELETED, "root must be specified"),
    ("hostname", 5, "wanted a string"),
    ("hostname", "x" * 65, "65 bytes, the kernel takes 64"),
    ("domainname", "é" * 33, "66 bytes, the kernel takes 64"),
    ("mounts", {}, "wanted a list of objects"),
    ("mounts/0", None, "wanted an object, seen null"),
    ("mounts/0/destination", DELETED, "must be given"),
    ("mounts/0/destination", "", "must be given"),
    ("mounts/0/destination", "/proc\0", "contains null byte"),
    ("mounts/0/options", ["ro", 1], ""),
    ("mounts/1/uidMappings", DELETED, "id-mapped mounts must have both uid and gid mappings specified"),
    ("mounts/1/gidMappings", [], "id-mapped mounts must have both uid and gid mappings specified"),
    ("mounts/1/uidMappings/0/size", 0, "allowed are 1 to"),
    ("hooks", [], "wanted an object"),
    ("hooks/poststop", {}, "wanted a list of objects"),
    ("hooks/prestart/0/path", "bin/true", "must be an absolute path"),
    ("hooks/prestart/0/path", "", "must be an absolute path"),
    ("hooks/prestart/0/path", DELETED, "must be given"),
    ("hooks/createRuntime/0/timeout", 0, "allowed are 1 to 2147483647"),
    ("hooks/createRuntime/0/timeout", 1.5, "wanted a whole number"),
    ("hooks/startContainer/0/args", "x", "wanted a list of strings"),
    ("annotations", [], "wanted an object"),
    ("annotations/empty", 1, "wanted a string"),
    ("linux", [], "wanted an object"),
    ("linux/uidMappings/0/containerID", U32 - 1, "allowed are 0 to 4294967294"),
    ("linux/uidMappings/0/hostID", -1, "allowed are 0 to 4294967294"),
    ("linux/uidMappings/0/hostID", DELETED, "must be given"),
    ("linux/uidMappings/0/size", U32, "allowed are 1 to 4294967295"),
    ("linux/uidMappings/0/size", U32 - 100000, "hostID 100000 + size goes beyond 4294967294"),
    ("linux/gidMappings/0/size", DELETED, "must be given"),
    ("linux/sysctl/a.b", {}, ""),
    ("linux/sysctl", ["x"], "wanted an object"),
    ("linux/cgroupsPath", "/a\n/b", "contains a line break"),
    ("linux/namespaces", {}, "wanted a list of objects"),
    ("linux/namespaces/0/type", "pidd", 'did you mean "pid"?'),
    ("linux/namespaces/0/type", "net", "allowed are pid, network, mount, ipc, uts, user, cgroup, time"),
    ("linux/namespaces/0/type", DELETED, "must be given"),
    ("linux/namespaces/0/type", "", "must be given"),
    ("linux/namespaces/0/type", "network", ""),
    ("linux/namespaces/1/path", "run/netns", "must be an absolute path"),
    ("linux/namespaces/8", {"type": "pid"}, ""),
    ("linux/devices/0/path", "dev/fuse", "must be an absolute path"),
    ("linux/devices/0/type", "x", "allowed are c, b, u, p"),
    ("linux/devices/0/type", "a", "allowed are c, b, u, p"),
    ("linux/devices/0/major", DELETED, "must be given for a device of type c"),
    ("linux/devices/0/major", -1, "allowed are 0 to 4095"),
    ("linux/devices/0/minor", 1 << 20, "allowed are 0 to 1048575"),
    ("linux/devices/0/fileMode", U32, "allowed are 0 to 4294967295"),
    ("linux/devices/0/fileMode", "0666", "wanted a whole number"),
    ("linux/devices/0/uid", U32, "allowed are 0 to 4294967294"),
    ("linux/netDevices/eth0/name", "a/b", "1 to 15 characters"),
    ("linux/netDevices/eth0/name", "x" * 16, "1 to 15 characters"),
    ("linux/netDevices/eth0/name", 23, "wanted a string"),
    ("linux/netDevices/ens4/name", "container_eth0", ""),
    ("linux/rootfsPropagation", "rshare", 'did you mean "rshared"?'),
    ("linux/maskedPaths/0", "proc/kcore", "must be an absolute path"),
    ("linux/maskedPaths/0", "", "must be an absolute path"),
    ("linux/readonlyPaths", "/proc", "wanted a list of strings"),
    ("linux/mountLabel", "a\nb", "contains a line break"),
    ("linux/intelRdt/closID", "..", "must be a directory name"),
    ("linux/intelRdt/closID", "a/b", "must be a directory name"),
    ("linux/intelRdt/memBwSchema", "0=20", 'must start with "MB:"'),
    ("linux/intelRdt/l3CacheSchema", "L3:\nMB:", "contains a line break"),
    ("linux/intelRdt/schemata/0", "L3:0\nx", "contains a line break"),
    ("linux/intelRdt/enableMonitoring", 1, "wanted true or false"),
    ("linux/memoryPolicy/mode", "INTERLEAVE", "invalid memory policy mode"),
    ("linux/memoryPolicy/mode", DELETED, "invalid memory policy mode"),
    ("linux/memoryPolicy/flags/0", "badflag", "invalid memory policy flag"),
    ("linux/memoryPolicy/nodes", "0-9876543210", "invalid memory policy node"),
    ("linux/memoryPolicy/nodes", "", "requires at least one node but got 0"),
    ("linux/personality/domain", "LINUX64", 'did you mean "LINUX"?'),
    ("linux/personality/domain", DELETED, "must be given"),
    ("linux/timeOffsets/realtime", {"secs": 1}, "allowed are monotonic, boottime"),
    ("linux/timeOffsets/boottime/secs", 1 << 63, "allowed are -9223372036854775808 to 9223372036854775807"),
    ("linux/timeOffsets/boottime/nanosecs", 1_000_000_000, "allowed are 0 to 999999999"),
    # resources
    ("linux/resources/devices/0/access", "x", "a combination of r, w and m is wanted"),
    ("linux/resources/devices/0/access", "", "cannot be empty"),
    ("linux/resources/devices/0/access", DELETED, "must be given"),
    ("linux/resources/devices/1/type", "u", "allowed are a, b, c"),
    ("linux/resources/devices/1/major", -2, "allowed are -1 to 4095"),
    ("linux/resources/devices/1/allow", "no", "wanted true or false"),
    ("linux/resources/memory/limit", -2, "allowed are -1 to 9223372036854775807"),
    ("linux/resources/memory/limit", "512M", "wanted a whole number"),
    ("linux/resources/memory/limit", 5.5e8, "wanted a whole number"),
    ("linux/resources/memory/swap", 536870911, "memory+swap limit should be >= memory limit 536870912"),
    ("linux/resources/memory/swappiness", 101, "allowed are 0 to 100"),
    ("linux/resources/memory/disableOOMKiller", 0, "wanted true or false"),
    ("linux/resources/cpu/shares", -1, "allowed are 0 to"),
    ("linux/resources/cpu/quota", 1 << 63, "allowed are"),
    ("linux/resources/cpu/burst", 1000001, "larger than the quota 1000000"),
    ("linux/resources/cpu/idle", 2, "allowed are 0 to 1"),
    ("linux/resources/cpu/cpus", "0-3;7", 'wanted is the form "0-3,7"'),
    ("linux/resources/cpu/mems", "0\n1", "contains a line break"),
    ("linux/resources/pids/limit", "max", "wanted a whole number"),
    ("linux/resources/blockIO/weight", 1001, "allowed are 0 to 1000"),
    ("linux/resources/blockIO/weightDevice/0/major", DELETED, "must be given"),
    ("linux/resources/blockIO/weightDevice/0", {"major": 8, "minor": 0}, ""),
    ("linux/resources/blockIO/throttleReadBpsDevice/0/rate", DELETED, "must be given"),
    ("linux/resources/blockIO/throttleReadBpsDevice/0/rate", -1, "allowed are 0 to"),
    ("linux/resources/hugepageLimits/1/pageSize", "64kB", "wanted is the form 64KB, 2MB or 1GB"),
    ("linux/resources/hugepageLimits/1/pageSize", "0MB", "wanted is the form 64KB, 2MB or 1GB"),
    ("linux/resources/hugepageLimits/1/pageSize", "MB", "wanted is the form 64KB, 2MB or 1GB"),
    ("linux/resources/hugepageLimits/1/limit", DELETED, "must be given"),
    ("linux/resources/network/classID", U32, "allowed are 0 to 4294967295"),
    ("linux/resources/network/priorities/0/name", DELETED, "must be given"),
    ("linux/resources/rdma/rxe3/hcaObjects", "x", "wanted a whole number"),
    ("linux/resources/unified/memory.high", 5, ""),
    # seccomp
    ("linux/seccomp/defaultAction", DELETED, "must be given"),
    ("linux/seccomp/defaultAction", "SCMP_ACT_DENY", "not a valid action for seccomp; allowed are SCMP_ACT_KILL"),
    ("linux/seccomp/defaultAction", "SCMP_ACT_EERNO", 'did you mean "SCMP_ACT_ERRNO"?'),
    ("linux/seccomp/defaultAction", "SCMP_ACT_NOTIFY", "SCMP_ACT_NOTIFY cannot be used as default action"),
    ("linux/seccomp/defaultErrnoRet", 4096, "allowed are 0 to 4095"),
    ("linux/seccomp/defaultErrnoRet", 65536, "allowed are 0 to 65535"),
    ("linux/seccomp/architectures/0", "amd64", "allowed are SCMP_ARCH_X86"),
    ("linux/seccomp/flags/0", "LOG", "allowed are SECCOMP_FILTER_FLAG_TSYNC"),
    ("linux/seccomp/listenerPath", DELETED, "needed by the action SCMP_ACT_NOTIFY of linux.seccomp.syscalls[2]"),
    ("linux/seccomp/syscalls/0/names", [], "at least one name must be given"),
    ("linux/seccomp/syscalls/0/names/1", 5, "wanted a string"),
    ("linux/seccomp/syscalls/0/action", DELETED, "must be given"),
    ("linux/seccomp/syscalls/0/errnoRet", 1, "the action SCMP_ACT_ALLOW does not return an errno"),
    ("linux/seccomp/syscalls/1/errnoRet", -1, "allowed are 0 to 65535"),
    ("linux/seccomp/syscalls/1/args/0/index", 6, "allowed are 0 to 5"),
    ("linux/seccomp/syscalls/1/args/0/value", U64, "allowed are 0 to"),
    ("linux/seccomp/syscalls/1/args/0/op", "SCMP_CMP_EG", 'did you mean "SCMP_CMP_'),
    ("linux/seccomp/syscalls/1/args/0/op", DELETED, "must be given"),
]

# Where the error is not at the changed place itself.
ELSEWHERE = {
    ("process/scheduler", "policy"): ("process.scheduler.priority", "SCHED_FIFO takes 1 to 99"),
    ("mounts/0/options", ""): ("mounts[0].options[1]", "wanted a string, seen a number 1"),
    ("mounts/1/uidMappings", ""): ("mounts[1].uidMappings", ""),
    ("linux/sysctl/a.b", ""): ('linux.sysctl["a.b"]', "wanted a string, seen an object"),
    ("linux/namespaces/0/type", "network"): ("linux.namespaces[1].type", "duplicated ns"),
    ("linux/namespaces/8", ""): ("linux.namespaces[8].type", "duplicated ns, first in linux.namespaces[0]"),
    ("linux/netDevices/ens4/name", ""): ("linux.netDevices.ens4", "taken by linux.netDevices.eth0 already"),
    ("linux/resources/blockIO/weightDevice/0", ""): (
        "linux.resources.blockIO.weightDevice[0].weight",
        "weight or leafWeight must be given",
    ),
    ("linux/resources/unified/memory.high", ""): ('linux.resources.unified["memory.high"]', "wanted a string"),
}


@pytest.mark.parametrize(("path", "value", "message"), FORMS, ids=[f"{p}={str(v)[:20]!a}" for p, v, _ in FORMS])
def test_refused(path: str, value: object, message: str) -> None:
    error = error_of(changed(path, value))
    where = dotted(path)
    for (other, word), (place, piece) in ELSEWHERE.items():
        if path == other and word in str(value) and not message:
            where, message = place, piece
    if path == "root/path" and value == "":
        where = "root.path"
    assert message
    assert message in str(error)
    assert error.where == where


@pytest.mark.parametrize("data", [None, [], "", 1, True, 1.5])
def test_a_config_is_an_object(data: object) -> None:
    with pytest.raises(InvalidArgument, match="wanted an object"):
        runtime.parse_config(data)


def test_a_value_is_shown_short_and_on_one_line() -> None:
    error = error_of({**MINIMAL, "linux": {"rootfsPropagation": "\x1b[31m" + "x\n" * 10000}})
    assert len(str(error)) < 400
    assert "\x1b" not in str(error)
    error = error_of({**MINIMAL, "annotations": {"\x1b\n": 5}})
    assert error.where == "annotations['\\x1b\\n']"


# --- between fields


def without(*types: str) -> dict[str, Any]:
    document = full_config()
    namespaces = document["linux"]["namespaces"]
    document["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] not in types]
    return document


def small(linux: dict[str, Any] | None = None, *types: str, **more: Any) -> dict[str, Any]:
    namespaces = [{"type": name} for name in types]
    return {**MINIMAL, "linux": {"namespaces": namespaces, **(linux or {})}, **more}


PROCESS: dict[str, Any] = {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh"]}
MAP = [{"containerID": 0, "hostID": 1, "size": 1}]


@pytest.mark.parametrize(
    ("document", "where", "message"),
    [
        (small(hostname="x"), "hostname", "unable to set hostname without a private UTS namespace"),
        (
            small(process={**PROCESS, "terminal": True, "consoleSize": {"height": 25, "width": 65536}}),
            "process.consoleSize",
            '"25 x 65536": invalid: a terminal has at most 65535 rows and columns',
        ),
        (small(domainname="x"), "domainname", "unable to set domainname without a private UTS namespace"),
        (
            small({"maskedPaths": ["/x"]}, "pid"),
            "linux.maskedPaths",
            "unable to restrict sys entries without a private MNT namespace",
        ),
        (small({"readonlyPaths": ["/x"]}), "linux.readonlyPaths", "without a private MNT namespace"),
        (
            small({"uidMappings": MAP}),
            "linux.uidMappings",
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        ),
        (small({"gidMappings": MAP}), "linux.gidMappings", 'add {"type": "user"} to linux.namespaces'),
        (
            small({}, "user"),
            "linux.uidMappings",
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
        ),
        (small({"uidMappings": MAP}, "user"), "linux.gidMappings", "but no gid mappings found"),
        (small({"gidMappings": MAP}, "user"), "linux.uidMappings", "but no uid mappings found"),
        (
            small({"timeOffsets": {"boottime": {"secs": 1}}}),
            "linux.timeOffsets",
            "time namespace offsets specified, but time namespace isn't enabled in the config",
        ),
        (
            small({"namespaces": [{"type": "time", "path": "/x"}], "timeOffsets": {"boottime": {"secs": 1}}}),
            "linux.timeOffsets",
            "time namespace enabled, but both namespace path and time offsets specified",
        ),
        (
            small({"netDevices": {"eth0": {}}}),
            "linux.netDevices",
            "unable to move network devices without a NET namespace",
        ),
        (small({"netDevices": {"": {}}}, "network"), 'linux.netDevices[""]', "1 to 15 characters"),
        (small({"netDevices": {"a b": {}}}, "network"), 'linux.netDevices["a b"]', "1 to 15 characters"),
        (small({"netDevices": {"..": {}}}, "network"), 'linux.netDevices[".."]', "1 to 15 characters"),
        (
            small(mounts=[{"destination": "/a", "uidMappings": MAP, "gidMappings": MAP}]),
            "mounts[0]",
            "id-mapped mounts are only supported for bind-mounts",
        ),
        (
            small(mounts=[{"destination": "/a", "options": ["idmap"]}]),
            "mounts[0]",
            "id-mapped mounts are only supported for bind-mounts",
        ),
        (
            small(mounts=[{"destination": "/a", "options": ["rbind", "ridmap"]}]),
            "mounts[0].uidMappings",
            "id-mapped mounts must have both uid and gid mappings specified",
        ),
        (small({"resources": {"unified": {"a/b": "x"}}}), 'linux.resources.unified["a/b"]', "no slashes"),
        (small({"resources": {"rdma": {"x": {}}}}), "linux.resources.rdma.x.hcaHandles", "must be given"),
        (small(annotations={"": "x"}), 'annotations[""]', "must not be empty"),
        (
            small({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}}),
            "linux.seccomp.listenerPath",
            "must be given when listenerMetadata is",
        ),
        (
            small(
                {
                    "seccomp": {
                        "defaultAction": "SCMP_ACT_ALLOW",
                        "listenerPath": "/x",
                        "syscalls": [{"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}],
                    }
                }
            ),
            "linux.seccomp.syscalls[0]",
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            small({"memoryPolicy": {"mode": "MPOL_DEFAULT", "nodes": "0-7"}}),
            "linux.memoryPolicy.nodes",
            "mode requires 0 nodes but got 8",
        ),
        (
            small(process={"cwd": "/", "args": ["x"], "scheduler": {"policy": "SCHED_OTHER", "nice": 20}}),
            "process.scheduler.nice",
            "allowed are -20 to 19 when scheduler.policy is SCHED_OTHER",
        ),
        (
            small(process={"cwd": "/", "args": ["x"], "scheduler": {"policy": "SCHED_RR", "priority": 100}}),
            "process.scheduler.priority",
            "SCHED_RR takes 1 to 99",
        ),
        (
            small(process={"cwd": "/", "args": ["x"], "scheduler": {"policy": "SCHED_IDLE", "period": 1}}),
            "process.scheduler.policy",
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
        ),
    ],
)
def test_refused_between_fields(document: dict[str, Any], where: str, message: str) -> None:
    error = error_of(document)
    assert message in str(error)
    assert error.where == where


@pytest.mark.parametrize(
    ("mappings", "message"),
    [
        ([(0, 1000, 2), (1, 5000, 1)], "linux.uidMappings[1].containerID"),
        ([(5, 1000, 2), (0, 1001, 1)], "linux.uidMappings[1].hostID"),
        ([(0, 1000, 1), (0, 2000, 1)], "linux.uidMappings[1].containerID"),
        ([(n, n, 1) for n in range(341)], "341 entries, the kernel takes 340"),
    ],
)
def test_id_mappings_the_kernel_would_refuse(mappings: list[tuple[int, int, int]], message: str) -> None:
    entries = [{"containerID": c, "hostID": h, "size": s} for c, h, s in mappings]
    assert message in str(error_of(small({"uidMappings": entries, "gidMappings": MAP}, "user")))


def test_id_mappings_the_kernel_takes() -> None:
    for entries in (
        [{"containerID": 0, "hostID": 0, "size": 4294967295}],
        [{"containerID": n, "hostID": 1000 - n, "size": 1} for n in range(340)],
        [{"containerID": 10, "hostID": 0, "size": 10}, {"containerID": 0, "hostID": 10, "size": 10}],
    ):
        runtime.parse_config(small({"uidMappings": entries, "gidMappings": MAP}, "user"))


def test_a_joined_user_namespace_may_have_mappings_beside_it() -> None:
    warnings: list[str] = []
    joined = {"namespaces": [{"type": "user", "path": "/proc/5/ns/user"}]}
    runtime.parse_config(small(joined), warnings)
    assert warnings == []
    runtime.parse_config(small({**joined, "uidMappings": MAP, "gidMappings": MAP}), warnings)
    assert warnings == []


def test_a_relative_destination_is_taken_with_a_warning() -> None:
    warnings: list[str] = []
    config = runtime.parse_config(small(mounts=[{"destination": "data"}]), warnings)
    assert config.mounts[0].destination == "data"
    assert warnings == ['mounts[0].destination: mount destination "data" is not absolute, taken below /']


def test_what_is_allowed_between_fields() -> None:
    for document in (
        small({"maskedPaths": [], "uidMappings": [], "timeOffsets": {}, "netDevices": {}}, hostname=""),
        small({"netDevices": {"eth0": {"name": "e%d"}, "eth1": {"name": "e%d"}}}, "network"),
        small({"memoryPolicy": {"mode": "MPOL_DEFAULT"}}),
        small({"memoryPolicy": {"mode": "MPOL_PREFERRED", "nodes": "1"}}),
        small({"memoryPolicy": {"mode": "MPOL_LOCAL", "nodes": ""}}),
        small({"intelRdt": {"closID": "/"}}),
        small({"resources": {"cpu": {"cpus": "0-31:1/4, all", "quota": -1, "burst": 5}, "memory": {"swap": 5}}}),
        small({"devices": [{"path": "/d", "type": "c", "major": 1, "minor": 3, "fileMode": 0o20666}]}),
        small(process={"cwd": "/", "args": ["x"], "execCPUAffinity": {"initial": " 1, 3-4,,", "final": ""}}),
        small(
            {"uidMappings": MAP, "gidMappings": MAP},
            "user",
            mounts=[{"destination": "/a", "options": ["bind", "idmap"]}],
        ),
    ):
        runtime.parse_config(document)
    device = runtime.parse_config(
        small({"devices": [{"path": "/d", "type": "c", "major": 1, "minor": 3, "fileMode": 0o20666}]})
    ).linux.devices[0]
    assert device.file_mode == 0o666


# --- sysctl

ALL = ("pid", "network", "mount", "ipc", "uts", "cgroup")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("kernel.shmmax", "kernel/shmmax"),
        ("kernel/shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ("kernel.domainname", "kernel/domainname"),
    ],
)
def test_sysctl_of_namespaces(key: str, path: str) -> None:
    runtime.parse_config(small({"sysctl": {key: "1"}}, *ALL))
    assert runtime.sysctl_path(key) == path


@pytest.mark.parametrize(
    ("key", "types", "message"),
    [
        ("net.ipv4.ip_forward", ("ipc", "uts"), "not allowed in host network namespace"),
        ("kernel.sem", ("network", "uts"), "is not allowed in the hosts ipc namespace"),
        ("fs.mqueue.msg_max", (), "is not allowed in the hosts ipc namespace"),
        ("kernel.domainname", ("network",), "is not in a separate kernel namespace"),
        ("kernel.hostname", ALL, 'conflicts with the OCI "hostname" field'),
        ("kernel.hostname", (), "is not in a separate kernel namespace"),
        ("user.max_user_namespaces", ALL, "setting ucounts without a user namespace not allowed"),
        ("kernel.core_pattern", ALL, "is not in a separate kernel namespace"),
        ("vm.swappiness", ALL, "is not in a separate kernel namespace"),
        ("net", ALL, "is not in a separate kernel namespace"),
        ("", ALL, "not a name of the form"),
        (".", ALL, "not a name of the form"),
        ("net..ipv4", ALL, "not a name of the form"),
        ("net.", ALL, "not a name of the form"),
        ("net/../kernel/core_pattern", ALL, "not a name of the form"),
        ("net.//.//kernel.core_pattern", ALL, "not a name of the form"),
        ("/net/ipv4/ip_forward", ALL, "not a name of the form"),
        ("net/./x", ALL, "not a name of the form"),
    ],
)
def test_sysctl_refused(key: str, types: tuple[str, ...], message: str) -> None:
    error = error_of(small({"sysctl": {key: "1"}}, *types))
    assert message in str(error)
    assert error.where.startswith("linux.sysctl")


@pytest.mark.parametrize("key", ["kernel.domainname", "kernel/domainname"])
def test_domainname_twice(key: str) -> None:
    error = error_of(small({"sysctl": {key: "a"}}, "uts", domainname="b"))
    assert 'conflicts with the OCI "domainname" field' in str(error)
    assert error.where == f'linux.sysctl["{key}"]'
    runtime.parse_config(small({"sysctl": {key: "a"}}, "uts", domainname="a"))
    runtime.parse_config(small({"sysctl": {key: "a"}}, "uts", domainname=""))


# --- rootless


def rootless(**more: Any) -> dict[str, Any]:
    document = runtime.default_config(rootless=True)
    document.update(more)
    return document


def test_rootless_takes_the_starter() -> None:
    runtime.check_rootless(runtime.parse_config(rootless()))


@pytest.mark.parametrize(
    ("document", "where", "message"),
    [
        (small({}, "pid"), "linux.namespaces", "rootless container requires user namespaces"),
        (
            small({"uidMappings": MAP, "gidMappings": MAP, "netDevices": {"eth0": {}}}, "user", "network"),
            "linux.netDevices",
            "network devices are not supported for rootless containers",
        ),
        (
            rootless(mounts=[{"destination": "/x", "options": ["bind", "idmap"]}]),
            "mounts[0]",
            "id-mapped mounts are not supported for rootless containers",
        ),
        (
            rootless(mounts=[{"destination": "/x", "type": "tmpfs", "options": ["ro", "uid=0", "gid=5"]}]),
            "mounts[0].options[2]",
            "cannot specify gid= mount option for rootless container",
        ),
    ],
)
def test_rootless_refused(document: dict[str, Any], where: str, message: str) -> None:
    config = runtime.parse_config(document)
    with pytest.raises(InvalidArgument) as caught:
        runtime.check_rootless(config)
    assert message in str(caught.value)
    assert caught.value.where == where


def test_rootless_options_that_are_no_ids() -> None:
    options = ["uid=0", "gid=0", "uid=root", "gid=", "uid=99999999999"]
    runtime.check_rootless(runtime.parse_config(rootless(mounts=[{"destination": "/x", "options": options}])))


# --- other doors


def test_process_alone() -> None:
    with pytest.raises(InvalidArgument) as caught:
        runtime.parse_process({"cwd": "/", "args": ["x"], "user": {"uid": -1}}, "process.json")
    assert caught.value.where == "process.json.user.uid"
    bad: object
    for bad in ({}, {"cwd": "/"}, {"args": ["x"]}, {"cwd": "x", "args": ["x"]}, None, []):
        with pytest.raises(InvalidArgument):
            runtime.parse_process(bad)


def test_resources_alone() -> None:
    with pytest.raises(InvalidArgument) as caught:
        runtime.parse_resources({"memory": {"limit": "1G"}}, "update.json")
    assert caught.value.where == "update.json.memory.limit"
    assert runtime.parse_resources({}) == runtime.Resources()
