"""The engines, each with a store and daemon of its own in a scratch folder: masu, containerd, podman, dockerd."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import images
from harness import programs
from harness.subreaper import descendants
from measure import Contender, command

IMAGE = "docker.io/library/busybox:latest"
MASU_OCI = str(Path(programs.ROOT, "src/masu/libexec/masu-oci"))
CONTAINERD_PLUGINS = 'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper"]'
PODMAN_CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


@dataclass
class Engine:
    """`words` start every command of the engine; `run` and `detach` are the verbs for a container of busybox,
    `run_on_masu` is `run` with masu-oci in runc's place."""

    name: str
    words: Sequence[str]
    run: Sequence[str]
    detach: Sequence[str]
    remove: Sequence[str]
    monitor: str
    env: dict[str, str] = field(default_factory=dict)
    run_on_masu: Sequence[str] = ()

    def call(self, *arguments: str) -> None:
        command(*self.words, *arguments, env=self.env)()


@contextmanager
def engines(folder: Path) -> Iterator[list[Engine]]:
    """Those that are installed and came up, the image loaded; all ended and unmounted afterwards."""
    found: list[Engine] = []
    with ExitStack() as stack:
        for make in (masu, masu_warm, containerd, podman, docker):
            try:
                engine = stack.enter_context(make(folder / make.__name__))
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                print(f"{make.__name__} left out: {error}")
                continue
            if engine:
                found.append(engine)
        yield found


def start(found: list[Engine]) -> list[Contender]:
    return [Contender(one.name, command(*one.words, *one.run, env=one.env)) for one in found]


def callers(found: list[Engine]) -> Iterator[tuple[str, list[Contender]]]:
    """Each engine that calls an OCI runtime, with runc and with masu-oci; a brain serves it as it would anybody."""
    for one in found:
        if one.run_on_masu:
            yield (
                one.name,
                [
                    Contender("with runc", command(*one.words, *one.run, env=one.env)),
                    Contender("with masu-oci", command(*one.words, *one.run_on_masu, env=one.env)),
                ],
            )


def monitors(found: list[Engine], count: int) -> list[tuple[str, str, float]]:
    """(engine, monitor, kB of PSS a container) with `count` containers of `sleep` running under each."""
    sizes = []
    for engine in found:
        names = [f"bench-{number}" for number in range(count)]
        before = set(descendants(os.getppid()))
        try:
            for name in names:
                engine.call(*(word.format(name=name) for word in engine.detach))
            pss = [
                pss_kb(pid)
                for pid in set(descendants(os.getppid())) - before
                if engine.monitor in Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").split(" ")[0]
            ]
            sizes.append((engine.name, f"{engine.monitor}, {len(pss)} for {count}", sum(pss) / count))
        finally:
            for name in names:
                for words in engine.remove:
                    call = [*engine.words, *words.format(name=name).split()]
                    subprocess.run(call, env=os.environ | engine.env, capture_output=True, check=False)
    return sizes


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


@contextmanager
def masu(folder: Path, name: str = "masu", brain: str = "off") -> Iterator[Engine | None]:
    front = Path(programs.ROOT, "src/masu/libexec/masu")
    if not front.exists():
        yield None
        return
    words = [str(front), "--root", str(folder / "root"), "--run", str(folder / "run")]
    subprocess.run([*words, "load", "--input", str(images.layout("busybox"))], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*words, "tag", "latest", IMAGE], check=False, capture_output=True)
    yield Engine(
        name,
        words,
        ["run", "--rm", "--network", "none", IMAGE, "/bin/true"],
        ["run", "-d", "--name", "{name}", "--network", "none", IMAGE, "sleep", "1000"],
        ["rm -f {name}"],
        "masu-launch",
        {"MASU_BRAIN": brain},
    )


@contextmanager
def masu_warm(folder: Path) -> Iterator[Engine | None]:
    """By an interpreter that runs already."""
    with masu(folder, "masu warm", "require") as engine:
        yield engine


@contextmanager
def containerd(folder: Path) -> Iterator[Engine | None]:
    if not (shutil.which("containerd") and shutil.which("ctr")):
        print("containerd left out: not installed")
        yield None
        return
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n{CONTAINERD_PLUGINS}\n'
        f'[grpc]\naddress = "{folder}/c.sock"\n'
    )
    words = ["ctr", "--address", f"{folder}/c.sock"]
    with daemon(["containerd", "--config", str(folder / "config.toml")], folder, [*words, "version"]):
        archive = folder / "busybox.tar"
        subprocess.run(["tar", "-C", images.layout("busybox"), "-cf", archive, "."], check=True)
        base = IMAGE.rpartition(":")[0]
        subprocess.run([*words, "images", "import", "--base-name", base, archive], check=True, capture_output=True)
        counter = f"bench-{os.getpid()}"
        yield Engine(
            "ctr (containerd)",
            words,
            ["run", "--rm", IMAGE, counter, "/bin/true"],
            ["run", "-d", IMAGE, "{name}", "sleep", "1000"],
            ["task kill -s 9 {name}", "task rm -f {name}", "container rm {name}"],
            "containerd-shim",
            run_on_masu=["run", "--rm", "--runc-binary", MASU_OCI, IMAGE, counter, "/bin/true"],
        )


@contextmanager
def podman(folder: Path) -> Iterator[Engine | None]:
    if not shutil.which("podman"):
        print("podman left out: not installed")
        yield None
        return
    folder.mkdir(parents=True)
    (folder / "containers.conf").write_text(PODMAN_CONFIG)
    words = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp"]
    words += ["--storage-driver", "overlay"]
    env = {"CONTAINERS_CONF": str(folder / "containers.conf")}
    try:
        archive = folder / "busybox.tar"
        subprocess.run(["tar", "-C", images.layout("busybox"), "-cf", archive, "."], check=True)
        call = [*words, "load", "-q", "-i", str(archive)]
        loaded = subprocess.run(call, env=os.environ | env, check=True, capture_output=True, text=True)
        name = loaded.stdout.split()[-1]
        yield Engine(
            "podman",
            words,
            ["run", "--rm", "--network", "none", name, "/bin/true"],
            ["run", "-d", "--name", "{name}", "--network", "none", name, "sleep", "1000"],
            ["rm -f -t 0 {name}"],
            "conmon",
            env,
            ["--runtime", MASU_OCI, "run", "--rm", "--network", "none", name, "/bin/true"],
        )
    finally:
        subprocess.run([*words, "rm", "-fa", "-t", "0"], env=os.environ | env, capture_output=True, check=False)
        # It binds its overlay folder onto itself and leaves that; each command may have done so once more.
        while not subprocess.run(["umount", f"{folder}/root/overlay"], capture_output=True, check=False).returncode:
            pass


@contextmanager
def docker(folder: Path) -> Iterator[Engine | None]:
    if not (shutil.which("dockerd") and shutil.which("docker") and shutil.which("skopeo")):
        print("docker left out: dockerd, docker or skopeo is not installed")
        yield None
        return
    folder.mkdir(parents=True)
    words = ["docker", "--host", f"unix://{folder}/d.sock"]
    server = ["dockerd", "--host", f"unix://{folder}/d.sock", "--data-root", f"{folder}/root"]
    server += ["--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid", "--oom-score-adjust", "0"]
    server += ["--bridge", "none", "--iptables=false", "--ip-forward=false", "--storage-driver", "overlay2"]
    server += ["--cgroup-parent", "/masu-bench", "--add-runtime", f"masu={MASU_OCI}"]
    with daemon(server, folder, [*words, "version"]):
        archive = folder / "busybox.tar"
        source, target = f"oci:{images.layout('busybox')}", f"docker-archive:{archive}:busybox:latest"
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", source, target], check=True)
        subprocess.run([*words, "load", "-q", "-i", archive], check=True, capture_output=True)
        yield Engine(
            "docker",
            words,
            ["run", "--rm", "--network", "none", "busybox:latest", "/bin/true"],
            ["run", "-d", "--name", "{name}", "--network", "none", "busybox:latest", "sleep", "1000"],
            ["rm -f {name}"],
            "containerd-shim",
            run_on_masu=["run", "--rm", "--runtime", "masu", "--network", "none", "busybox:latest", "/bin/true"],
        )


@contextmanager
def daemon(words: Sequence[str], folder: Path, ready: Sequence[str]) -> Iterator[None]:
    """A daemon until the block ends; it is up when the command `ready` works."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                lines = (folder / "log").read_text(errors="replace").splitlines()
                raise RuntimeError(f"{words[0]} did not come up: {lines[-1] if lines else '(silent)'}")
            # Nothing to wait on: the daemon has no other way to say that it serves.
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
