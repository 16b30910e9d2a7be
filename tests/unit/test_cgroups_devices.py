"""Device rules: what a list amounts to, and the program for cgroup v2, run here by a small interpreter of eBPF."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masu.errors import InvalidArgument
from masu.linux import bpf_devices
from masu.linux.cgroups import devices
from masu.linux.cgroups.devices import ANY, Table
from masu.spec.runtime import parse_resources


def table(*rules: dict[str, object]) -> Table:
    return devices.table(parse_resources({"devices": list(rules)}).devices, where="linux.resources.devices")


def rule(allow: bool, access: str = "rwm", **more: object) -> dict[str, object]:
    return {"allow": allow, "access": access, **more}


def test_defaults_without_any_rule() -> None:
    found = table()
    assert not found.default_allow
    for minor in (3, 5, 7, 8, 9):  # null zero full random urandom
        assert found.allows("c", 1, minor, "rwm")
    assert found.allows("c", 5, 2, "rw")  # ptmx
    assert found.allows("c", 136, 77, "rw")  # a pty
    assert found.allows("b", 8, 0, "m")  # making a node gives nothing
    assert not found.allows("b", 8, 0, "r")
    assert not found.allows("c", 10, 229, "rw")  # fuse


def test_what_docker_sends() -> None:
    found = table(rule(False), rule(True, type="c", major=10, minor=229), rule(True, "rm", type="b", major=8, minor=1))
    assert found.allows("c", 10, 229, "rwm")
    assert found.allows("b", 8, 1, "r")
    assert not found.allows("b", 8, 1, "rw")
    assert found.allows("c", 1, 3, "rw")


def test_privileged() -> None:
    found = table(rule(True))
    assert found.default_allow
    assert found.exceptions == {}
    assert found.allows("b", 8, 0, "rwm")


def test_all_but_some() -> None:
    found = table(rule(True), rule(False, "w", type="b", major=8, minor=0))
    assert found.allows("b", 8, 0, "r")
    assert not found.allows("b", 8, 0, "rw")
    assert found.allows("b", 8, 1, "rw")


def test_one_rule_must_give_everything() -> None:
    # As in the kernel: two rules that each give a part do not add up, unless they name the same device.
    found = Table()
    found.apply("c", 200, 1, "r", allow=True)
    found.apply("c", 200, ANY, "w", allow=True)
    assert not found.allows("c", 200, 1, "rw")
    found.apply("c", 200, 1, "w", allow=True)
    assert found.allows("c", 200, 1, "rw")


def test_taking_back() -> None:
    found = Table()
    found.apply("c", 200, 1, "rw", allow=True)
    found.apply("c", 200, 1, "w", allow=False)
    assert found.exceptions == {("c", 200, 1): frozenset("r")}
    found.apply("c", 200, 1, "r", allow=False)
    assert found.exceptions == {}


def test_no_holes_in_wider_rules() -> None:
    with pytest.raises(InvalidArgument, match="punch a hole") as caught:
        table(rule(True, type="c", major=200), rule(False, type="c", major=200, minor=1))
    assert caught.value.where == "linux.resources.devices[1]"


@pytest.mark.parametrize(
    ("given_rule", "field", "said"),
    [
        ({"allow": True, "type": "p", "access": "r"}, "type", "allowed: a"),
        ({"allow": True, "type": "c", "access": ""}, "access", "device access at 0 field cannot be empty"),
        ({"allow": True, "type": "c", "access": "rx"}, "access", "combination of r"),
        ({"allow": True, "type": "c", "access": "r", "major": -2}, "major", "-1"),
        ({"allow": True, "type": "a", "access": "rwm", "major": 5}, "", "every device"),
        ({"allow": True, "access": "r"}, "access", "always gives rwm"),
    ],
)
def test_wrong_rules(given_rule: dict[str, object], field: str, said: str) -> None:
    class Rule:
        allow = True
        type: str | None = None
        major: int | None = None
        minor: int | None = None
        access: str | None = None

    each = Rule()
    for key, value in given_rule.items():
        setattr(each, key, value)
    with pytest.raises(InvalidArgument, match=said) as caught:
        devices.table([each], where="d")
    assert caught.value.where == (f"d[0].{field}" if field else "d[0]")


def test_changes_from_a_fresh_v1_cgroup() -> None:
    fresh = devices.parse_list("a *:* rwm\n")
    steps = table().changes_from(fresh)
    assert steps[0] == (False, "a")
    assert (True, "c *:* m") in steps
    assert (True, "c 1:3 rwm") in steps
    assert (True, "c 136:* rwm") in steps
    assert len(steps) == 1 + len(devices.DEFAULT_ALLOWED)


def test_changes_take_nothing_away_that_stays() -> None:
    current = devices.parse_list("c 1:3 rwm\nc 1:5 rw\nb 8:0 r\n")
    wanted = Table()
    wanted.apply("c", 1, 3, "rwm", allow=True)
    wanted.apply("c", 1, 5, "rwm", allow=True)
    assert wanted.changes_from(current) == [(False, "b 8:0 r"), (True, "c 1:5 m")]
    assert wanted.changes_from(wanted) == []


def test_to_and_from_allow_by_default() -> None:
    everything = Table(default_allow=True)
    some = Table()
    some.apply("c", 1, 3, "r", allow=True)
    assert everything.changes_from(some) == [(True, "a")]
    # devices.list hides the exceptions of an allow-by-default cgroup: start over.
    assert everything.changes_from(Table(default_allow=True)) == [(True, "a")]
    assert some.changes_from(everything) == [(False, "a"), (True, "c 1:3 r")]


def run(code: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """What the kernel's interpreter would make of a program: the instructions used here, from the documentation."""
    bits = sum(bpf_devices.ACCESS[letter] for letter in access)
    memory = struct.pack("=III", bits << 16 | bpf_devices.TYPE[kind], major, minor)
    registers = [0] * 11
    position = 0
    for _ in range(len(code)):
        operation, both, offset, immediate = struct.unpack_from("=BBhI", code, 8 * position)
        dst, src = both & 15, both >> 4
        position += 1
        if operation == 0x61:
            assert src == 1
            registers[dst] = struct.unpack_from("=I", memory, offset)[0]
        elif operation == 0xB4:
            registers[dst] = immediate
        elif operation == 0xBC:
            registers[dst] = registers[src]
        elif operation == 0x54:
            registers[dst] &= immediate
        elif operation == 0x74:
            registers[dst] >>= immediate
        elif operation == 0x56:
            position += offset if registers[dst] != immediate else 0
        elif operation == 0x16:
            position += offset if registers[dst] == immediate else 0
        elif operation == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")
    raise AssertionError("no end")


NUMBERS = st.sampled_from([ANY, 0, 1, 3, 136, 4095, (1 << 31) + 5])
LETTERS = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])


@settings(max_examples=300, deadline=None)
@given(
    default_allow=st.booleans(),
    rules=st.lists(st.tuples(st.sampled_from("bc"), NUMBERS, NUMBERS, LETTERS), max_size=8),
    asked=st.tuples(st.sampled_from("bc"), st.sampled_from([0, 1, 3, 136, 7, (1 << 31) + 5]), NUMBERS, LETTERS),
)
def test_program_says_what_the_table_says(
    default_allow: bool, rules: list[tuple[str, int, int, str]], asked: tuple[str, int, int, str]
) -> None:
    found = Table(default_allow=default_allow)
    for kind, major, minor, access in rules:
        found.apply(kind, major, minor, access, allow=not default_allow)
    kind, major, minor, access = asked
    minor = 3 if minor == ANY else minor
    assert bool(run(bpf_devices.assemble(found), kind, major, minor, access)) == found.allows(
        kind, major, minor, access
    )


def test_program_of_the_defaults_is_short() -> None:
    # 4096 is the limit for those who may load programs only by CAP_BPF on older kernels.
    assert len(bpf_devices.assemble(table())) // 8 < 100
