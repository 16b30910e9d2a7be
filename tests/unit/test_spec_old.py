"""Versions of the specification, and the forms of older ones that the world still has."""

from __future__ import annotations

import pytest
from unit.test_spec_runtime import MINIMAL

from masu.errors import InvalidArgument
from masu.spec import runtime


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.2.1+dev", "1.3.0", "1.99.0"])
def test_versions(version: str) -> None:
    warnings: list[str] = []
    assert runtime.parse_config({**MINIMAL, "ociVersion": version}, warnings).oci_version == version
    assert warnings == []


@pytest.mark.parametrize("version", ["0.4.0", "0.5.0", "1.0.0-rc1", "1.0.0-rc6-dev"])
def test_old_versions_warn(version: str) -> None:
    warnings: list[str] = []
    runtime.parse_config({**MINIMAL, "ociVersion": version}, warnings)
    assert warnings == [f"ociVersion: {version} is older than 1.0.0, its old forms are accepted"]


@pytest.mark.parametrize(
    "version", ["", "1", "1.0", "v1.0.0", "2.0.0", "0.3.0", "1.0.0.0", "1.x.0", "-1.0.0", "1.0.0-\n", 1, [1]]
)
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        runtime.parse_config({**MINIMAL, "ociVersion": version})
    assert caught.value.where == "ociVersion"


def test_a_config_of_2016() -> None:
    """What a tool of runtime-spec 0.5 wrote, all old forms together."""
    warnings: list[str] = []
    config = runtime.parse_config(
        {
            "ociVersion": "0.5.0-dev",
            "platform": {"os": "linux", "arch": "amd64"},
            "process": {
                "terminal": True,
                "user": {},
                "args": ["sh"],
                "cwd": "/",
                "capabilities": ["CAP_KILL", "CAP_AUDIT_WRITE"],
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [],
            "hooks": {},
            "linux": {
                "resources": {
                    "devices": [{"allow": False, "access": "rwm"}],
                    "disableOOMKiller": True,
                    "oomScoreAdj": 100,
                    "memory": {"limit": 1000},
                    "blockIO": {
                        "blkioWeight": 10,
                        "blkioWeightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                        "blkioThrottleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}],
                    },
                    "hugepageLimits": [{"pagesize": "2MB", "limit": 1}],
                },
                "namespaces": [{"type": "pid"}, {"type": "mount", "path": ""}],
                "devices": None,
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86"],
                    "syscalls": [{"name": "getcwd", "action": "SCMP_ACT_ERRNO", "args": None}],
                },
            },
        },
        warnings,
    )
    names = ("CAP_KILL", "CAP_AUDIT_WRITE")
    assert config.process is not None
    assert config.process.capabilities == runtime.LinuxCapabilities(bounding=names, effective=names, permitted=names)
    assert config.process.oom_score_adj == 100
    resources = config.linux.resources
    assert resources is not None
    assert resources.memory == runtime.LinuxMemory(limit=1000, disable_oom_killer=True)
    assert resources.block_io is not None
    assert resources.block_io.weight == 10
    assert resources.block_io.weight_device[0].weight == 500
    assert resources.block_io.throttle_read_iops_device[0].rate == 5
    assert resources.hugepage_limits[0].page_size == "2MB"
    assert config.linux.seccomp is not None
    assert config.linux.seccomp.syscalls[0].names == ("getcwd",)
    runtime.require_linux(config)
    assert [warning.partition(":")[0] for warning in warnings] == [
        "ociVersion",
        "process.capabilities",
        "linux.resources.blockIO.blkioWeight",
        "linux.resources.blockIO.blkioWeightDevice",
        "linux.resources.blockIO.blkioThrottleReadIOPSDevice",
        "linux.resources.hugepageLimits[0].pagesize",
        "linux.resources.disableOOMKiller",
        "linux.seccomp.syscalls[0].name",
        "platform",
        "linux.resources.oomScoreAdj",
    ]


def test_a_new_form_wins_over_its_old_one() -> None:
    warnings: list[str] = []
    config = runtime.parse_config(
        {
            **MINIMAL,
            "process": {"cwd": "/", "args": ["x"], "oomScoreAdj": 1},
            "linux": {
                "resources": {
                    "oomScoreAdj": 2,
                    "disableOOMKiller": True,
                    "memory": {"disableOOMKiller": False},
                    "blockIO": {"weight": 10, "blkioWeight": 20},
                }
            },
        },
        warnings,
    )
    assert config.process is not None
    assert config.process.oom_score_adj == 1
    assert config.linux.resources is not None
    assert config.linux.resources.memory == runtime.LinuxMemory(disable_oom_killer=False)
    assert config.linux.resources.block_io == runtime.LinuxBlockIO(weight=10)
    assert len(warnings) == 3


@pytest.mark.parametrize("old", ["5", 1001, [], True])
def test_old_forms_are_checked_too(old: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        runtime.parse_config({**MINIMAL, "linux": {"resources": {"oomScoreAdj": old}}})
    assert caught.value.where == "linux.resources.oomScoreAdj"


def test_unknown_capabilities_are_left_out() -> None:
    warnings: list[str] = []
    process = runtime.parse_process(
        {
            "cwd": "/",
            "args": ["x"],
            "capabilities": {"bounding": ["CAP_KILL", "CAP_KIL", "NET_ADMIN", "all", "CAP_\x1b[2J"], "ambient": ["x"]},
        },
        "process",
        warnings,
    )
    assert process.capabilities is not None
    assert process.capabilities.bounding == ("CAP_KILL",)
    assert process.capabilities.ambient == ()
    start = "process.capabilities.bounding"
    assert warnings == [
        f'{start}[1]: ignoring unknown or unavailable capability "CAP_KIL" (did you mean "CAP_KILL"?)',
        f'{start}[2]: ignoring unknown or unavailable capability "NET_ADMIN" (did you mean "CAP_NET_ADMIN"?)',
        f'{start}[3]: ignoring unknown or unavailable capability "all"',
        f"{start}[4]: ignoring unknown or unavailable capability 'CAP_\\x1b[2J'",
        'process.capabilities.ambient[0]: ignoring unknown or unavailable capability "x"',
    ]
