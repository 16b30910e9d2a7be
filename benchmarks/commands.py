"""masu's own commands beside the floor, with a brain and without."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import images
from harness import programs
from measure import Contender, command

COMMANDS = {
    "masu --help": ("--help",),
    "masu ps": ("ps",),
    "masu run --rm host true": ("run", "--rm", "host", "true"),
    "masu exec": ("exec", "bench", "true"),
}


@contextmanager
def contenders(folder: Path) -> Iterator[list[Contender]]:
    """With one container running, for `ps` to show and `exec` to enter."""
    masu = str(Path(programs.ROOT, "src/masu/libexec/masu"))
    words = [masu, "--root", str(folder / "root"), "--run", str(folder / "run")]
    images.copy(images.rootfs("busybox"), folder / "rootfs")
    floor = programs.compile_static(Path(__file__).with_name("floor.c"))
    found = [Contender("floor", command(floor, folder / "rootfs", "/bin/true"), note="bare C, namespaces and mounts")]
    for name, arguments in COMMANDS.items():
        for note, brain in (("warm", "require"), ("cold", "off")):
            found.append(Contender(name, command(*words, *arguments, env={"MASU_BRAIN": brain}), note=note))
    subprocess.run([*words, "run", "-d", "--name", "bench", "host", "sleep", "1000"], check=True, capture_output=True)
    try:
        yield found
    finally:
        subprocess.run([*words, "rm", "-f", "bench"], check=True, capture_output=True)
