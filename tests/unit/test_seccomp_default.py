"""The default profile: what it lets through with which capabilities, asked of the compiled program."""

from __future__ import annotations

import errno
import os

import pytest
from unit.test_seccomp_compile import ALLOW, ARM64, ENOSYS, EPERM, I386, X86_64, ask

from masu.linux import seccomp, seccomp_build
from masu.linux.seccomp_default import ARCHITECTURES, BY_CAPABILITY, default_profile
from masu.spec.seccomp import seccomp as parse

DOCKER_CAPABILITIES = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}  # fmt: skip

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers here are those of x86-64")


def made(capabilities: set[str]) -> seccomp.Filter:
    found = parse(default_profile(capabilities), "linux.seccomp", [])
    assert found is not None
    return seccomp.compile(found, cache_dir=None)


USUAL = made(DOCKER_CAPABILITIES)


def test_ordinary_calls() -> None:
    for number in (0, 1, 2, 9, 39, 56, 57, 59, 101, 157, 202, 231, 257, 281, 317, 332, 439, 444):
        assert ask(USUAL, number) == ALLOW
    assert ask(USUAL, 5, arch=I386) == ALLOW
    assert ask(USUAL, 0x40000000 | 1) == ALLOW


# mount umount2 reboot init_module bpf unshare setns keyctl add_key kexec_load swapon userfaultfd move_pages
# io_uring_setup
FORBIDDEN = (165, 166, 169, 175, 321, 272, 308, 250, 248, 246, 167, 323, 279, 425)


def test_the_rest_is_not_permitted() -> None:
    for number in FORBIDDEN:
        assert ask(USUAL, number) == EPERM, number


def test_the_future_is_not_implemented() -> None:
    assert ask(USUAL, 5000) == ENOSYS


def test_clone() -> None:
    for namespace in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(USUAL, 56, namespace | 17) == EPERM
    assert ask(USUAL, 56, 0x01200011) == ALLOW  # fork
    assert ask(USUAL, 56, 0x003D0F00) == ALLOW  # a thread
    assert ask(USUAL, 435) == ENOSYS  # clone3, whose flags are out of sight


def test_socket_families() -> None:
    for family in (1, 2, 10, 16, 17, 37, 39, 41):
        assert ask(USUAL, 41, family) == ALLOW
    for family in (38, 40):  # AF_ALG, AF_VSOCK
        assert ask(USUAL, 41, family) == EPERM
        assert ask(USUAL, 359, family, arch=I386) == EPERM


def test_personality() -> None:
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert ask(USUAL, 135, value) == ALLOW
    assert ask(USUAL, 135, 0x0040000) == EPERM  # ADDR_NO_RANDOMIZE


NUMBERS = {
    "CAP_DAC_READ_SEARCH": 304,
    "CAP_SYS_ADMIN": 165,
    "CAP_SYS_BOOT": 169,
    "CAP_SYS_CHROOT": 161,
    "CAP_SYS_MODULE": 175,
    "CAP_SYS_PACCT": 163,
    "CAP_SYS_PTRACE": 312,
    "CAP_SYS_RAWIO": 172,
    "CAP_SYS_TIME": 164,
    "CAP_SYS_TTY_CONFIG": 153,
    "CAP_SYS_NICE": 237,
    "CAP_SYSLOG": 103,
    "CAP_BPF": 321,
    "CAP_PERFMON": 298,
}


def test_every_capability_is_tried() -> None:
    assert [capability for capability, _ in BY_CAPABILITY] == list(NUMBERS)


@pytest.mark.parametrize("capability", NUMBERS)
def test_by_capability(capability: str) -> None:
    assert ask(made(set()), NUMBERS[capability]) == EPERM
    assert ask(made({capability}), NUMBERS[capability]) == ALLOW


def test_sys_admin_may_make_namespaces() -> None:
    with_admin = made({"CAP_SYS_ADMIN"})
    assert ask(with_admin, 56, 0x10000000) == ALLOW
    assert ask(with_admin, 435) == ALLOW
    assert ask(with_admin, 272) == ALLOW


def test_other_machines() -> None:
    for arch, names in ARCHITECTURES.items():
        found = default_profile(DOCKER_CAPABILITIES, arch=arch)
        assert found["architectures"] == [f"SCMP_ARCH_{name}" for name in names]
        assert parse(found, "linux.seccomp", []) is not None
    (clone,) = _rules(default_profile(set(), arch="s390x"), "clone")
    assert clone["args"] == [{"index": 1, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ"}]
    assert _rules(default_profile(set(), arch="arm64"), "arm_fadvise64_64")
    assert not _rules(default_profile(set(), arch="amd64"), "arm_fadvise64_64")
    assert default_profile(set(), arch="aarch64") == default_profile(set(), arch="arm64")
    assert default_profile(set(), arch="mips")["architectures"] == []


def _rules(profile: dict[str, object], name: str) -> list[dict[str, object]]:
    rules = profile["syscalls"]
    assert isinstance(rules, list)
    return [rule for rule in rules if name in rule["names"]]


def test_no_name_twice_without_reason() -> None:
    rules = default_profile(set())["syscalls"]
    assert isinstance(rules, list)
    plain = [name for rule in rules for name in rule["names"] if "args" not in rule]
    assert len(plain) == len(set(plain))


def test_the_cache_has_one_entry_for_one_set_of_capabilities() -> None:
    again = {"CAP_KILL", *sorted(DOCKER_CAPABILITIES, reverse=True)}
    assert default_profile(DOCKER_CAPABILITIES) == default_profile(again)


def test_numbers_are_what_they_are_taken_for() -> None:
    library = seccomp_build.Library()
    token = library.architecture("SCMP_ARCH_X86_64")
    for capability, names in BY_CAPABILITY:
        assert NUMBERS[capability] in [library.number_on(token, name) for name in names.split()]
    assert (X86_64, ARM64, errno.ENOSYS) == (0xC000003E, 0xC00000B7, 38)
