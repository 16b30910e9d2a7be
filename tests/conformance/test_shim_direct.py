"""The shim without a containerd: what that would not do by itself, or not at the right moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers import Premises
from harness.callers.containerd import is_shim
from harness.engine import wait_until
from harness.programs import ROOT

from masu.api.proto import small
from masu.api.shim.options import OPTIONS
from masu.api.shim.tasks import SERVICES
from masu.api.ttrpc.client import Client
from masu.errors import AlreadyExists, FailedPrecondition, MasuError, NotFound, Unimplemented
from masu.linux import cgroups, mountinfo

pytestmark = pytest.mark.root

TASK = SERVICES[1]
_CREATED, _RUNNING, _STOPPED = 1, 2, 3


class Direct:
    """Starts shims of the namespace `direct` and speaks with them."""

    def __init__(self, premises: Premises, folder: Path, root: Path) -> None:
        self.premises = premises
        self.folder = folder
        self.root = root

    def bundle(self, id: str, *args: str, **more: object) -> Path:
        folder = self.folder / id
        folder.mkdir()
        config = {
            "ociVersion": "1.2.0",
            "process": {"args": list(args), "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin:/sbin"]},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "cgroupsPath": f"/{self.premises.cgroup}/{id}",
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            },
            **more,
        }
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def start(self, id: str, bundle: Path, options: small.Options | None = None) -> Client:
        stdin = b""
        if options is not None:
            stdin = small.Any(type_url=OPTIONS, value=options.encode()).encode()
        words = [
            str(ROOT / "containerd-shim-masu-v2"),
            "-namespace",
            "direct",
            "-id",
            id,
            "-address",
            "/direct",
            "start",
        ]
        done = subprocess.run(
            [*self.premises.prefix, "sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", str(bundle), *words],
            input=stdin, env=self.premises.environment, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return Client(str(self.premises.path(done.stdout.decode().removeprefix("unix://"))))

    def create(self, client: Client, id: str, bundle: Path, **more: object) -> int:
        rootfs = [small.Mount(type="bind", source=str(self.root), options=["rbind", "ro"])]
        request = small.CreateTaskRequest(id=id, bundle=str(bundle), rootfs=rootfs, **more)  # type: ignore[arg-type]
        return client.call(TASK, "Create", request, small.CreateTaskResponse).pid

    def shims(self) -> list[int]:
        return [pid for pid in self.premises.pids() if is_shim(pid)]

    def states(self) -> list[str]:
        folder = self.premises.path("/run/containerd/masu/direct")
        return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.fixture
def direct(busybox: Path, tmp_path: Path) -> Iterator[Direct]:
    (tmp_path / "premises").mkdir()
    with Premises(tmp_path / "premises") as premises:
        it = Direct(premises, tmp_path, busybox)
        yield it
        for pid in it.shims():
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: it.shims() == [])
        assert it.states() == []


def status(client: Client, id: str, exec_id: str = "") -> int:
    return client.call(TASK, "State", small.StateRequest(id=id, exec_id=exec_id), small.StateResponse).status


def test_the_next_shim_finds_what_is_there(direct: Direct) -> None:
    """Killed, it takes nothing with it: containers and execs go on, and another one knows how they end."""
    bundle = direct.bundle("one", "sleep", "999")
    with direct.start("one", bundle) as client:
        pid = direct.create(client, "one", bundle)
        assert status(client, "one") == _CREATED
        assert client.call(TASK, "Start", small.StartRequest(id="one"), small.StartResponse).pid == pid
        spec = {"args": ["sleep", "998"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        ask = small.ExecProcessRequest(id="one", exec_id="more", spec=small.Any(value=json.dumps(spec).encode()))
        client.call(TASK, "Exec", ask, small.Empty)
        exec_pid = client.call(TASK, "Start", small.StartRequest(id="one", exec_id="more"), small.StartResponse).pid
    (shim,) = direct.shims()
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: direct.shims() == [])
    other = direct.bundle("two", "true")
    with direct.start("two", other) as client:
        assert client.call(TASK, "Connect", small.ConnectRequest(id="one"), small.ConnectResponse).task_pid == pid
        assert (status(client, "one"), status(client, "one", "more")) == (_RUNNING, _RUNNING)
        found = client.call(TASK, "Pids", small.PidsRequest(id="one"), small.PidsResponse).processes
        assert {process.pid for process in found} == {pid, exec_pid}
        client.call(TASK, "Kill", small.KillRequest(id="one", exec_id="more", signal=15), small.Empty)
        ask_wait = small.WaitRequest(id="one", exec_id="more")
        assert client.call(TASK, "Wait", ask_wait, small.WaitResponse).exit_status == 143
        client.call(TASK, "Kill", small.KillRequest(id="one", signal=9), small.Empty)
        assert client.call(TASK, "Wait", small.WaitRequest(id="one"), small.WaitResponse).exit_status == 137
        deleted = client.call(TASK, "Delete", small.DeleteRequest(id="one"), small.DeleteResponse)
        assert (deleted.pid, deleted.exit_status) == (pid, 137)
        with pytest.raises(NotFound):
            status(client, "one")


def test_hooks_find_the_root_at_its_path(direct: Direct) -> None:
    """Then it is mounted on the host, and gone with the task."""
    listing = direct.folder / "listing"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f'ls "{direct.folder}/hooked/rootfs/bin/sh" > {listing}']}
    bundle = direct.bundle("hooked", "true", hooks={"createRuntime": [hook]})

    def mounted() -> list[str]:
        return [
            mount.mount_point
            for mount in mountinfo.read(direct.shims()[0])
            if mount.mount_point.startswith(str(bundle))
        ]

    with direct.start("hooked", bundle) as client:
        direct.create(client, "hooked", bundle)
        assert listing.read_text().strip().endswith("/rootfs/bin/sh")
        assert f"{bundle}/rootfs" in mounted()
        client.call(TASK, "Start", small.StartRequest(id="hooked"), small.StartResponse)
        assert client.call(TASK, "Wait", small.WaitRequest(id="hooked"), small.WaitResponse).exit_status == 0
        client.call(TASK, "Delete", small.DeleteRequest(id="hooked"), small.DeleteResponse)
        assert mounted() == []


def test_one_that_is_never_started(direct: Direct) -> None:
    bundle = direct.bundle("idle", "true")
    with direct.start("idle", bundle) as client:
        direct.create(client, "idle", bundle)
        with pytest.raises(MasuError, match="already exists"):
            direct.create(client, "idle", bundle)
        client.call(TASK, "Kill", small.KillRequest(id="idle", signal=9), small.Empty)
        assert client.call(TASK, "Wait", small.WaitRequest(id="idle"), small.WaitResponse).exit_status == 137
        with pytest.raises(FailedPrecondition, match="stopped process"):
            client.call(TASK, "Start", small.StartRequest(id="idle"), small.StartResponse)
        client.call(TASK, "Delete", small.DeleteRequest(id="idle"), small.DeleteResponse)
        direct.create(client, "idle", bundle)
        client.call(TASK, "Delete", small.DeleteRequest(id="idle"), small.DeleteResponse)


def test_state_elsewhere(direct: Direct) -> None:
    """`delete` finds it there, too."""
    bundle = direct.bundle("a", "sleep", "999")
    options = small.Options(root=f"{direct.folder}/states")
    state = direct.folder / "states/direct/a"
    with direct.start("a", bundle, options) as client:
        given = small.Any(type_url=OPTIONS, value=options.encode())
        pid = direct.create(client, "a", bundle, options=given)
        client.call(TASK, "Start", small.StartRequest(id="a"), small.StartResponse)
        assert (state / "task.json").exists()
    os.kill(direct.shims()[0], signal.SIGKILL)
    flags = ["-namespace", "direct", "-id", "a", "-address", "/direct", "-bundle", str(bundle)]
    words = [*direct.premises.prefix, str(ROOT / "containerd-shim-masu-v2"), *flags, "delete"]
    said = subprocess.run(words, env=direct.premises.environment, stdout=subprocess.PIPE, check=True).stdout
    response = small.DeleteResponse.decode(said)
    assert (response.pid, response.exit_status) == (pid, 137)
    assert not state.exists()
    assert not direct.premises.path((bundle / "address").read_text().removeprefix("unix://")).exists()


def test_what_is_refused(direct: Direct) -> None:
    bundle = direct.bundle("a", "true")
    with direct.start("a", bundle) as client:
        other = small.Any(type_url=OPTIONS, value=small.Options(binary_name="no-such-runtime").encode())
        with pytest.raises(NotFound, match="no-such-runtime"):
            direct.create(client, "a", bundle, options=other)
        with pytest.raises(Unimplemented, match=r"containerd\.runc\.v1\.Options is known"):
            direct.create(client, "a", bundle, options=small.Any(type_url="of.another.Runtime"))
        with pytest.raises(MasuError, match="invalid character"):
            direct.create(client, "../a", bundle)
        for method in ("State", "Pids", "Stats"):
            with pytest.raises(NotFound):
                client.call(TASK, method, small.StateRequest(id="a"), small.StateResponse)
        direct.create(client, "a", bundle)
        for text, error in ((b"", MasuError), (b"[]", MasuError), (b'{"args": []}', MasuError)):
            ask = small.ExecProcessRequest(id="a", exec_id="e", spec=small.Any(value=text))
            with pytest.raises(error):
                client.call(TASK, "Exec", ask, small.Empty)
        spec = small.Any(value=b'{"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}')
        ask = small.ExecProcessRequest(id="a", exec_id="e", spec=spec)
        client.call(TASK, "Exec", ask, small.Empty)
        with pytest.raises(AlreadyExists, match="id e"):
            client.call(TASK, "Exec", ask, small.Empty)
        with pytest.raises(FailedPrecondition, match="not created"):
            client.call(TASK, "Kill", small.KillRequest(id="a", exec_id="e", signal=9), small.Empty)
        client.call(TASK, "Delete", small.DeleteRequest(id="a"), small.DeleteResponse)


def test_a_cgroup_for_the_shim(direct: Direct) -> None:
    place = f"/{direct.premises.cgroup}/shims"
    for path in set(cgroups.predict(place, "").values()):
        os.makedirs(path)
        for folder in (Path(path).parent, Path(path)):
            for name in ("cpuset.cpus", "cpuset.mems"):  # of v1: without these nobody can be in it
                if (folder / name).exists():
                    (folder / name).write_text((folder.parent / name).read_text())
    bundle = direct.bundle("a", "true")
    with direct.start("a", bundle, small.Options(shim_cgroup=place)):
        (shim,) = direct.shims()
        assert place in Path(f"/proc/{shim}/cgroup").read_text()
    os.kill(shim, signal.SIGTERM)
    wait_until(lambda: direct.shims() == [])
    # In one that is not there it cannot be: nor is it anywhere else then.
    with pytest.raises(subprocess.CalledProcessError):
        direct.start("a", bundle, small.Options(shim_cgroup=f"{place}/nowhere"))
    wait_until(lambda: direct.shims() == [])


def test_a_create_killed_before_it_had_written_anything(direct: Direct, tmp_path: Path) -> None:
    """`delete` finds a directory in which there is nothing yet."""
    bundle = direct.bundle("torso", "/bin/true")
    state = direct.premises.path("/run/containerd/masu/direct/torso")
    state.mkdir(parents=True)
    words = [str(ROOT / "containerd-shim-masu-v2"), "-namespace", "direct", "-id", "torso", "-bundle", str(bundle)]
    done = subprocess.run(
        [*direct.premises.prefix, *words, "delete"],
        env=direct.premises.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert small.DeleteResponse.decode(done.stdout).exit_status == 137
    assert not state.exists()
