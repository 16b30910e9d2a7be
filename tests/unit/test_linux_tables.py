"""Capabilities, namespaces, signals, rlimits: the tables against the machine's own headers and modules."""

from __future__ import annotations

import os
import re
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import InvalidArgument
from masu.linux import _sys, capabilities, namespaces, rlimits, signals


def header(name: str) -> str:
    path = Path("/usr/include/linux") / name
    if not path.exists():
        pytest.skip(f"no {path} on this machine")
    return path.read_text()


def test_capability_names_are_the_kernels() -> None:
    defined = {name: int(number) for name, number in re.findall(r"#define (CAP_\w+)\s+(\d+)\s", header("capability.h"))}
    for name, number in defined.items():
        assert capabilities.NUMBERS.get(name, number) == number
    assert capabilities.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


def test_last_cap_is_what_proc_says() -> None:
    assert capabilities.last_cap() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def test_own_sets_are_what_proc_says() -> None:
    lines = dict(re.findall(r"Cap(\w+):\s*(\w+)", Path("/proc/self/status").read_text()))
    sets = capabilities.current()
    assert [sets.inheritable, sets.permitted, sets.effective, sets.bounding, sets.ambient] == [
        int(lines[name], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")
    ]
    assert _sys.capget(os.getpid()) == (sets.effective, sets.permitted, sets.inheritable)


def test_bits_forgive_spelling_and_warn_of_the_unknown() -> None:
    warnings: list[str] = []
    mask = capabilities.bits(("CAP_CHOWN", "cap_kill", "SYS_ADMIN", "CAP_X", "\x1b[0m"), "c.bounding", warnings)
    assert mask == 1 | 1 << 5 | 1 << 21
    assert warnings[0] == 'c.bounding[3]: unknown capability "CAP_X"; ignored'
    assert "\x1b" not in warnings[1]


@given(st.integers(0, (1 << 64) - 1))
def test_names_and_bits_agree(mask: int) -> None:
    known = mask & capabilities.all_known()
    assert capabilities.bits(tuple(capabilities.names(known)), "w", []) == known
    assert len(capabilities.names(mask)) == mask.bit_count()


def test_namespace_flags_are_the_kernels() -> None:
    defined = re.findall(r"#define (CLONE_NEW\w+)\s+(0x\w+)", header("sched.h"))
    assert defined
    for name, number in defined:
        assert getattr(namespaces, name) == int(number, 16)
    assert set(namespaces.FLAGS) == set(namespaces.NS_FILE)
    assert len(set(namespaces.FLAGS.values())) == 8


def test_namespace_files_are_of_their_kind() -> None:
    for word, name in namespaces.NS_FILE.items():
        fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
        try:
            assert namespaces.kind_of(fd) == namespaces.FLAGS[word]
        finally:
            os.close(fd)


def test_nothing_differs_from_ourselves() -> None:
    assert namespaces.differing(os.getpid()) == 0


def test_unknown_namespace_type() -> None:
    with pytest.raises(InvalidArgument, match='did you mean "network"'):
        namespaces.flag("netwrk", "linux.namespaces[0].type")


def test_signal_numbers_are_pythons() -> None:
    for item in signal.Signals:
        if not item.name.startswith("SIGRT"):
            assert signals.NUMBERS[item.name] == item.value
    assert signals.RTMIN == signal.SIGRTMIN
    assert signals.RTMAX == signal.SIGRTMAX


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("term", 15), ("9", 9), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("64", 64)],
)
def test_signals_are_read(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-9", "+9", "9 ", "SIG", "SIGSIGTERM", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMIN+", "1e1",
             "٩", "RTMIN+٣", "TERM\n", "99999999999999999999"]
)  # fmt: skip
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        signals.number(text)


@given(st.integers(1, 64))
def test_signal_names_lead_back(number: int) -> None:
    assert signals.number(signals.name(number)) == number


@given(st.text(max_size=12))
def test_any_text_is_a_signal_or_refused(text: str) -> None:
    try:
        assert 1 <= signals.number(text) <= 64
    except InvalidArgument:
        pass


def test_rlimits_are_pythons() -> None:
    for name, number in rlimits.NUMBERS.items():
        # The resource module lacks RLIMIT_LOCKS.
        assert getattr(resource, name, number) == number
    soft, hard = rlimits.current("RLIMIT_NOFILE")
    assert (soft, hard) == tuple(value & rlimits.INFINITY for value in resource.getrlimit(resource.RLIMIT_NOFILE))
    with pytest.raises(InvalidArgument, match="RLIMIT_NOFILE"):
        rlimits.number("RLIMIT_NOFILES")
