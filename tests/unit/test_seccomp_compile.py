"""Filters as programs: compiled by the real libseccomp, run here by a small interpreter of classic BPF.

So all architectures and actions can be asked without loading anything; tests/kernel/test_seccomp_load.py does that.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from masu.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from masu.linux import seccomp, seccomp_build
from masu.linux.seccomp import Filter
from masu.linux.seccomp_build import ACTIONS, AUDIT_ARCH
from masu.spec.runtime import LinuxSeccomp
from masu.spec.seccomp import seccomp as parse

ALLOW = ACTIONS["SCMP_ACT_ALLOW"]
EPERM = ACTIONS["SCMP_ACT_ERRNO"] | errno.EPERM
ENOSYS = ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS
X86_64 = AUDIT_ARCH["SCMP_ARCH_X86_64"]
I386 = AUDIT_ARCH["SCMP_ARCH_X86"]
ARM64 = AUDIT_ARCH["SCMP_ARCH_AARCH64"]
NATIVE = {"x86_64": X86_64, "aarch64": ARM64}.get(os.uname().machine, 0)

pytestmark = pytest.mark.skipif(NATIVE != X86_64, reason="the numbers here are those of x86-64")


def profile(**members: object) -> LinuxSeccomp:
    found = parse(members, "linux.seccomp", [])
    assert found is not None
    return found


def ask(made: Filter, number: int, *args: int, arch: int = X86_64) -> int:
    """SECCOMP_RET_* for a call, as the kernel would run the program on struct seccomp_data."""
    values = [arg & (1 << 64) - 1 for arg in args] + [0] * (6 - len(args))
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *values)
    accumulator = index = 0
    memory = [0] * 16
    position = 0
    code = made.program
    for _ in range(len(code)):
        operation, yes, no, k = struct.unpack_from("=HBBI", code, 8 * position)
        position += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif operation == 0x06:
            return int(k)
        elif operation == 0x05:
            position += k
        elif operation in (0x15, 0x25, 0x35, 0x45):
            met = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}
            position += yes if met[operation] else no
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x02:
            memory[k] = accumulator
        elif operation == 0x60:
            accumulator = memory[k]
        elif operation == 0x01:
            index = k
        elif operation == 0x87:
            accumulator = index
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")
    raise AssertionError("no end")


def compile(found: LinuxSeccomp) -> Filter:
    return seccomp.compile(found, cache_dir=None)


# x86-64 numbers
READ, WRITE, OPEN, GETPID, SOCKET, CLONE, PERSONALITY, SETNS, CLONE3, FUTURE = (
    0,
    1,
    2,
    39,
    41,
    56,
    135,
    308,
    435,
    100000,
)


@pytest.mark.parametrize(
    ("action", "errno_ret", "expected"),
    [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x80000000),
        ("SCMP_ACT_TRAP", None, 0x30000),
        ("SCMP_ACT_ERRNO", None, 0x50001),
        ("SCMP_ACT_ERRNO", 99, 0x50063),
        ("SCMP_ACT_ERRNO", 0, 0x50000),
        ("SCMP_ACT_TRACE", None, 0x7FF00001),
        ("SCMP_ACT_TRACE", 7, 0x7FF00007),
        ("SCMP_ACT_LOG", None, 0x7FFC0000),
        ("SCMP_ACT_NOTIFY", None, 0x7FC00000),
    ],
)
def test_every_action(action: str, errno_ret: int | None, expected: int) -> None:
    rule: dict[str, object] = {"names": ["getpid"], "action": action}
    if errno_ret is not None:
        rule["errnoRet"] = errno_ret
    made = compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule], listenerPath="/x", flags=[]))
    assert ask(made, GETPID) == expected
    assert ask(made, READ) == ALLOW
    assert made.notify == (action == "SCMP_ACT_NOTIFY")
    assert made.flags == (seccomp.FLAG_NEW_LISTENER if made.notify else 0)


def test_default_action_and_its_errno() -> None:
    rules = [{"names": ["read", "setns"], "action": "SCMP_ACT_ALLOW"}]
    assert ask(compile(profile(defaultAction="SCMP_ACT_ERRNO", syscalls=rules)), WRITE) == EPERM
    made = compile(profile(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=13, syscalls=rules))
    assert ask(made, WRITE) == ACTIONS["SCMP_ACT_ERRNO"] | 13
    assert ask(made, READ) == ALLOW


def test_an_unknown_architecture_is_killed() -> None:
    made = compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=[{"names": ["getpid"], "action": "SCMP_ACT_TRAP"}]))
    assert ask(made, READ, arch=I386) == 0
    assert ask(made, READ, arch=ARM64) == 0


def test_more_architectures() -> None:
    made = compile(
        profile(
            defaultAction="SCMP_ACT_ERRNO",
            architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
            syscalls=[{"names": ["getpid", "setns"], "action": "SCMP_ACT_ALLOW"}],
        )
    )
    assert ask(made, GETPID) == ALLOW
    assert ask(made, 20, arch=I386) == ALLOW
    assert ask(made, 0x40000000 | GETPID) == ALLOW
    assert ask(made, 172, arch=ARM64) == ALLOW
    assert ask(made, 3, arch=I386) == EPERM


@pytest.mark.parametrize(
    ("op", "value", "two", "hits", "misses"),
    [
        ("SCMP_CMP_EQ", 5, 0, [5], [4, 6, 1 << 32 | 5]),
        ("SCMP_CMP_NE", 5, 0, [4, 1 << 32 | 5], [5]),
        ("SCMP_CMP_LT", 5, 0, [0, 4], [5, 1 << 40]),
        ("SCMP_CMP_LE", 5, 0, [4, 5], [6]),
        ("SCMP_CMP_GT", 5, 0, [6, 1 << 40], [5]),
        ("SCMP_CMP_GE", 5, 0, [5, 6], [4]),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x10, [0x10, 0x1F], [0x20, 0x30]),
        ("SCMP_CMP_EQ", (1 << 64) - 1, 0, [-1], [0xFFFFFFFF]),
    ],
)
def test_comparisons(op: str, value: int, two: int, hits: list[int], misses: list[int]) -> None:
    rule = {
        "names": ["socket"],
        "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}],
    }
    made = compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule]))
    assert [ask(made, SOCKET, 0, each) for each in hits] == [EPERM] * len(hits)
    assert [ask(made, SOCKET, 0, each) for each in misses] == [ALLOW] * len(misses)


def test_several_comparisons() -> None:
    def args(*pairs: tuple[int, int]) -> list[dict[str, object]]:
        return [{"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in pairs]

    def made(*pairs: tuple[int, int]) -> Filter:
        rule = {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": args(*pairs)}
        return compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule]))

    both = made((0, 2), (1, 3))
    assert ask(both, SOCKET, 2, 3) == EPERM
    assert ask(both, SOCKET, 2, 1) == ALLOW
    # The same argument twice means either, as in all runtimes.
    either = made((0, 2), (0, 10))
    assert [ask(either, SOCKET, each) for each in (2, 10, 1)] == [EPERM, EPERM, ALLOW]


def test_calls_newer_than_the_profile() -> None:
    found = profile(defaultAction="SCMP_ACT_ERRNO", syscalls=[{"names": ["read", "setns"], "action": "SCMP_ACT_ALLOW"}])
    made = compile(found)
    assert ask(made, SETNS) == ALLOW
    assert ask(made, SETNS - 1) == EPERM
    assert ask(made, SETNS + 1) == ENOSYS
    assert ask(made, FUTURE) == ENOSYS
    # x32 calls of a profile without x32 are nobody's business here.
    assert ask(made, 0x40000000 | FUTURE) != ENOSYS


def test_newest_call_of_each_architecture() -> None:
    made = compile(
        profile(
            defaultAction="SCMP_ACT_KILL",
            architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
            syscalls=[
                {"names": ["setns"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["clone3"], "action": "SCMP_ACT_TRAP"},
            ],
        )
    )
    trap = ACTIONS["SCMP_ACT_TRAP"]
    for arch, bit, setns in ((X86_64, 0, 308), (X86_64, 1 << 30, 308), (I386, 0, 346), (ARM64, 0, 268)):
        assert ask(made, bit | setns, arch=arch) == ALLOW
        assert ask(made, bit | CLONE3, arch=arch) == trap
        assert ask(made, bit | CLONE3 - 1, arch=arch) == 0
        assert ask(made, bit | CLONE3 + 1, arch=arch) == ENOSYS


def test_s390_multiplexes_unknown_calls_to_0() -> None:
    rules = [{"names": ["setns"], "action": "SCMP_ACT_ALLOW"}]
    made = compile(profile(defaultAction="SCMP_ACT_ERRNO", architectures=["SCMP_ARCH_PPC64LE"], syscalls=rules))
    assert ask(made, 0, arch=AUDIT_ARCH["SCMP_ARCH_PPC64LE"]) == EPERM
    with pytest.raises(InvalidArgument) as caught:  # the other byte order, libseccomp refuses to mix
        compile(profile(defaultAction="SCMP_ACT_ERRNO", architectures=["SCMP_ARCH_S390X"], syscalls=rules))
    assert caught.value.where == "linux.seccomp.architectures[0]"
    # So the stub alone is asked.
    library = seccomp_build.Library()
    found = profile(defaultAction="SCMP_ACT_ERRNO", syscalls=rules)
    stub = seccomp_build._newer_calls(library, found, [library.architecture("SCMP_ARCH_S390X")])
    allowed = Filter(stub + struct.pack("=HBBI", 6, 0, 0, ALLOW), 0)
    s390x = AUDIT_ARCH["SCMP_ARCH_S390X"]
    assert [ask(allowed, number, arch=s390x) for number in (0, 339, 340)] == [ENOSYS, ALLOW, ENOSYS]
    assert ask(allowed, 0) == ALLOW


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_permissive_defaults_let_the_future_through(action: str) -> None:
    made = compile(profile(defaultAction=action, syscalls=[{"names": ["getpid"], "action": "SCMP_ACT_ERRNO"}]))
    assert ask(made, FUTURE) & 0xFFFF0000 == ACTIONS[action]


def test_unknown_names_are_told_and_left_out() -> None:
    rules = [{"names": ["getpid", "no_such_call", "nor_this"], "action": "SCMP_ACT_ALLOW"}]
    made = compile(profile(defaultAction="SCMP_ACT_ERRNO", syscalls=rules))
    (warning,) = made.warnings
    assert warning.startswith("linux.seccomp: system calls unknown to libseccomp 2.")
    assert warning.endswith("are ignored: no_such_call, nor_this")
    assert ask(made, GETPID) == ALLOW


def test_flags() -> None:
    def flags(**members: object) -> int:
        return compile(profile(defaultAction="SCMP_ACT_ALLOW", **members)).flags

    prefix = "SECCOMP_FILTER_FLAG_"
    assert flags() == seccomp.FLAG_SPEC_ALLOW  # not given: runc's default
    assert flags(flags=[]) == 0
    assert flags(flags=[f"{prefix}LOG", f"{prefix}SPEC_ALLOW"]) == seccomp.FLAG_LOG | seccomp.FLAG_SPEC_ALLOW
    assert flags(flags=[f"{prefix}TSYNC"]) == 0
    notify = {"listenerPath": "/x", "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_NOTIFY"}]}
    killable = seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV
    assert flags(flags=[f"{prefix}WAIT_KILLABLE_RECV"], **notify) == killable
    made = compile(profile(defaultAction="SCMP_ACT_ALLOW", flags=[f"{prefix}WAIT_KILLABLE_RECV"]))
    assert made.flags == 0
    assert "no meaning without SCMP_ACT_NOTIFY" in made.warnings[0]


def test_rules_that_contradict_each_other() -> None:
    plain = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO"}
    args = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
    rules = [{**plain, "args": args}, {**plain, "action": "SCMP_ACT_TRAP", "args": args}]
    with pytest.raises(InvalidArgument, match="contradicts an earlier rule") as caught:
        compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=rules))
    assert caught.value.where == "linux.seccomp.syscalls[1]"
    assert caught.value.obj == "getpid"
    # Without comparisons the first one stays, and one without outweighs those with: libseccomp's ways, so runc's.
    made = compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=[plain, {**plain, "action": "SCMP_ACT_TRAP"}]))
    assert ask(made, GETPID) == EPERM
    made = compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=[rules[1], plain]))
    assert ask(made, GETPID, 1) == EPERM


def test_rules_that_say_the_default_are_skipped() -> None:
    rules = [{"names": ["getpid"], "action": "SCMP_ACT_ALLOW"}]
    assert ask(compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=rules)), GETPID) == ALLOW


def test_words_that_masu_spec_would_have_refused() -> None:
    found = profile(defaultAction="SCMP_ACT_ALLOW", syscalls=[{"names": ["getpid"], "action": "SCMP_ACT_LOG"}])
    for broken, where in (
        (found.replace(default_action="X"), "linux.seccomp.defaultAction"),
        (found.replace(flags=("X",)), "linux.seccomp.flags[0]"),
        (found.replace(architectures=("SCMP_ARCH_X",)), "linux.seccomp.architectures[0]"),
        (found.replace(syscalls=(found.syscalls[0].replace(action="X"),)), "linux.seccomp.syscalls[0].action"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            compile(broken)
        assert caught.value.where == where


def test_too_long_for_the_kernel() -> None:
    rules = [
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": index, "value": value << 32 | value, "op": "SCMP_CMP_EQ"} for index in range(6)],
        }
        for value in range(1, 400)
    ]
    with pytest.raises(ResourceExhausted, match="the kernel takes 4096"):
        compile(profile(defaultAction="SCMP_ACT_ALLOW", syscalls=rules))


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp_build, "LIBRARY", "libseccomp-that-is-not-installed.so.2")
    with pytest.raises(FailedPrecondition, match="package libseccomp2"):
        compile(profile(defaultAction="SCMP_ACT_ALLOW"))


# --- the cache ---


EXAMPLE: dict[str, object] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [{"names": ["getpid", "no_such_call"], "action": "SCMP_ACT_ALLOW"}],
}


def only_from_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Filter:
        raise AssertionError("compiled again")

    monkeypatch.setattr(seccomp, "_build", refuse)


def test_second_time_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "cache"
    first = seccomp.compile(profile(**EXAMPLE), cache_dir=str(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    only_from_cache(monkeypatch)
    second = seccomp.compile(profile(**EXAMPLE), cache_dir=str(folder))
    assert second == first
    assert second.warnings == first.warnings != ()
    assert (second.flags, second.notify) == (first.flags, first.notify)


def test_the_key_knows_everything_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO"}
    arg = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    profiles: list[dict[str, Any]] = [
        {"defaultAction": "SCMP_ACT_ALLOW"},
        {"defaultAction": "SCMP_ACT_ERRNO"},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 2},
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": []},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**rule, "errnoRet": 3}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**rule, "names": ["getpid", "read"]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule, {**rule, "names": ["read"]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**rule, "names": ["getpid', 'read"]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**rule, "args": [arg]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**rule, "args": [{**arg, "value": 2}]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**rule, "args": [{**arg, "valueTwo": 2}]}]},
    ]
    keys = {seccomp.cache_key(profile(**each)) for each in profiles}
    assert len(keys) == len(profiles)
    same = seccomp.cache_key(profile(**profiles[0]))
    assert same == seccomp.cache_key(profile(**profiles[0]))
    monkeypatch.setattr(seccomp, "library_identity", lambda: "libseccomp.so.2.9.9")
    assert seccomp.cache_key(profile(**profiles[0])) != same


def test_the_library_is_known_by_its_link() -> None:
    assert seccomp.library_identity().startswith("libseccomp.so.2.")


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "longer", "magic"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    good = seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "c"))
    (file,) = (tmp_path / "c").iterdir()
    data = file.read_bytes()
    file.write_bytes(
        {
            "cut": data[:-9],
            "flip": data[:60] + bytes([data[60] ^ 1]) + data[61:],
            "empty": b"",
            "longer": data + b"x",
            "magic": b"masuscf0" + data[8:],
        }[damage]
    )
    assert seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "c")) == good
    assert file.read_bytes() == data


def test_a_checksum_does_not_make_nonsense_a_program(tmp_path: Path) -> None:
    made = seccomp._pack(Filter(b"1234567", 0))
    assert seccomp._unpack(made) is None  # not a multiple of 8
    assert seccomp._unpack(seccomp._pack(Filter(b"", 0))) is None
    assert seccomp._unpack(seccomp._pack(Filter(bytes(8 * 4097), 0))) is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o755])
def test_a_cache_that_others_could_write_to_is_not_used(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    folder.chmod(mode)
    assert ask(seccomp.compile(profile(**EXAMPLE), cache_dir=str(folder)), GETPID) == ALLOW
    assert list(folder.iterdir()) == []


def test_no_symlinks_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "c"))
    (file,) = (tmp_path / "c").iterdir()
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "c")) == good
    assert not file.is_symlink()  # replaced
    (tmp_path / "link").symlink_to(tmp_path / "c")
    before = elsewhere.read_bytes()
    assert seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "link")) == good
    assert elsewhere.read_bytes() == before


def test_others_files_in_the_cache_are_not_believed(tmp_path: Path) -> None:
    seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "c"))
    (file,) = (tmp_path / "c").iterdir()
    evil = seccomp._pack(Filter(struct.pack("=HBBI", 6, 0, 0, ALLOW), 0))
    file.write_bytes(evil)
    file.chmod(0o666)
    made = seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "c"))
    assert ask(made, READ) == EPERM


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert ask(seccomp.compile(profile(**EXAMPLE), cache_dir=str(tmp_path / "file" / "c")), GETPID) == ALLOW


def test_the_cache_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "CACHE_FILES_MAX", 3)
    for number in range(7):
        seccomp.compile(profile(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=number), cache_dir=str(tmp_path / "c"))
        assert len(list((tmp_path / "c").iterdir())) <= 3
