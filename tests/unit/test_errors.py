"""Hints: what somebody meant."""

from __future__ import annotations

import pytest

from masu.errors import closest


@pytest.mark.parametrize(
    ("word", "allowed", "meant"),
    [
        ("strat", ("start", "state", "stop"), "start"),
        ("noexce", ("noexec", "nodev"), "noexec"),
        ("net", ("pid", "network", "mount"), "network"),
        ("CAP_SYS_ADMIM", ("CAP_SYS_ADMIN", "CAP_CHOWN"), "CAP_SYS_ADMIN"),
        # What all begin with makes none of them near.
        ("SCMP_ARCH_AMD64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_PPC64"), ""),
        ("SCMP_ACT_DENY", ("SCMP_ACT_KILL", "SCMP_ACT_LOG"), ""),
        # Two begin so: neither is named.
        ("sta", ("start", "state"), ""),
        ("x", ("network",), ""),
        ("", ("a",), ""),
        ("a", (), ""),
        ("x", ("c", "b"), ""),
        ("same", ("same",), "same"),
    ],
)
def test_closest(word: str, allowed: tuple[str, ...], meant: str) -> None:
    assert closest(word, allowed) == (f'did you mean "{meant}"?' if meant else "")
