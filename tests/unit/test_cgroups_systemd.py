"""The systemd driver's tables: unit names, slices, properties. Needs no systemd."""

from __future__ import annotations

import pytest

from masu.errors import InvalidArgument
from masu.linux.cgroups import Cgroup, systemd
from masu.linux.cgroups.devices import table
from masu.linux.dbus_values import Variant, marshal
from masu.spec.runtime import parse_resources

V2 = Cgroup({"": "/sys/fs/cgroup/box"})
V1 = Cgroup({name: f"/sys/fs/cgroup/{name}/box" for name in ("memory", "cpu", "blkio", "pids", "cpuset", "devices")})


@pytest.mark.parametrize(
    ("path", "user", "name", "cgroup"),
    [
        (None, False, "runc-box.scope", "/system.slice/runc-box.scope"),
        (None, True, "runc-box.scope", "/user.slice/runc-box.scope"),
        (":docker:abc", False, "docker-abc.scope", "/system.slice/docker-abc.scope"),
        ("machine.slice:libpod:abc", False, "libpod-abc.scope", "/machine.slice/libpod-abc.scope"),
        ("a-b-c.slice:x:y", False, "x-y.scope", "/a.slice/a-b.slice/a-b-c.slice/x-y.scope"),
        ("-.slice:x:y", False, "x-y.scope", "/x-y.scope"),
        ("::box", False, "-box.scope", "/system.slice/-box.scope"),
        ("::pod.slice", False, "pod.slice", "/pod.slice"),
        ("pods.slice:ignored:pods-1.slice", False, "pods-1.slice", "/pods.slice/pods-1.slice"),
    ],
)
def test_units(path: str | None, user: bool, name: str, cgroup: str) -> None:
    unit = systemd.unit_of(path, "box", user=user)
    assert (unit.name, unit.path(), unit.user) == (name, cgroup, user)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/box", 'of format "slice:prefix:name"'),
        ("a:b", "of format"),
        ("a.slice:b:c:d", "of format"),
        ("system.slice:runc:", "is empty"),
        ("system:runc:x", "invalid slice name: system"),
        (".slice:runc:x", r"invalid slice name: \.slice"),
        ("a--b.slice:runc:x", "invalid slice name"),
        ("-a.slice:runc:x", "invalid slice name"),
        ("a.slice/b.slice:runc:x", "invalid slice name"),
        ("a b.slice:runc:x", "invalid slice name"),
        ("..slice/../x.slice:runc:x", "invalid slice name"),
        (":runc:a/b", "'/' cannot be in it"),
        (":runc:a+b", r"'\+' cannot be in it"),
        (":runc:a\nb", "cannot be in it"),
        (":runc:" + "x" * 250, "longer than 255"),
        ("::-.slice", "is no container's"),
        ("b.slice::a-b.slice", "not in b"),
    ],
)
def test_paths_that_name_no_unit(path: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        systemd.unit_of(path, "box", user=False)
    assert caught.value.where == "linux.cgroupsPath"


def limits(group: Cgroup, version: int = 252, **sections: object) -> dict[str, object]:
    settings = group.settings(parse_resources(sections))
    found = systemd.limits(settings, lambda: version)
    marshal("a(sv)", (systemd.property_values(found),))
    return {name: variant.value for name, variant in found}


def test_limits_of_v2() -> None:
    assert limits(
        V2,
        memory={"limit": 1000, "reservation": 500, "swap": 1500},
        cpu={"shares": 1024, "quota": 20000, "period": 50000, "cpus": "0,2-3", "mems": "9"},
        pids={"limit": 0},
        blockIO={"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 100}]},
    ) == {
        "MemoryMax": 1000, "MemoryLow": 500, "MemorySwapMax": 500, "CPUWeight": 100, "TasksMax": 1,
        "CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": 400_000, "AllowedCPUs": b"\x0d",
        "AllowedMemoryNodes": b"\0\x02", "IOWeight": 1 + 490 * 9999 // 990,
    }  # fmt: skip
    assert limits(V2, memory={"limit": -1}, pids={"limit": -1}, cpu={"quota": -1}) == {
        "MemoryMax": systemd.INFINITY, "MemorySwapMax": systemd.INFINITY, "TasksMax": systemd.INFINITY,
        "CPUQuotaPeriodUSec": 100_000, "CPUQuotaPerSecUSec": systemd.INFINITY,
    }  # fmt: skip


def test_limits_of_v1() -> None:
    assert limits(
        V1, memory={"limit": 1000, "swap": 1500}, cpu={"shares": 512, "quota": 1000}, blockIO={"weight": 500},
        pids={"limit": 5},
    ) == {
        "MemoryLimit": 1000, "CPUShares": 512, "CPUQuotaPerSecUSec": 10_000, "BlockIOWeight": 500, "TasksMax": 5,
    }  # fmt: skip


def test_unified_is_what_wins() -> None:
    found = limits(
        V2,
        memory={"limit": 1000},
        unified={"memory.max": "2000", "memory.high": "max", "memory.min": "7", "cpu.max": "max 20000",
                 "cpu.weight": "3", "io.weight": "default 50", "pids.max": "max", "memory.oom.group": "1"},
    )  # fmt: skip
    assert found == {
        "MemoryMax": 2000, "MemoryHigh": systemd.INFINITY, "MemoryMin": 7, "CPUQuotaPeriodUSec": 20000,
        "CPUQuotaPerSecUSec": systemd.INFINITY, "CPUWeight": 3, "IOWeight": 50, "TasksMax": systemd.INFINITY,
    }  # fmt: skip
    # What makes no sense is left to the kernel, whose answer names it.
    unclear = {"cpu.max": "lots", "cpuset.cpus": "3-1", "pids.max": "-5", "cpu.weight": "", "io.weight": "8:0 5"}
    assert limits(V2, unified=unclear) == {}


def test_what_an_older_systemd_does_not_know() -> None:
    cpu = {"quota": 1000, "period": 10000, "cpus": "0", "mems": "0"}
    assert set(limits(V2, 241, cpu=cpu)) == {"CPUQuotaPerSecUSec"}
    assert set(limits(V2, 243, cpu=cpu)) == {"CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"}
    assert limits(V2, 251, cpu={"idle": 1, "shares": 1024}) == {"CPUWeight": 100}
    assert limits(V2, 252, cpu={"idle": 1, "shares": 1024}) == {"CPUWeight": 0}
    assert systemd.oom_policy({"memory.oom.group": "1"}, lambda: 253) == [("OOMPolicy", Variant("s", "kill"))]
    assert systemd.oom_policy({"memory.oom.group": "1"}, lambda: 252) == []


@pytest.mark.parametrize(
    ("quota", "period", "wanted"), [(20001, 100000, 21000), (20000, 100000, 20000), (500, 50000, 500), (-1, None, -1)]
)
def test_quotas_are_rounded_up_to_percents(quota: int, period: int | None, wanted: int) -> None:
    rounded = systemd.rounded(parse_resources({"cpu": {"quota": quota, "period": period}}))
    assert rounded.cpu is not None
    assert rounded.cpu.quota == wanted


@pytest.mark.parametrize(
    ("text", "bits"), [("0", b"\x01"), ("1,3-5", b"\x3a"), (" 8 ,, 0", b"\x01\x01"), ("", b""), ("a", b""), ("1-", b"")]
)
def test_cpu_bits(text: str, bits: bytes) -> None:
    assert systemd.cpu_bits(text) == bits


def devices(*rules: dict[str, object]) -> tuple[str, list[object]]:
    clear, policy, allow = systemd.devices(table(parse_resources({"devices": list(rules)}).devices, where="devices"))
    assert clear == ("DeviceAllow", Variant("a(ss)", []))
    value = allow[1].value
    assert isinstance(value, list)
    return str(policy[1].value), value


def test_devices() -> None:
    nothing = {"allow": False, "access": "rwm"}
    policy, found = devices(
        nothing,
        {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "mr"},
        {"allow": True, "type": "c", "major": 188, "access": "rw"},
        {"allow": True, "type": "c", "minor": 7, "access": "w"},
    )
    assert policy == "strict"
    assert {("/dev/block/7:0", "rm"), ("char-188", "rw"), ("/dev/char/1:3", "rwm"), ("char-*", "m")} <= set(found)
    assert not any("7" in str(entry) and "w" in str(entry) for entry in found if "char" not in str(entry))
    assert devices({"allow": True, "access": "rwm"}) == ("auto", [])


def test_annotations() -> None:
    found = systemd.annotated(
        {
            "org.systemd.property.TimeoutStopUSec": "uint64 123456789",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.RuntimeMaxSec": "2",
            "org.systemd.property.WatchdogSec": "1.5",
            "org.systemd.property.Sec": "2",
            "org.other": "not GVariant",
        }
    )
    assert found == [
        ("TimeoutStopUSec", Variant("t", 123456789)),
        ("CollectMode", Variant("s", "inactive-or-failed")),
        ("RuntimeMaxUSec", Variant("t", 2_000_000)),
        ("WatchdogUSec", Variant("t", 1_500_000)),
        ("Sec", Variant("i", 2)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("", "1", "name incorrect: too short"),
        ("Ab", "1", "too short"),
        ("Memory2Max", "1", "non-alphabetic"),
        ("Memory.Max", "1", "non-alphabetic"),
        ("MemoryMäx", "1", "non-alphabetic"),
        ("PIDs", "[uint32 1]", "beyond the container's unit"),
        ("FailureAction", "'reboot-force'", "beyond the container's unit"),
        ("Conflicts", "['ssh.service']", "beyond the container's unit"),
        ("MemoryMax", "lots", "value parse error"),
        ("TimeoutStopSec", "'2'", "not a number"),
        ("TimeoutStopSec", "-2", "out of range"),
        ("TimeoutStopSec", "uint64 18446744073709551615", "out of range"),
    ],
)
def test_annotations_that_are_refused(name: str, text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        systemd.annotated({f"org.systemd.property.{name}": text})
    assert f"org.systemd.property.{name}" in caught.value.where


def test_birth() -> None:
    scope = dict(systemd.birth(systemd.unit_of("a.slice:x:y", "y", user=False), "y", 7, v1=False))
    assert scope["Slice"] == Variant("s", "a.slice")
    assert scope["Delegate"] == Variant("b", True)
    assert scope["PIDs"] == Variant("au", [7])
    assert scope["IOAccounting"] == Variant("b", True)
    slice = dict(systemd.birth(systemd.unit_of("::a-b.slice", "y", user=False), "y", 0, v1=True))
    assert slice["Wants"] == Variant("as", ["a.slice"])
    assert not {"PIDs", "Slice", "Delegate"} & set(slice)
    assert slice["BlockIOAccounting"] == Variant("b", True)
