"""Hooks: their order, what they get, what a failing one does (config.md, "POSIX-platform Hooks")."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited

pytestmark = pytest.mark.root

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def telling(trace: Path, word: str) -> dict[str, Any]:
    """A hook of the host that adds a line to `trace`: a word of its own and the state it was given."""
    script = f'printf "%s %s\\n" {word} "$(tr -d "\\n\\t ")" >> {trace}'
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]


def told(trace: Path) -> list[tuple[str, dict[str, Any]]]:
    lines = trace.read_text().splitlines() if trace.exists() else []
    return [(line.partition(" ")[0], json.loads(line.partition(" ")[2])) for line in lines]


def test_order_and_state(runtime: Runtime, probe_rootfs: Path) -> None:
    # runc before 1.6 runs poststart hooks in `create`, before the program runs, with the status "created".
    early = runtime.name == "runc"
    trace = runtime.folder / "trace"
    # startContainer hooks run in the container, where there is no shell: see below.
    kinds = [kind for kind in KINDS if kind != "startContainer"]

    def change(config: dict[str, Any]) -> None:
        sleeping(config)
        config["annotations"] = {"org.example": "yes"}
        config["hooks"] = {kind: [telling(trace, f"{kind}{n}") for n in (0, 1)] for kind in kinds}

    id = runtime.id()
    bundle = runtime.bundle(probe_rootfs, change)
    runtime("create", "--bundle", str(bundle), id)
    pid = runtime.state(id)["pid"]
    before = [f"{kind}{n}" for kind in ("prestart", "createRuntime", "createContainer") for n in (0, 1)]
    assert [word for word, _ in told(trace)][: 8 if not early else 6] == before
    runtime("start", id)
    assert [word for word, _ in told(trace)][6:] == ["poststart0", "poststart1"]
    runtime("kill", id, "KILL")
    wait_exited(pid)
    runtime("delete", id)
    everything = told(trace)
    assert [word for word, _ in everything][8:] == ["poststop0", "poststop1"]
    for word, state in everything:
        assert (state["id"], state["bundle"]) == (id, str(bundle))
        assert state["annotations"] == {"org.example": "yes"}
        assert state["ociVersion"]
        if not early:
            # A process that is gone has none (runtime.md, "State").
            assert state.get("pid") == (None if word.startswith("poststop") else pid)
    statuses = {word[:-1]: state["status"] for word, state in everything}
    assert statuses["createRuntime"] == "creating"
    assert statuses["poststart"] == ("created" if early else "running")
    assert statuses["poststop"] == "stopped"


def test_hooks_of_the_host_begin_in_the_bundle(runtime: Runtime, probe_rootfs: Path) -> None:
    trace = runtime.folder / "trace"
    kinds = [kind for kind in KINDS if "Container" not in kind]

    def change(config: dict[str, Any]) -> None:
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"test -e config.json && pwd >> {trace}"]}
        config["hooks"] = {kind: [hook] for kind in kinds}

    bundle = runtime.bundle(probe_rootfs, change)
    runtime("run", "--bundle", str(bundle), runtime.id())
    assert trace.read_text().splitlines() == [str(bundle)] * len(kinds)


def test_poststop_hook_without_its_bundle(runtime: Runtime, probe_rootfs: Path) -> None:
    trace = runtime.folder / "trace"
    id = runtime.id()
    bundle = runtime.bundle(probe_rootfs, lambda config: config.update(hooks={"poststop": [telling(trace, "after")]}))
    runtime("create", "--bundle", str(bundle), id)
    shutil.rmtree(bundle)
    runtime("delete", "--force", id)
    assert [word for word, _ in told(trace)] == ["after"]


def test_start_container_hooks_run_inside(runtime: Runtime, own_probe_rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"].update(args=["/bin/probe", "ls", "/tmp"], env=["PATH=/bin", "WORD=seen"])
        hook = {"path": "/bin/probe", "args": ["probe", "mkdir", "/tmp/made-by-hook"]}
        config["hooks"] = {"startContainer": [hook]}

    assert runtime("run", "--bundle", str(runtime.bundle(own_probe_rootfs, change)), runtime.id()).stdout.split() == [
        "made-by-hook"
    ]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failing_hook_ends_the_creation(runtime: Runtime, probe_rootfs: Path, kind: str) -> None:
    trace = runtime.folder / "trace"

    def change(config: dict[str, Any]) -> None:
        sleeping(config)
        failing = {"path": "/bin/sh", "args": ["sh", "-c", "echo this is why; exit 3"]}
        config["hooks"] = {kind: [telling(trace, "first"), failing, telling(trace, "never")]}

    id = runtime.id()
    refused = runtime("create", "--bundle", str(runtime.bundle(probe_rootfs, change)), id, check=False)
    assert refused.returncode == 1
    assert ("error running hook #1:" if runtime.name == "runc" else f"error running {kind} hook #1:") in refused.stderr
    assert "this is why" in refused.stderr
    assert [word for word, _ in told(trace)] == ["first"]
    assert runtime("list", "-q").stdout == ""
    # The same id works at once: nothing was left behind.
    runtime("run", "--bundle", str(runtime.bundle(probe_rootfs)), id)


@pytest.mark.parametrize("why", ["createRuntime", "createContainer", "program"])
def test_a_creation_that_fails_is_followed_by_poststop(runtime: Runtime, probe_rootfs: Path, why: str) -> None:
    """What createRuntime hooks have set up (a network, say) is taken down again (runtime.md, "Lifecycle")."""
    trace = runtime.folder / "trace"
    id = runtime.id()

    def change(config: dict[str, Any]) -> None:
        hooks = {"createRuntime": [telling(trace, "up")], "poststop": [telling(trace, "down"), telling(trace, "too")]}
        config["hooks"] = hooks
        if why == "program":
            config["process"]["args"] = ["/nowhere"]
        else:
            hooks.setdefault(why, []).append({"path": "/bin/false"})
        if runtime.name == "masu-oci":
            hooks["poststop"].insert(0, {"path": "/bin/false"})

    for verb in ("create", "run"):
        refused = runtime(verb, "--bundle", str(runtime.bundle(probe_rootfs, change)), id, check=False)
        assert refused.returncode == 1
        assert ("/nowhere" if why == "program" else "hook #") in refused.stderr
        assert [word for word, _ in told(trace)] == ["up", "down", "too"]
        up, down, _ = (state for _, state in told(trace))
        assert (up["id"], up["status"], down["id"], down["status"]) == (id, "creating", id, "stopped")
        trace.unlink()
    assert runtime("list", "-q").stdout == ""


def test_nothing_follows_a_configuration_that_is_refused(masu_oci: Runtime, probe_rootfs: Path) -> None:
    trace = masu_oci.folder / "trace"

    def change(config: dict[str, Any]) -> None:
        config["process"]["cwd"] = "relative"
        config["hooks"] = {"createRuntime": [telling(trace, "up")], "poststop": [telling(trace, "down")]}

    assert masu_oci(
        "run", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), masu_oci.id(), check=False
    ).returncode
    assert told(trace) == []


def test_hook_that_is_not_there(masu_oci: Runtime, probe_rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {"createRuntime": [{"path": "/nowhere/hook"}]}

    refused = masu_oci("run", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "hooks.createRuntime[0]: error running createRuntime hook #0: /nowhere/hook: ENOENT" in refused.stderr


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_hook_that_takes_too_long(masu_oci: Runtime, probe_rootfs: Path, kind: str) -> None:
    inside = kind == "startContainer"
    hook = {"path": "/bin/probe", "args": ["probe", "sleep"]} if inside else {"path": "/bin/sleep", "args": ["s", "99"]}
    id = masu_oci.id()

    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {kind: [{**hook, "timeout": 1}]}

    refused = masu_oci("run", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), id, check=False)
    assert refused.returncode == 1
    assert f"error running {kind} hook #0:" in refused.stderr
    assert "killed" in refused.stderr or "did not end within 1000 ms" in refused.stderr
    assert masu_oci("list", "-q").stdout == ""


def test_failing_start_container_hook(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """After `create` the failure is told by `start`, as precisely as by `run`."""

    def change(config: dict[str, Any]) -> None:
        sleeping(config)
        fine = {"path": "/bin/probe", "args": ["probe", "exit", "0"]}
        config["hooks"] = {"startContainer": [fine, {"path": "/bin/probe", "args": ["probe", "exit", "5"]}]}

    id = masu_oci.id()
    masu_oci("create", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), id)
    pid = masu_oci.state(id)["pid"]
    refused = masu_oci("start", id, check=False)
    assert refused.returncode == 1
    assert "error running startContainer hook #1: /bin/probe: the hook exited with status 5" in refused.stderr
    wait_exited(pid)
    assert masu_oci.state(id)["status"] == "stopped"
    masu_oci("delete", id)


@pytest.mark.parametrize("verb", ["run", "start"])
def test_failing_poststart_hook_stops_the_container(masu_oci: Runtime, probe_rootfs: Path, verb: str) -> None:
    trace = masu_oci.folder / "trace"

    def change(config: dict[str, Any]) -> None:
        sleeping(config)
        config["hooks"] = {"poststart": [{"path": "/bin/false"}, telling(trace, "never")]}

    id = masu_oci.id()
    bundle = str(masu_oci.bundle(probe_rootfs, change))
    if verb == "run":
        refused = masu_oci("run", "-d", "--bundle", bundle, id, check=False)
    else:
        masu_oci("create", "--bundle", bundle, id)
        pid = masu_oci.state(id)["pid"]
        refused = masu_oci("start", id, check=False)
        wait_exited(pid)
        assert masu_oci.state(id)["status"] == "stopped"
    assert refused.returncode == 1
    assert "error running poststart hook #0:" in refused.stderr
    assert told(trace) == []
    if verb == "run":
        assert masu_oci("list", "-q").stdout == ""


def test_failing_poststop_hook_is_a_warning(runtime: Runtime, probe_rootfs: Path) -> None:
    trace = runtime.folder / "trace"

    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {"poststop": [{"path": "/bin/false"}, telling(trace, "second")]}

    done = runtime("run", "--bundle", str(runtime.bundle(probe_rootfs, change)), runtime.id())
    if runtime.name == "masu-oci":
        # runc 1.1 ends the row here.
        assert "level=warning" in done.stderr
        assert [word for word, _ in told(trace)] == ["second"]
    assert runtime("list", "-q").stdout == ""


def test_start_container_hook_is_filtered(masu_oci: Runtime, own_probe_rootfs: Path) -> None:
    """A hook of the container's is held by the container's seccomp filter, and the signal is told in words."""

    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {"startContainer": [{"path": "/bin/probe", "args": ["probe", "mkdir", "/tmp/x"]}]}
        config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
        }

    refused = masu_oci("run", "--bundle", str(masu_oci.bundle(own_probe_rootfs, change)), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "killed by signal 31 (SIGSYS, bad system call)" in refused.stderr
    assert not os.path.exists(own_probe_rootfs / "tmp/x")


@pytest.mark.parametrize("given", [{}, {"env": ["GIVEN=1"]}], ids=["without", "with"])
def test_environment_of_a_hook(runtime: Runtime, probe_rootfs: Path, given: dict[str, Any]) -> None:
    """Without `env` the runtime's own, on the host; never the container's."""
    seen = runtime.folder / "seen"
    kinds = [kind for kind in KINDS if not kind.endswith("Container")]

    def change(config: dict[str, Any]) -> None:
        config["process"]["env"].append("FROM_THE_IMAGE=1")
        script = f'echo "${{CALLER-}}${{FROM_THE_IMAGE-}}${{GIVEN-}}" >> {seen}'
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], **given}
        config["hooks"] = {kind: [hook] for kind in kinds}

    bundle = str(runtime.bundle(probe_rootfs, change))
    runtime("run", "--bundle", bundle, runtime.id(), env={**os.environ, "CALLER": "ours"})
    assert seen.read_text().split() == ["1" if given else "ours"] * len(kinds)
