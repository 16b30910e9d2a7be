"""Images under `masu`: pulled from a real registry, listed, named, saved, loaded, removed."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from harness.engine import Masu, wait_until
from harness.programs import peer
from harness.pty import Terminal
from registryfixture import DockerRegistry, docker_registry

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    if docker_registry() is None:
        pytest.skip("docker-registry is not installed")
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as it:
        for name in ("busybox", "redis"):
            images.push(name, it.host)
        yield it


@pytest.fixture
def masu(tmp_path: Path, registry: DockerRegistry) -> Iterator[Masu]:
    it = Masu(tmp_path)
    (tmp_path / "registries.toml").write_text(
        f'[[registry]]\nname = "*"\nfallback = false\n[[registry.mirror]]\nurl = "http://{registry.host}"\n'
    )
    yield it
    it.close()


def test_pull_says_what_docker_says(masu: Masu) -> None:
    lines = masu("pull", "redis").splitlines()
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from library/redis"]
    assert lines[-3].startswith("Digest: sha256:")
    assert lines[-2:] == ["Status: Downloaded newer image for redis:latest", "docker.io/library/redis:latest"]
    assert sum(line.endswith(": Pull complete") for line in lines) == 2
    lines = masu("pull", "redis:latest").splitlines()
    assert lines[-2] == "Status: Image is up to date for redis:latest"
    assert masu("pull", "-q", "busybox") == "docker.io/library/busybox:latest\n"
    assert "Already exists" in masu("pull", "busybox")
    assert "not found" in masu.fails("pull", "nosuch", status=1)
    assert "invalid" in masu.fails("pull", "UPPER", status=1)


def test_pull_draws_on_a_terminal(masu: Masu) -> None:
    environment = {**masu.environment, "TERM": "xterm"}
    with Terminal([*masu.command, "pull", "redis"], env=environment) as terminal:
        shown = terminal.rest()
    assert "\x1b[" in shown
    assert shown.count("Pull complete") >= 2
    assert "Status: Downloaded newer image for redis:latest" in shown


def test_run_pulls_what_is_missing(masu: Masu) -> None:
    done = masu.try_("run", "--rm", "busybox", "echo", "hi")
    assert done.stdout == "hi\n"
    assert done.stderr.startswith("Unable to find image 'busybox' locally\n")
    done = masu.try_("run", "--rm", "busybox", "echo", "hi")
    assert (done.stdout, done.stderr) == ("hi\n", "")
    assert masu.try_("run", "--rm", "--pull", "always", "-q", "busybox", "true").stderr == ""


def test_images(masu: Masu) -> None:
    masu("pull", "-q", "redis")
    masu("pull", "-q", "busybox")
    lines = masu("images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert {line.split()[0] for line in lines[1:]} == {"redis", "busybox"}
    assert masu("images", "redis", "--format", "{{.Repository}}:{{.Tag}}") == "redis:latest\n"
    (id,) = masu("images", "-q", "redis").split()
    assert masu("images", "-q", "--no-trunc", "redis").startswith(f"sha256:{id}")
    assert "DIGEST" in masu("images", "--digests").splitlines()[0]
    row = json.loads(masu("images", "redis", "--format", "json"))
    assert row["ID"] == id
    assert masu("images", "--filter", "dangling=true", "-q") == ""
    assert masu("images", "--filter", "reference=red*", "-q") == f"{id}\n"


def test_tag_inspect_history(masu: Masu) -> None:
    masu("pull", "-q", "redis")
    masu("tag", "redis", "example.com/team/cache:1")
    (id,) = set(masu("images", "-q").split())
    found = json.loads(masu("inspect", "example.com/team/cache:1"))[0]
    assert found["Id"].startswith(f"sha256:{id}")
    assert set(found["RepoTags"]) == {"redis:latest", "example.com/team/cache:1"}
    assert found["RepoDigests"][0].startswith(("redis@sha256:", "example.com/team/cache@sha256:"))
    assert found["Config"]["Entrypoint"] or found["Config"]["Cmd"]
    assert len(found["RootFS"]["Layers"]) == 2
    assert json.loads(masu("inspect", id))[0]["Id"] == found["Id"]
    steps = masu("history", "redis").splitlines()
    assert steps[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert steps[1].startswith(id)
    assert steps[-1].startswith("<missing>")
    assert masu("run", "--rm", "--entrypoint", "redis-server", id, "--version").startswith("Redis server")
    assert "no such image" in masu.fails("tag", "nosuch", "x", status=1)


def test_rmi(masu: Masu) -> None:
    masu("pull", "-q", "redis")
    masu("pull", "-q", "busybox")
    masu("tag", "redis", "again")
    (id,) = set(masu("images", "-q", "redis").split())
    assert "referenced in multiple repositories" in masu.fails("rmi", id, status=1)
    assert masu("rmi", "again") == "Untagged: again:latest\n"
    masu("create", "--name", "uses", "redis")
    assert "stopped container" in masu.fails("rmi", "redis", status=1)
    masu("start", "uses")
    assert "running container" in masu.fails("rmi", "-f", "redis", status=1)
    masu("rm", "-f", "uses")
    shown = masu("rmi", "redis").splitlines()
    assert shown[0] == "Untagged: redis:latest"
    assert shown[1].startswith(f"Deleted: sha256:{id}")
    # what busybox shares with it is still there
    assert masu("run", "--rm", "--pull", "never", "busybox", "echo", "there") == "there\n"
    masu("rmi", "busybox")
    assert masu("images", "-q") == ""
    assert os.listdir(masu.root / "blobs/sha256") == []
    assert [path.name for path in (masu.root / "snapshots").glob("*/*") if path.name.isdigit()] == []
    assert "no such image" in masu.fails("rmi", "busybox", status=1)
    assert masu("rmi", "-f", "busybox") == ""


def test_redis_as_its_users_run_it(masu: Masu) -> None:
    id = masu("run", "-d", "--name", "cache", "--network", "none", "redis").strip()
    wait_until(lambda: "Ready to accept connections" in masu("logs", "cache"))
    assert masu("exec", "cache", "redis-cli", "ping") == "PONG\n"
    assert masu("exec", "cache", "redis-cli", "set", "k", "v") == "OK\n"
    assert masu("exec", "cache", "redis-cli", "get", "k") == "v\n"
    assert masu("ps", "--format", "{{.Names}} {{.Image}}") == "cache redis\n"
    assert masu("stop", "cache") == "cache\n"
    assert "Bye" in masu("logs", "cache") or "bye" in masu("logs", "cache")
    assert masu.inspect(id)["State"]["ExitCode"] == 0
    masu("rm", "cache")


def test_save_and_load(masu: Masu, tmp_path: Path) -> None:
    masu("pull", "-q", "redis")
    id = masu("images", "-q", "--no-trunc", "redis")
    other = Masu(_made(tmp_path / "other"))
    for form in ("docker-archive", "oci-archive", "oci-dir"):
        out = tmp_path / form
        masu("save", "--format", form, "-o", str(out), "redis")
        assert other("load", "-i", str(out)).splitlines() == ["Loaded image: redis:latest"]
        assert other("images", "-q", "--no-trunc") == id
        assert other("run", "--rm", "--pull", "never", "redis", "redis-server", "--version").startswith("Redis server")
        other("rmi", "redis")
    done = subprocess.run([*masu.command, "save", "redis"], stdout=subprocess.PIPE, check=True, env=masu.environment)
    assert other("load", input=done.stdout).splitlines() == ["Loaded image: redis:latest"]
    skopeo = peer("skopeo")
    subprocess.run(
        [skopeo, "copy", "-q", "--insecure-policy", f"oci:{tmp_path}/oci-dir:latest",
         f"docker-archive:{tmp_path}/back.tar:x/y:1"], check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert other("load", "-q", "-i", str(tmp_path / "back.tar")) == ""
    assert other("images", "-q", "--no-trunc", "x/y") == id
    assert "no tar archive" in other.fails("load", "-i", "/etc/passwd", status=1)
    other.close()


def test_import(masu: Masu, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(images.rootfs("busybox"), ".")
    id = masu("import", "-c", "CMD echo imported", "-c", "ENV A=1", str(tmp_path / "root.tar"), "mine:1").strip()
    assert id.startswith("sha256:")
    assert masu("run", "--rm", "mine:1") == "imported\n"
    assert masu("run", "--rm", "mine:1", "sh", "-c", "echo $A") == "1\n"
    with (tmp_path / "root.tar").open("rb") as file:
        masu("import", "-", input=file.read())
    assert "<none>" in masu("images")


def test_explain_does_nothing(masu: Masu) -> None:
    shown = masu("explain", "run", "redis")
    assert "redis -> docker.io/library/redis:latest" in shown
    assert "/v2/library/redis/manifests/latest" in shown
    assert "not here" in shown
    assert masu("images", "-q") == ""
    masu("pull", "-q", "redis")
    before = sorted(str(path) for path in masu.root.rglob("*"))
    stages = json.loads(masu("explain", "--json", "run", "-m", "64m", "redis"))
    assert [stage["stage"] for stage in stages] == [
        "reference",
        "manifest",
        "layers",
        "snapshot",
        "config.json",
        "plan",
    ]
    config = stages[4]["data"]
    assert config["linux"]["resources"]["memory"]["limit"] == 64 << 20
    assert [op["op"] for op in stages[5]["data"]][-1] == "exec"
    assert sorted(str(path) for path in masu.root.rglob("*")) == before
    assert "only run and create" in masu.fails("explain", "pull", "x", status=1)
    assert "the machine's own root" in masu("explain", "run", "host", "true")


def test_interrupted_pulls_go_on(masu: Masu, registry: DockerRegistry) -> None:
    process = masu.start("pull", "redis")
    assert process.stdout is not None
    while b"Downloading" not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()
    assert masu("pull", "redis").splitlines()[-1] == "docker.io/library/redis:latest"
    assert os.listdir(masu.root / "ingest") == []


def _made(path: Path) -> Path:
    path.mkdir()
    return path
