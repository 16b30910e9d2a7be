"""Images under ill treatment: killed while pulling, loading and unpacking; registries that hang up or lie."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import images
import pytest
import registryfixture as fake
from harness.chaos import PYTHON_WORDS, Brood, Chaos, children_named, finish, kill_after, kill_when, one_error
from harness.engine import wait_until
from registryfixture import FaultyRegistry, TestImage

pytestmark = pytest.mark.root

BIG = fake.random_bytes(6 << 20)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as it:
        yield it


@pytest.fixture
def masu(tmp_path: Path, brood: Brood) -> Iterator[Chaos]:
    it = Chaos(tmp_path)
    yield it
    it.check_consistent(brood)
    it.close()


def busybox(**changes: Any) -> TestImage:
    """The runnable test image as a registry holds it; `changes` go into its config."""
    folder = images.layout("busybox")
    target = json.loads((folder / "index.json").read_text())["manifests"][0]

    def blob(digest: str) -> bytes:
        return (folder / "blobs" / digest.replace(":", "/")).read_bytes()

    manifest = json.loads(blob(target["digest"]))
    config = json.loads(blob(manifest["config"]["digest"])) | changes
    raw = json.dumps(config).encode()
    manifest["config"] |= {"digest": fake.digest_of(raw), "size": len(raw)}
    layers = {layer["digest"]: blob(layer["digest"]) for layer in manifest["layers"]}
    return TestImage(
        target["mediaType"], json.dumps(manifest).encode(), {fake.digest_of(raw): raw, **layers}, layers=tuple(layers)
    )


def last_error(text: str, *words: str) -> str:
    """Progress in plain lines may stand before it."""
    return one_error(text.strip().splitlines()[-1], *words)


def snapshots_on_disk(masu: Chaos) -> list[Path]:
    return sorted(path for driver in masu.files(masu.root / "snapshots") for path in masu.files(driver))


# --- killed ---


def size_of(folder: Path) -> int:
    """Bytes in files below a folder in which somebody is at work: names come and go while we look."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(f"{directory}/{name}").st_size
            except FileNotFoundError:
                pass
    return total


def test_pull_killed_in_a_layer_goes_on_there(masu: Chaos, registry: FaultyRegistry, brood: Brood) -> None:
    image = fake.image([{"big": BIG}], compress=False)
    (layer,) = image.layers
    registry.add("team/app", "1", image)
    name = f"{registry.host}/team/app:1"
    release = threading.Event()
    registry.fault(f"/blobs/{layer}", fake.stall(release, after=4 << 20))
    pulling = masu.start("pull", name, stdout=-3, stderr=-3)
    # On disk, as the next one finds it: nothing of it was in a buffer of ours alone.
    data = masu.root / "ingest"
    kill_when(pulling, lambda: size_of(data) >= 3 << 20)
    release.set()
    brood.wait_gone()
    served = registry.bytes_served(layer)
    assert masu("images", "-q") == ""
    masu("pull", name)
    again = registry.bytes_served(layer) - served
    assert again < (4 << 20), f"{again} bytes were fetched again"
    assert "Range" in [s for s in registry.requests if layer in s.path][-1].headers
    assert masu("images", "--format", "{{.Repository}}").strip() == f"{registry.host}/team/app"


def test_pull_killed_at_any_moment(masu: Chaos, registry: FaultyRegistry, brood: Brood) -> None:
    registry.add("team/box", "1", busybox())
    name = f"{registry.host}/team/box:1"
    for i in range(14):
        kill_after(masu.start("pull", name, stdout=-3, stderr=-3), 0.04 * (i + 1))
        brood.wait_gone()
        if masu("images", "-q"):
            # What is listed is whole.
            assert masu(*masu.run_words("--rm", "--pull", "never", name, "echo", "whole")) == "whole\n"
            masu("rmi", name)
            assert snapshots_on_disk(masu) == []
    masu("pull", name)
    assert masu(*masu.run_words("--rm", name, "echo", "whole")) == "whole\n"


def test_worker_killed_while_it_unpacks(masu: Chaos, registry: FaultyRegistry, brood: Brood) -> None:
    """As soon as it is there, so in the middle."""
    registry.add("team/app", "1", fake.image([{f"{i}": BIG for i in range(8)}]))
    name = f"{registry.host}/team/app:1"
    pulling = masu.start("pull", name)
    while not (workers := children_named(pulling, "masu-unpack")):
        assert pulling.poll() is None
    os.kill(workers[0], signal.SIGKILL)
    assert pulling.wait(60) == 1
    assert pulling.stderr
    last_error(pulling.stderr.read().decode(), "masu-unpack", "signal 9")
    finish(pulling)
    brood.wait_gone()
    masu("pull", name)
    masu("rmi", name)
    assert snapshots_on_disk(masu) == []


def test_masu_killed_while_its_worker_unpacks(masu: Chaos, registry: FaultyRegistry, brood: Brood) -> None:
    registry.add("team/app", "1", fake.image([{f"{i}": BIG for i in range(8)}]))
    name = f"{registry.host}/team/app:1"
    pulling = masu.start("pull", name)
    kill_when(pulling, lambda: children_named(pulling, "masu-unpack"))
    brood.wait_gone()
    masu("pull", name)
    masu("rmi", name)
    assert snapshots_on_disk(masu) == []


def test_load_killed_in_the_middle_of_the_archive(masu: Chaos, brood: Brood, tmp_path: Path) -> None:
    masu.image("busybox")
    archive = tmp_path / "box.tar"
    masu("save", "-o", str(archive), "busybox")
    masu("rmi", "-f", *masu("images", "-q").split())
    data = archive.read_bytes()
    for part in (0.01, 0.5, 0.99):
        loading = masu.start("load")
        assert loading.stdin
        loading.stdin.write(data[: int(len(data) * part)])
        loading.stdin.flush()
        loading.kill()
        finish(loading)
        brood.wait_gone()
        assert masu("images", "-q") == ""
    # The other end of the same: an archive that ends too early.
    last_error(masu.fails("load", input=data[: len(data) // 2]))
    assert masu("images", "-q") == ""
    masu("load", input=data)
    assert masu(*masu.run_words("--rm", "busybox", "echo", "whole")) == "whole\n"


def test_load_and_rmi_killed_at_any_moment(masu: Chaos, brood: Brood) -> None:
    layout = str(images.layout("busybox"))
    masu.image("busybox")
    for i in range(8):
        kill_after(masu.start("load", "-i", layout, stdout=-3), 0.03 * (i + 1))
        brood.wait_gone()
        masu("load", "-i", layout)
        kill_after(masu.start("rmi", "-f", *masu("images", "-q").split()), 0.01 * (i + 1))
        masu("images")

    def leaves_nothing() -> bool:
        masu("load", "-i", layout)
        masu("rmi", "-f", *masu("images", "-q").split())
        return snapshots_on_disk(masu) == []

    wait_until(leaves_nothing)  # by a brain the last that was killed may be at it for a moment
    assert masu.files(masu.root / "blobs/sha256") == []


# --- registries that misbehave ---


def test_registry_that_hangs_up_in_the_middle(masu: Chaos, registry: FaultyRegistry) -> None:
    image = fake.image([{"big": BIG}], compress=False)
    (layer,) = image.layers
    registry.add("team/app", "1", image)
    name = f"{registry.host}/team/app:1"
    registry.fault(f"/blobs/{layer}", fake.hang_up(2 << 20), times=2)
    masu("pull", name)  # it carries on where it was
    assert registry.bytes_served(layer) < (len(BIG) + (2 << 20))
    masu("rmi", name)
    registry.fault(f"/blobs/{layer}", fake.drop(), times=1000)
    last_error(masu.fails("pull", name), registry.host)
    assert masu("images", "-q") == ""


@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
def test_registry_that_sends_something_else(masu: Chaos, registry: FaultyRegistry, what: str) -> None:
    image = fake.image([{"file": b"good"}])
    registry.add("team/app", "1", image)
    name = f"{registry.host}/team/app@{image.digest}"
    part = {
        "layer": f"/blobs/{image.layers[0]}",
        "config": f"/blobs/{next(d for d in image.blobs if d not in image.layers)}",
        "manifest": "/manifests/",
    }[what]
    original = image.manifest if what == "manifest" else image.blobs[part.removeprefix("/blobs/")]
    registry.fault(f"GET /v2/team/app{part}", fake.replace_body(b"x" * len(original)), times=1000)
    said = last_error(masu.fails("pull", name))
    assert "digest" in said or "corrupt" in said, said
    assert masu("images", "-q") == ""


@pytest.mark.parametrize("code", [401, 403, 404])
def test_registry_that_refuses(masu: Chaos, registry: FaultyRegistry, code: int) -> None:
    registry.fault("GET", fake.status(code, {"Retry-After": "0"}), times=10000)
    registry.fault("HEAD", fake.status(code, {"Retry-After": "0"}), times=10000)
    name = f"{registry.host}/team/app:1"
    said = last_error(masu.fails("pull", name), registry.host)
    assert not [word for word in PYTHON_WORDS if word in said]
    last_error(masu.fails("run", "--rm", name, status=125), registry.host)
    assert masu.ids() == []


def test_no_registry_there(masu: Chaos) -> None:
    last_error(masu.fails("pull", "127.0.0.1:1/team/app"), "127.0.0.1:1")
    last_error(masu.fails("run", "--rm", "--pull", "never", "127.0.0.1:1/team/app", status=125), "team/app")
    one_error(masu.fails("pull", "upper/CASE"), "upper/CASE")
    one_error(masu.fails("run", "--rm", "a@sha256:12", status=125), "sha256:12")


# --- images that cannot run here ---


def test_image_for_another_architecture(masu: Chaos, registry: FaultyRegistry) -> None:
    other = busybox(architecture="s390x")
    registry.add("team/other", "1", other)
    registry.add("team/index", "1", fake.index({"linux/s390x": other, "linux/ppc64le": other}))
    name = f"{registry.host}/team/index:1"
    last_error(masu.fails("run", "--rm", name, "true", status=125), "linux/s390x")
    last_error(masu.fails("pull", name), "linux/s390x")
    # A bare manifest says it in its config alone; asked for by platform it may be kept, but not run.
    name = f"{registry.host}/team/other:1"
    done = masu.try_(*masu.run_words("--rm", name, "echo", "hi"))
    if done.returncode:
        last_error(done.stderr, "s390x")
    else:
        # Docker warns and tries: the program decides.
        assert "s390x" in done.stderr
    assert masu.ids() == []


def test_program_for_another_machine_and_missing_interpreter(masu: Chaos, tmp_path: Path) -> None:
    root = images.copy(images.rootfs("busybox"), tmp_path / "rootfs")
    folder = Path(root) if root is not None else tmp_path / "rootfs"
    program = bytearray((folder / "bin/busybox").read_bytes())
    program[18:20] = b"\x16\x00"  # EM_S390, elf(5)
    for name, data in (("foreign", bytes(program)), ("script", b"#!/no/such/interpreter\n"), ("text", b"hello\n")):
        path = folder / "bin" / name
        path.write_bytes(data)
        path.chmod(0o755)
    run = masu.run_words("--rm", "--rootfs", str(folder))
    assert "format" in one_error(masu.fails(*run, "/bin/foreign", status=126), "/bin/foreign")
    assert "interpreter" in one_error(masu.fails(*run, "/bin/script", status=127), "/bin/script")
    assert "format" in one_error(masu.fails(*run, "/bin/text", status=126), "/bin/text")
    one_error(masu.fails(*run, "nosuch", status=127), "nosuch", "not found")
    # The loader that a dynamic program names: the kernel's ENOENT is not about the program itself.
    for loader in (*folder.glob("lib64/ld-*"), *folder.glob("lib/ld-*")):
        loader.unlink()
    one_error(masu.fails(*run, "/bin/busybox", "true", status=127), "/bin/busybox", "interpreter")
    assert masu.ids() == []
