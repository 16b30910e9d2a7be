"""What well-known introductions to runc let their readers type, typed for real."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import images
import pytest
from harness.oci import Runtime, base_config, wait_exited
from harness.programs import peer
from harness.pty import Terminal

pytestmark = pytest.mark.root


@pytest.fixture
def busybox_bundle(runtime: Runtime) -> Path:
    bundle = runtime.folder / "mycontainer"
    bundle.mkdir()
    images.copy(images.rootfs("busybox"), bundle / "rootfs")
    runtime("spec", "--bundle", str(bundle))
    return bundle


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        target = config
        *way, last = key.split("__")
        for part in way:
            target = target.setdefault(part, {})
        target[last] = value
    path.write_text(json.dumps(config))


def test_spec_by_another_name(masu_oci: Runtime) -> None:
    """crun's --file, by name in the bundle or by path; never over what is there."""
    other = masu_oci.folder / "other.json"
    masu_oci("spec", "--bundle", str(masu_oci.folder), "--file", "some.json")
    masu_oci("spec", "-f", str(other))
    assert other.read_text() == (masu_oci.folder / "some.json").read_text()
    refused = masu_oci("spec", "-f", str(other), check=False)
    assert refused.returncode == 1
    assert "other.json" in refused.stderr
    assert "Remove it first" in refused.stderr


def test_spec_then_run_gives_a_shell(runtime: Runtime, busybox_bundle: Path) -> None:
    id = runtime.id()
    with Terminal([*runtime.command, "run", id], cwd=busybox_bundle, rows=33, columns=99) as terminal:
        terminal.wait_for("# ")
        terminal.type("stty size; hostname; echo $((6*7))\n")
        shown = terminal.wait_for("42")
        assert "33 99" in shown
        terminal.type("exit 5\n")
        assert terminal.wait() == 5


def test_args_edited_to_ls(runtime: Runtime, busybox_bundle: Path) -> None:
    edit(busybox_bundle, process__args=["ls"], process__terminal=False)
    listed = runtime("run", runtime.id(), cwd=busybox_bundle).stdout.split()
    assert {"bin", "dev", "etc", "proc", "sys"} <= set(listed)


def service_bundle(runtime: Runtime, name: str, args: list[str], **extra: Any) -> Path:
    """A bundle of a server on the host's loopback."""

    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = args
        config["process"]["env"] = ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        config["linux"]["namespaces"] = [ns for ns in config["linux"]["namespaces"] if ns["type"] != "network"]
        config["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
        )
        config.update(extra)

    return runtime.bundle(images.rootfs(name), change)


def ask(port: int, question: bytes, wanted: bytes, timeout_s: float = 20) -> None:
    """Asks again until the server, which is starting, gives the wanted answer."""
    import socket

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(question)
                answer = connection.recv(4096)
                assert wanted in answer, answer
                return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.02)


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_redis_through_its_life(runtime: Runtime) -> None:
    port = free_port()
    args = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
    bundle = service_bundle(runtime, "redis", args)
    id = runtime.id()
    runtime("create", id, cwd=bundle)
    assert "created" in runtime("list").stdout
    runtime("start", id)
    ask(port, b"PING\r\n", b"+PONG")
    assert runtime.state(id)["status"] == "running"
    assert "redis-server" in runtime("ps", id).stdout
    pid = runtime.state(id)["pid"]
    runtime("kill", id, "TERM")
    wait_exited(pid)
    assert runtime.state(id)["status"] == "stopped"
    runtime("delete", id)
    assert id not in runtime("list").stdout


def test_memcached_with_hooks_that_leave_traces(runtime: Runtime, tmp_path: Path) -> None:
    port = free_port()
    trace = tmp_path / "trace"

    def hook(name: str) -> list[dict[str, Any]]:
        script = f'read -r state; echo "{name} $WORD $state" >> {trace}'
        return [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["WORD=said"], "timeout": 10}]

    hooks = {name: hook(name) for name in ("prestart", "poststart", "poststop")}
    args = ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port)]
    id = runtime.id()
    runtime("run", "-d", id, cwd=service_bundle(runtime, "memcached", args, hooks=hooks))
    ask(port, b"version\r\n", b"VERSION")
    pid = runtime.state(id)["pid"]
    lines = trace.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["prestart", "said"], ["poststart", "said"]]
    states = [json.loads(line.split(" ", 2)[2]) for line in lines]
    assert [state["id"] for state in states] == [id, id]
    assert [state["pid"] for state in states] == [pid, pid]
    # runc 1.1 runs the hook before its process has left the FIFO.
    assert states[1]["status"] in ("running", "created")
    runtime("kill", id, "KILL")
    wait_exited(pid)
    runtime("delete", id)
    last = trace.read_text().splitlines()[-1]
    assert last.startswith("poststop said ")
    assert json.loads(last.split(" ", 2)[2])["status"] == "stopped"


@pytest.fixture
def bridged_netns() -> Iterator[str]:
    """A named network namespace with one end of a veth; the other end is on a bridge of the host."""
    ip = peer("ip")
    new_folder = not os.path.ismount("/run/netns")
    name = f"masut{os.getpid() % 10000}"
    bridge, outside, inside = f"{name}b", f"{name}o", f"{name}i"

    def run(*args: str) -> None:
        subprocess.run([ip, *args], check=True)

    run("netns", "add", name)
    try:
        run("link", "add", bridge, "type", "bridge")
        run("link", "add", outside, "type", "veth", "peer", "name", inside)
        run("link", "set", inside, "netns", name)
        run("link", "set", outside, "master", bridge, "up")
        run("addr", "add", "192.0.2.1/24", "dev", bridge)
        run("link", "set", bridge, "up")
        run("-n", name, "addr", "add", "192.0.2.2/24", "dev", inside)
        run("-n", name, "link", "set", inside, "up")
        yield name
    finally:
        subprocess.run([ip, "link", "del", outside], check=False)
        subprocess.run([ip, "link", "del", bridge], check=False)
        subprocess.run([ip, "netns", "del", name], check=False)
        # The first `ip netns add` of a machine makes /run/netns a mount of its own and leaves it so.
        if new_folder and not os.listdir("/run/netns"):
            subprocess.run(["umount", "/run/netns"], check=True)


def test_a_network_namespace_by_path(runtime: Runtime, bridged_netns: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["sleep", "1000"]
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{bridged_netns}"

    id = runtime.id()
    runtime("run", "-d", id, cwd=runtime.bundle(images.rootfs("busybox"), change))
    answer = subprocess.run([images.rootfs("busybox") / "bin/busybox", "ping", "-c", "1", "-W", "5", "192.0.2.2"],
                            capture_output=True, text=True, check=False)  # fmt: skip
    assert "1 packets received" in answer.stdout or "1 received" in answer.stdout, answer
    pid = runtime.state(id)["pid"]
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/run/netns/{bridged_netns}").st_ino
    inside = runtime("exec", id, "ip", "-o", "addr", "show", "scope", "global").stdout
    assert "192.0.2.2/24" in inside


def test_base_config_is_complete(masu_oci: Runtime) -> None:
    """The bundle that these tests use is one that every runtime accepts without a warning."""
    bundle = masu_oci.bundle(images.rootfs("busybox"))
    planned = masu_oci("plan", "--json", cwd=bundle)
    assert json.loads(planned.stdout)["warnings"] == []
    assert base_config()["process"]["args"] == json.loads(planned.stdout)["operations"][-1]["fields"]["args"]
