"""Tasks by gRPC, where no ctr goes: hooks, several mounts, calls in the wrong state, many who wait."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conformance.test_masud_tasks import IMAGE, Tasks
from google.protobuf.any_pb2 import Any as AnyMessage
from harness.engine import wait_until
from harness.grpcclient import Client
from harness.masud import COLLECT_WHEN_ASKED

from masu.api.containerd.checkpoints import IMAGE_TYPE
from masu.api.proto import (
    containers_pb2,
    metrics_v1_pb2,
    mounts_pb2,
    snapshots_pb2,
    task_types_pb2,
    tasks_pb2,
    types_pb2,
)
from masu.snapshots.overlayfs import maps_ids

pytestmark = pytest.mark.root

CONTAINERS = containers_pb2.DESCRIPTOR.services_by_name["Containers"]
MOUNTS = mounts_pb2.DESCRIPTOR.services_by_name["Mounts"]
SNAPSHOTS = snapshots_pb2.DESCRIPTOR.services_by_name["Snapshots"]
TASKS = tasks_pb2.DESCRIPTOR.services_by_name["Tasks"]
SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
ENV = ["PATH=/bin:/usr/bin"]


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    # Without a lease a snapshot is nobody's until its container is there.
    it = Tasks(tmp_path_factory.mktemp("api"), "version = 3\n" + COLLECT_WHEN_ASKED)
    it.begin()
    yield it
    it.stop()


class Maker:
    """Containers by gRPC, each with a snapshot of busybox."""

    def __init__(self, masud: Tasks, client: Client) -> None:
        self.masud = masud
        self.client = client
        self.chain = masud("snapshots", "ls").splitlines()[1].split()[0]
        self._made: list[str] = []

    def make(self, id: str, *args: str, labels: dict[str, str] | None = None, **more: object) -> list[types_pb2.Mount]:
        """A container that is to run `args`; the mounts of its snapshot, which has `labels`."""
        spec = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"args": list(args), "env": ENV, "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "cgroupsPath": f"/masu-test-tasks/{id}",
                "namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts", "network")],
            },
            **more,
        }
        container = containers_pb2.Container(
            id=id,
            image=IMAGE,
            runtime=containers_pb2.Container.Runtime(name="io.containerd.runc.v2"),
            spec=AnyMessage(type_url=SPEC, value=json.dumps(spec).encode()),
            snapshotter="overlayfs",
            snapshot_key=id,
        )
        prepare = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter="overlayfs", key=id, parent=self.chain, labels=labels
        )
        mounts = list(self.client(SNAPSHOTS, "Prepare", prepare).mounts)
        self._made.append(id)
        self.client(CONTAINERS, "Create", containers_pb2.CreateContainerRequest(container=container))
        return mounts

    def task(self, name: str, **fields: Any) -> Any:
        kinds = {"Delete": "DeleteTask", "Exec": "ExecProcess", "Pause": "PauseTask", "Create": "CreateTask"}
        message = getattr(tasks_pb2, f"{kinds.get(name, name)}Request")
        return self.client(TASKS, name, message(**fields))

    def close(self) -> None:
        for id in self._made:
            self.masud.remove(id)
            self.masud.try_("snapshots", "rm", id)
        for group in Path("/sys/fs/cgroup").glob("*/masu-test-tasks"):
            group.rmdir()


@pytest.fixture
def maker(masud: Tasks) -> Iterator[Maker]:
    with Client(masud.socket) as client:
        it = Maker(masud, client)
        try:
            yield it
        finally:
            it.close()


def code(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code().name, error.details()


def mounted(path: Path) -> bool:
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def test_hooks_find_bundle_and_root(maker: Maker) -> None:
    """As nerdctl's do: the state on stdin names the bundle, in which are config.json and the mounted root."""
    said = maker.masud.folder / "said-by-hook"
    script = f'cat > {said}; ls -d $(grep -o \'"bundle":"[^"]*\' {said} | cut -d\'"\' -f4)/*/bin/sh >> {said}.files'
    hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]}
    mounts = maker.make("hooked", "sleep", "1000", hooks=hooks)
    pid = maker.task("Create", container_id="hooked", rootfs=mounts).pid
    state = json.loads(said.read_text())
    bundle = Path(state["bundle"])
    assert (state["id"], state["pid"], state["status"]) == ("hooked", pid, "creating")
    assert json.loads((bundle / "config.json").read_text())["hooks"] == hooks
    assert Path(f"{said}.files").read_text() == f"{bundle}/rootfs/bin/sh\n"
    assert mounted(bundle / "rootfs")
    maker.task("Start", container_id="hooked")
    maker.task("Kill", container_id="hooked", signal=9)
    maker.task("Wait", container_id="hooked")
    assert maker.task("Delete", container_id="hooked").exit_status == 137
    assert not bundle.exists()
    assert not mounted(bundle / "rootfs")


def test_several_mounts(maker: Maker, tmp_path: Path) -> None:
    """One over the other, as some snapshotters give them."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/here").write_text("here\n")
    mounts = maker.make("several", "cat", "/srv/here")
    own = types_pb2.Mount(type="bind", source=str(tmp_path / "more"), options=["rbind", "ro"], target="/srv")
    out = tmp_path / "out"
    upper = next(word for word in mounts[0].options if word.startswith("upperdir=")).partition("=")[2]
    (Path(upper) / "srv").mkdir()
    maker.task("Create", container_id="several", rootfs=[*mounts, own], stdout=f"file://{out}", stderr=f"file://{out}")
    maker.task("Start", container_id="several")
    assert maker.task("Wait", container_id="several").exit_status == 0
    assert out.read_text() == "here\n"
    maker.task("Delete", container_id="several")


def test_a_create_that_fails_leaves_nothing(maker: Maker) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    hooks = {"createRuntime": [{"path": "/bin/false"}]}
    mounts = maker.make("fails", "true", hooks=hooks)
    status, words = code(lambda: maker.task("Create", container_id="fails", rootfs=mounts))
    assert status == "UNKNOWN"  # not Unavailable, which would be the daemon
    assert "hooks.createRuntime[0]" in words
    assert Path("/proc/self/mountinfo").read_text() == before
    assert code(lambda: maker.task("Get", container_id="fails")) == ("NOT_FOUND", "task fails not found: not found")


def test_calls_in_the_wrong_state(maker: Maker) -> None:
    mounts = maker.make("wrong", "sleep", "1000")
    who = {"container_id": "wrong"}
    process = AnyMessage(type_url=PROCESS, value=json.dumps({"args": ["true"], "cwd": "/", "env": ENV}).encode())
    assert code(lambda: maker.task("Start", **who)) == ("NOT_FOUND", "task wrong not found: not found")
    maker.task("Create", rootfs=mounts, **who)
    assert maker.task("Get", **who).process.status == task_types_pb2.CREATED
    assert code(lambda: maker.task("Create", rootfs=mounts, **who))[0] == "ALREADY_EXISTS"
    assert code(lambda: maker.task("Pause", **who))[0] == "FAILED_PRECONDITION"
    maker.task("Start", **who)
    assert code(lambda: maker.task("Start", **who))[0] == "FAILED_PRECONDITION"
    assert code(lambda: maker.task("Delete", **who))[0] == "FAILED_PRECONDITION"
    assert code(lambda: maker.task("Exec", exec_id="", spec=process, **who))[0] == "INVALID_ARGUMENT"
    assert code(lambda: maker.task("Exec", exec_id="../x", spec=process, **who))[0] == "INVALID_ARGUMENT"
    maker.task("Exec", exec_id="x", spec=process, **who)
    assert code(lambda: maker.task("Exec", exec_id="x", spec=process, **who))[0] == "ALREADY_EXISTS"
    assert code(lambda: maker.task("Kill", exec_id="x", signal=9, **who))[0] == "FAILED_PRECONDITION"
    maker.task("DeleteProcess", exec_id="x", **who)
    assert code(lambda: maker.task("DeleteProcess", exec_id="x", **who))[0] == "NOT_FOUND"
    assert code(lambda: maker.task("Kill", container_id="none", signal=9)) == (
        "NOT_FOUND", 'container "none" in namespace "default": not found',
    )  # fmt: skip
    maker.task("Kill", signal=9, **who)
    maker.task("Wait", **who)
    assert code(lambda: maker.task("Kill", signal=9, **who)) == ("NOT_FOUND", "process already finished: not found")
    assert code(lambda: maker.task("Exec", exec_id="y", spec=process, **who))[0] == "FAILED_PRECONDITION"
    assert maker.task("Delete", **who).exit_status == 137
    assert code(lambda: maker.task("Delete", **who))[0] == "NOT_FOUND"


def test_metrics_are_typed(maker: Maker) -> None:
    mounts = maker.make("measured", "sleep", "1000")
    maker.task("Create", container_id="measured", rootfs=mounts)
    maker.task("Start", container_id="measured")
    (metric,) = maker.task("Metrics", filters=["id==measured"]).metrics
    assert metric.data.type_url == "io.containerd.cgroups.v1.Metrics"
    found = metrics_v1_pb2.Metrics.FromString(metric.data.value)
    assert found.pids.current == 1
    assert found.memory.usage.usage > 0
    assert found.cpu.usage.total > 0
    assert not maker.task("Metrics", filters=["id==other"]).metrics


def test_many_who_wait(maker: Maker) -> None:
    """They hold no threads: more of them than the daemon has."""
    mounts = maker.make("waited-for", "sleep", "1000")
    maker.task("Create", container_id="waited-for", rootfs=mounts)
    found: list[int] = []

    def wait() -> None:
        with Client(maker.masud.socket) as own:
            found.append(own(TASKS, "Wait", tasks_pb2.WaitRequest(container_id="waited-for")).exit_status)

    waiting = [threading.Thread(target=wait) for _ in range(100)]
    for each in waiting:
        each.start()
    maker.task("Start", container_id="waited-for")
    maker.task("Kill", container_id="waited-for", signal=9)
    for each in waiting:
        each.join(60)
    assert found == [137] * 100
    assert os.path.exists(maker.masud.socket)


def ingested(maker: Maker, *members: tarfile.TarInfo, media_type: str = IMAGE_TYPE) -> types_pb2.Descriptor:
    """An archive in the content store."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    data = out.getvalue()
    maker.masud("content", "ingest", f"archive-{os.urandom(4).hex()}", input=data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return types_pb2.Descriptor(media_type=media_type, digest=digest, size=len(data))


def test_out_of_a_checkpoint_that_is_none(maker: Maker) -> None:
    """Without CRIU, or with: nothing runs before the start, and that fails; the task is as before."""
    mounts = maker.make("restored", "true")
    file = tarfile.TarInfo("./inventory.img")
    file.size = 3
    assert maker.task("Create", container_id="restored", rootfs=mounts, checkpoint=ingested(maker, file)).pid == 0
    kept = maker.masud.state / "checkpoints/default/restored"
    assert (kept / "inventory.img").read_bytes() == bytes(3)
    for _ in range(2):
        found = maker.task("Get", container_id="restored").process
        assert (found.status, found.pid) == (task_types_pb2.CREATED, 0)
        assert code(lambda: maker.task("Start", container_id="restored"))[0] != "UNKNOWN"
        maker.masud.kill()
        maker.masud.start()
    assert code(lambda: maker.task("Pause", container_id="restored"))[0] == "FAILED_PRECONDITION"
    assert code(lambda: maker.task("Kill", container_id="restored", signal=9))[0] == "NOT_FOUND"
    assert code(lambda: maker.task("Create", container_id="restored"))[0] == "ALREADY_EXISTS"
    maker.task("Delete", container_id="restored")
    assert not kept.exists()
    assert code(lambda: maker.task("Get", container_id="restored"))[0] == "NOT_FOUND"


def test_a_checkpoint_that_leads_elsewhere(maker: Maker) -> None:
    mounts = maker.make("elsewhere", "true")
    link = tarfile.TarInfo("pages-1.img")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for member in (link, tarfile.TarInfo("../out.img"), tarfile.TarInfo("/out.img"), tarfile.TarInfo("in/side.img")):
        wanted = {"container_id": "elsewhere", "rootfs": mounts, "checkpoint": ingested(maker, member)}
        assert "no regular file" in code(lambda wanted=wanted: maker.task("Create", **wanted))[1]
        assert not (maker.masud.state / "checkpoints/default/elsewhere").exists()
    other = ingested(maker, tarfile.TarInfo("a"), media_type="application/octet-stream")
    assert code(lambda: maker.task("Create", container_id="elsewhere", checkpoint=other))[0] == "INVALID_ARGUMENT"
    absent = types_pb2.Descriptor(media_type=IMAGE_TYPE, digest=f"sha256:{'0' * 64}", size=1)
    assert code(lambda: maker.task("Create", container_id="elsewhere", checkpoint=absent))[0] == "NOT_FOUND"


def test_a_root_of_mounts_that_masud_has_to_make(maker: Maker, tmp_path: Path) -> None:
    """A layer of another file system below the snapshot, as a client of containerd 2.2 may ask for it."""
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "told").write_text("by the layer\n")
    (snapshot,) = maker.make("prepared", "cat", "/told")
    lower = next(option.removeprefix("lowerdir=") for option in snapshot.options if option.startswith("lowerdir="))
    options = [option for option in snapshot.options if not option.startswith("lowerdir=")]
    rootfs = [
        types_pb2.Mount(type="bind", source=str(tmp_path / "layer"), options=["rbind", "ro"]),
        types_pb2.Mount(
            type="format/overlay", source="overlay", options=[*options, f"lowerdir={{{{ mount 0 }}}}:{lower}"]
        ),
    ]
    out = tmp_path / "out"
    out.touch()
    maker.task("Create", container_id="prepared", rootfs=rootfs, stdout=f"file://{out}")
    info = mounts_pb2.InfoRequest(name="prepared")
    (active,) = maker.client(MOUNTS, "Info", info).info.active
    assert mounted(Path(active.mount_point))
    assert code(lambda: maker.task("Create", container_id="prepared", rootfs=rootfs))[0] == "ALREADY_EXISTS"
    assert mounted(Path(active.mount_point))
    maker.task("Start", container_id="prepared")
    assert maker.task("Wait", container_id="prepared").exit_status == 0
    assert out.read_text() == "by the layer\n"
    maker.task("Delete", container_id="prepared")
    assert not mounted(Path(active.mount_point))
    assert code(lambda: maker.client(MOUNTS, "Info", info))[0] == "NOT_FOUND"
    rootfs[1].options[-1] += ":/nowhere"
    assert code(lambda: maker.task("Create", container_id="prepared", rootfs=rootfs))[0] != "ALREADY_EXISTS"
    assert code(lambda: maker.client(MOUNTS, "Info", info))[0] == "NOT_FOUND"


def test_ids_of_a_user_namespace(maker: Maker, tmp_path: Path) -> None:
    """The snapshotter shows the image's files with them, and what is written belongs to them on the disk."""
    if not maps_ids(str(maker.masud.root)):
        pytest.skip("no id-mapped mounts below an overlay here")
    assert "remap-ids" in maker.masud("plugins", "ls", "-d", "id==overlayfs")
    maps = {"uid": (70000, 1000), "gid": (80000, 1000)}
    linux = {
        "cgroupsPath": "/masu-test-tasks/mapped",
        "namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts", "network", "user")],
        **{f"{k}Mappings": [{"containerID": 0, "hostID": host, "size": size}] for k, (host, size) in maps.items()},
    }
    labels = {f"containerd.io/snapshot/{k}mapping": f"0:{host}:{size}" for k, (host, size) in maps.items()}
    script = "echo x > /new; stat -c '%u %g' / /bin/busybox /new; exec sleep 1000"
    rootfs = maker.make("mapped", "sh", "-c", script, labels=labels, linux=linux)
    out = tmp_path / "out"
    out.touch()
    pid = maker.task("Create", container_id="mapped", rootfs=rootfs, stdout=f"file://{out}").pid
    maker.task("Start", container_id="mapped")
    wait_until(lambda: out.read_text() == "0 0\n" * 3)
    for name in ("new", "bin/busybox"):
        seen = Path(f"/proc/{pid}/root", name).stat()
        assert (seen.st_uid, seen.st_gid) == (70000, 80000)
