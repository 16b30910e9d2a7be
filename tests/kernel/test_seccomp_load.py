"""Compiled filters loaded into a real process, which then provokes each action."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from masu.linux import seccomp
from masu.linux.seccomp_default import default_profile
from masu.spec.seccomp import seccomp as parse

pytestmark = pytest.mark.root

# Loads the filter from stdin as masu-launch does, by seccomp(2) alone, then runs what it is told.
LOADER = """
import ctypes, errno, json, os, signal, socket, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
program = sys.stdin.buffer.read()
buffer = ctypes.create_string_buffer(program, len(program))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
SECCOMP = {'x86_64': 317, 'aarch64': 277}[os.uname().machine]
def load(flags):
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    argument = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    result = libc.syscall(SECCOMP, 1, flags, ctypes.byref(argument))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def call(*arguments):
    result = libc.syscall(*arguments)
    return 'ok' if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""


def compiled(profile: dict[str, object]) -> seccomp.Filter:
    found = parse(profile, "linux.seccomp", [])
    assert found is not None
    return seccomp.compile(found, cache_dir=None)


def run(made: seccomp.Filter, script: str) -> subprocess.CompletedProcess[bytes]:
    code = LOADER + f"listener = load({made.flags})\n" + script
    return subprocess.run(
        [sys.executable, "-Sc", code], input=made.program, capture_output=True, timeout=30, check=False
    )


def rule(action: str, name: str = "uname", **more: object) -> dict[str, object]:
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": [name], "action": action, **more}],
        "flags": [],
        **({"listenerPath": "/x"} if action == "SCMP_ACT_NOTIFY" else {}),
    }


UNAME = {"x86_64": 63, "aarch64": 160}[os.uname().machine]
SAYS = f"print(call({UNAME}, ctypes.create_string_buffer(400)))"


@pytest.mark.parametrize(
    ("action", "more", "said"),
    [
        ("SCMP_ACT_ERRNO", {}, "EPERM"),
        ("SCMP_ACT_ERRNO", {"errnoRet": 111}, "ECONNREFUSED"),
        ("SCMP_ACT_LOG", {}, "ok"),
        # Without a tracer the call fails with ENOSYS, whatever the number.
        ("SCMP_ACT_TRACE", {"errnoRet": 5}, "ENOSYS"),
    ],
)
def test_answers(action: str, more: dict[str, Any], said: str) -> None:
    done = run(compiled(rule(action, **more)), SAYS)
    assert (done.returncode, done.stdout.decode().strip()) == (0, said), done.stderr


def test_allow() -> None:
    rules = [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]
    profile: dict[str, object] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    assert run(compiled(profile), SAYS).stdout == b"ok\n"


def test_trap() -> None:
    script = f"""
def handler(number, frame):
    print('SIGSYS'); sys.stdout.flush(); os._exit(0)
signal.signal(signal.SIGSYS, handler)
{SAYS}
"""
    assert run(compiled(rule("SCMP_ACT_TRAP")), script).stdout.startswith(b"SIGSYS")
    assert run(compiled(rule("SCMP_ACT_TRAP")), SAYS).returncode == -signal.SIGSYS


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"])
def test_kill(action: str) -> None:
    assert run(compiled(rule(action)), SAYS).returncode == -signal.SIGSYS


def test_kill_thread_leaves_the_others() -> None:
    # The thread cannot be joined: it dies without a word. A pipe tells of its end.
    script = f"""
import _thread, time
def body():
    {SAYS}
_thread.start_new_thread(body, ())
while len(os.listdir('/proc/self/task')) > 1:
    os.sched_yield()
print('alone'); sys.stdout.flush(); os._exit(0)
"""
    thread = run(compiled(rule("SCMP_ACT_KILL_THREAD")), script)
    assert (thread.returncode, thread.stdout) == (0, b"alone\n"), thread.stderr
    assert run(compiled(rule("SCMP_ACT_KILL_PROCESS")), script).returncode == -signal.SIGSYS


@pytest.mark.parametrize("killable", [False, True])
def test_notify(killable: bool) -> None:
    profile = rule("SCMP_ACT_NOTIFY")
    if killable:
        profile["flags"] = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]  # Linux 5.19
    made = compiled(profile)
    assert made.notify
    # The child asks, the parent holds the listener and answers: errno 93 (struct seccomp_notif_resp).
    script = f"""
import fcntl, struct
if os.fork() == 0:
    {SAYS}; sys.stdout.flush(); os._exit(0)
request = bytearray(80)
fcntl.ioctl(listener, 0xc0502100, request)
identity, pid, flags, number = struct.unpack_from('QIIi', request)
fcntl.ioctl(listener, 0xc0182101, bytearray(struct.pack('QqiI', identity, 0, -93, 0)))
os.wait()
print(number == {UNAME})
"""
    done = run(made, script)
    assert done.stdout.split() == [b"EPROTONOSUPPORT", b"True"], done.stderr


def test_flags_are_taken_by_the_kernel() -> None:
    for flags in (["LOG"], ["SPEC_ALLOW"], ["LOG", "SPEC_ALLOW", "TSYNC"]):
        profile = rule("SCMP_ACT_ERRNO") | {"flags": [f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags]}
        assert run(compiled(profile), SAYS).stdout == b"EPERM\n"


def test_arguments() -> None:
    args = [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]
    script = """
for family in (socket.AF_UNIX, 38):
    try:
        socket.socket(family, socket.SOCK_SEQPACKET).close(); print('ok')
    except OSError as e:
        print(errno.errorcode[e.errno])
"""
    done = run(compiled(rule("SCMP_ACT_ERRNO", "socket", args=args, errnoRet=13)), script)
    assert done.stdout.split() == [b"ok", b"EACCES"], done.stderr


def test_calls_newer_than_the_profile() -> None:
    profile = json.loads(json.dumps(default_profile(set())))
    script = "print(call(9999), call(321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0))"  # bpf
    assert run(compiled(profile), script).stdout.split() == [b"ENOSYS", b"EPERM"]


def test_ordinary_programs_run_under_the_default_profile() -> None:
    made = compiled(default_profile({"CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_NET_RAW"}))
    script = """
import subprocess, tempfile
with tempfile.TemporaryDirectory() as folder:
    out = subprocess.run(['sh', '-c', 'id -u; ls / | wc -l; echo $$ > x; cat x | sort; uname'], cwd=folder,
                         capture_output=True, check=True).stdout
    thread = threading.Thread(target=lambda: print('thread', flush=True)); thread.start(); thread.join()
    print(len(out.split()))
try:
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
except PermissionError:
    print('no AF_ALG')
print(call(272 if os.uname().machine == 'x86_64' else 97, 0x10000000))  # unshare(CLONE_NEWUSER)
"""
    done = run(made, script)
    assert done.stdout.decode().splitlines() == ["thread", "4", "no AF_ALG", "EPERM"], done.stderr
