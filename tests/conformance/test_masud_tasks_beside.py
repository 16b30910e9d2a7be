"""Lines of ctr that run containers, at masud and at Debian's containerd: the same status, the same words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conformance.test_masud_beside_containerd import IMAGE, IMPORT, Session
from conformance.test_masud_beside_containerd import containerd as containerd
from conformance.test_masud_beside_containerd import folder as folder
from conformance.test_masud_beside_containerd import masud as masud
from harness.masud import Containerd, Masud

pytestmark = pytest.mark.root

RUN = "run --rm --fifo-dir {folder}/fifo"
EXEC = "tasks exec --fifo-dir {folder}/fifo --exec-id"

SESSIONS = {
    "run": f"""
        {IMPORT}
        {RUN} {IMAGE} one echo hello
        {RUN} {IMAGE} one false
        {RUN} {IMAGE} one nosuch
        {RUN} {IMAGE} one /etc
        {RUN} nothing one true
        {RUN} --cwd /tmp {IMAGE} one pwd
        {RUN} --cwd /nowhere {IMAGE} one pwd
        {RUN} --env A=B --env C=D {IMAGE} one env
        {RUN} --read-only {IMAGE} one touch /x
        {RUN} --net-host {IMAGE} one cat /proc/net/route
        {RUN} --privileged=false {IMAGE} one cat /proc/self/attr/current
        {RUN} --memory-limit 16777216 {IMAGE} one cat /sys/fs/cgroup/memory/memory.limit_in_bytes
        {RUN} --cpus 0.5 {IMAGE} one cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us
        {RUN} --mount type=bind,src={{folder}}/shared,dst=/mnt,options=rbind:ro {IMAGE} one ls /mnt
        {RUN} --mount type=bind,src={{folder}}/shared,dst=/mnt,options=rbind:ro {IMAGE} one touch /mnt/y
        {RUN} --memory-limit 1000 {IMAGE} one true
        {RUN} --runc-binary /nonexistent {IMAGE} one true
        {RUN} --runtime io.containerd.nosuch.v1 {IMAGE} one true
        {RUN} --cwd relative {IMAGE} one true
        {RUN} --rootfs {{rootfs}} one /bin/echo of a directory
        {RUN} --null-io {IMAGE} one echo hello
        run --rm --log-uri file://{{folder}}/{{who}}.log {IMAGE} one echo hello
        run --rm --log-uri http://{{folder}}/{{who}}.log {IMAGE} one echo hello
        {RUN} --pid-file {{folder}}/{{who}}.pid {IMAGE} one true
        {RUN} --seccomp {IMAGE} one grep Seccomp: /proc/self/status
        {RUN} --cap-drop CAP_CHOWN {IMAGE} one chown 1 /tmp
        {RUN} {IMAGE} one cat /proc/self/cgroup
        {RUN} {IMAGE} one cat /proc/self/limits
        {RUN} {IMAGE} one grep ^Cap /proc/self/status
        {RUN} {IMAGE} one mount
        containers ls
        snapshots ls
        tasks ls
    """,
    "tasks": f"""
        {IMPORT}
        run -d --fifo-dir {{folder}}/fifo {IMAGE} two sleep 1000
        run -d --fifo-dir {{folder}}/fifo {IMAGE} two sleep 1000
        tasks ls
        tasks ls -q
        tasks ps two
        {EXEC} a two echo hello
        {EXEC} a two false
        {EXEC} a two nosuch
        {EXEC} bad/name two true
        {EXEC} a --cwd /tmp two pwd
        {EXEC} a --user 65534 two id
        {EXEC} a two cat < hello
        {EXEC} a -d two sleep 1000
        tasks ps two
        {EXEC} a two true
        tasks kill --exec-id nosuch two
        tasks kill --exec-id a -s KILL two
        tasks metrics --format json two
        tasks pause two
        tasks pause two
        tasks ls
        {EXEC} b two true
        tasks rm two
        tasks resume two
        tasks resume two
        tasks rm two
        tasks start two
        containers rm two
        tasks kill -s NOSUCH two
        tasks rm -f two
        tasks ls
        tasks ps two
        tasks kill two
        tasks start -d two
        tasks rm -f two
        containers rm two
    """,
    "nothing there": f"""
        {IMPORT}
        tasks ls
        tasks ps none
        tasks kill none
        tasks pause none
        tasks resume none
        tasks metrics none
        tasks rm none
        tasks start none
        {EXEC} a none true
        containers create {IMAGE} three sleep 1000
        tasks ps three
        tasks kill three
        tasks pause three
        tasks metrics three
        tasks rm three
        {EXEC} a three true
        tasks start --fifo-dir {{folder}}/fifo -d three
        tasks ls -q
        tasks rm -f three
        tasks rm -f three
        containers rm three
    """,
}

# (a line of ctr begins so): why it may differ in words; the status is the same all the same.
_WORDS = "containerd has the shim's and runc's words before and around what was wrong"
DIFFERENT: dict[str, str] = {
    f"{RUN} {IMAGE} one nosuch": _WORDS,
    f"{RUN} {IMAGE} one /etc": _WORDS,
    "run --rm --log-uri http": _WORDS,
    f"{RUN} --memory-limit 1000": _WORDS,
    f"{RUN} --runc-binary /nonexistent": _WORDS,
    f"{RUN} --runtime io.containerd.nosuch": "there are no shims to be looked for",
    f"{RUN} --cwd relative": _WORDS,
    f"{EXEC} a two nosuch": _WORDS,
    f"{EXEC} b two true": _WORDS,
    f"{EXEC} bad/name": "it has the name of a directory of its own",
    "tasks pause two": _WORDS,
    "tasks resume two": _WORDS,
    "tasks metrics --format json": "what is used differs",
    f"{RUN} {IMAGE} one mount": "what is masked is covered by other file systems",
}


def _numbered(said: tuple[int, str]) -> tuple[int, str]:
    """With pids of this machine as PID."""
    status, text = said
    return status, re.sub(r"(?m)(?<!\S)\d{2,}(?= (?:-|&|RUNNING|PAUSED|STOPPED|CREATED))", "PID", text)


@pytest.mark.parametrize("name", SESSIONS)
def test_session(masud: Masud, containerd: Containerd, tmp_path: Path, busybox: Path, name: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/x").write_text("")
    namespace = "tasks-" + name.replace(" ", "-")
    ours = Session(masud, "masud", namespace, tmp_path)
    theirs = Session(containerd, "containerd", namespace, tmp_path)
    wrong = []
    for line in filter(None, map(str.strip, SESSIONS[name].splitlines())):
        line = line.replace("{rootfs}", str(busybox))
        (our_status, our_words), (their_status, their_words) = _numbered(ours.run(line)), _numbered(theirs.run(line))
        if our_status == their_status and any(line.startswith(known) for known in DIFFERENT):
            continue
        if (our_status, our_words) != (their_status, their_words):
            wrong.append(f"{line}\n  ours: {our_status} {our_words}\n  theirs: {their_status} {their_words}")
    assert not wrong, "\n".join(wrong)
