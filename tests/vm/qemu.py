"""The form `qemu`: a machine by QEMU with Debian's own kernel, whose package is taken apart, not installed.

By KVM where that works, else by QEMU's own emulation (TCG), which is about ten times slower.
"""

from __future__ import annotations

import gzip
import os
import platform
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness import programs

PROGRAM = "qemu-system-x86_64"
PACKAGE = "linux-image-amd64"
MEMORY_MB = 1024
PROCESSORS = 2
# Loaded before there is a root; all others by modprobe.
FIRST_MODULES = ("virtio_mmio", "9pnet_virtio", "9p")
# Of the package's 400 MB; the drivers of real machines are not wanted.
PARTS = [
    "./boot/vmlinuz-*", "./lib/modules/*/modules.*",
    *(f"./lib/modules/*/kernel/{folder}" for folder in ("arch", "block", "crypto", "fs", "lib", "mm", "net")),
    *(f"./lib/modules/*/kernel/drivers/{folder}" for folder in ("block", "md", "virtio")),
    "./lib/modules/*/kernel/drivers/net/*.ko",
]  # fmt: skip
# How long a kernel may take to its first line. Emulated by a KVM that is itself emulated, it never comes so far.
FIRST_LINE_S = 4


class Missing(Exception):
    """What a guest needs is not on this machine and could not be had."""


def command(folder: Path, init: Path, *arguments: str) -> list[str]:
    """QEMU's command line for a guest whose first program is `init`, with these in its environment (NAME=VALUE); its
    console is stdio, `folder` is for files of the guest.

    Raises Missing.
    """
    linux = kernel()
    initramfs = folder / "initramfs"
    initramfs.write_bytes(gzip.compress(archive(contents(linux)), 1))
    return [
        *_machine(linux, "kvm" if _kvm_works(linux) else "tcg", [f"then={init}", f"modules={linux}", *arguments]),
        "-initrd", str(initramfs),
        "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-device,fsdev=root,mount_tag=root",
    ]  # fmt: skip


def _machine(linux: Path, accelerator: str, arguments: list[str]) -> list[str]:
    # Without these two the kernel measures its clocks against each other, which on a busy host may take it for ever.
    calibrated = ["lpj=10000000", "tsc_early_khz=2000000"]
    return [
        PROGRAM, "-M", f"microvm,accel={accelerator}", "-cpu", "max", "-smp", f"{PROCESSORS}", "-m", f"{MEMORY_MB}M",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-kernel", str(linux / "vmlinuz"),
        "-append", " ".join(["console=ttyS0", "quiet", "panic=-1", "pci=off", *calibrated, *arguments]),
    ]  # fmt: skip


def kernel() -> Path:
    """A folder with Debian's kernel, `vmlinuz`, and its modules below `lib/modules`; in the cache."""
    if platform.machine() != "x86_64":
        raise Missing(f"{PACKAGE} is not for {platform.machine()}")
    folder = programs.cache() / PACKAGE
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(dir=programs.cache()) as unfinished:
        package = _download(Path(unfinished))
        tree = Path(unfinished) / "tree"
        tree.mkdir()
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as reading:
            subprocess.run(["tar", "-x", "--wildcards", "-C", tree, *PARTS], stdin=reading.stdout, check=True)
        next((tree / "boot").glob("vmlinuz-*")).rename(tree / "vmlinuz")
        (version,) = (tree / "lib/modules").iterdir()
        subprocess.run(["depmod", "-b", tree, version.name], check=True)
        try:
            tree.rename(folder)
        except OSError:  # somebody else was faster
            if not folder.exists():
                raise
    return folder


def _download(folder: Path) -> Path:
    """The package with the newest kernel's files, of which PACKAGE only says the name."""
    for tool in ("apt-get", "apt-cache", "dpkg-deb", "depmod"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed, and so {PACKAGE} cannot be had")
    depends = subprocess.run(["apt-cache", "depends", PACKAGE], capture_output=True, text=True).stdout.splitlines()
    names = [line.split()[1] for line in depends if "Depends: linux-image-" in line]
    if not names:
        raise Missing(f"apt knows no package {PACKAGE}")
    options = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"]
    done = subprocess.run(
        ["apt-get", "-qq", *options, "download", names[0]], cwd=folder, capture_output=True, text=True
    )
    found = list(folder.glob("*.deb"))
    if done.returncode != 0 or not found:
        raise Missing(f"{names[0]} could not be downloaded: {done.stderr.strip()}")
    return found[0]


def contents(linux: Path) -> dict[str, tuple[int, bytes]]:
    """What is in the initramfs: {name: (mode, content)}."""
    (version,) = (linux / "lib/modules").iterdir()
    modules: list[Path] = []
    for name in FIRST_MODULES:
        told = subprocess.run(
            ["modprobe", "-d", linux, "-S", version.name, "--show-depends", name],
            capture_output=True, text=True, check=True, env={**os.environ, "MODPROBE_OPTIONS": ""},
        )  # fmt: skip
        modules += [Path(line.split()[1]) for line in told.stdout.splitlines() if line.startswith("insmod ")]
    init = programs.compile_static(Path(__file__).with_name("initramfs.c")).read_bytes()
    return {
        "init": (0o100755, init),
        "root": (0o040755, b""),
        "modules": (0o040755, b""),
        **{
            f"modules/{number:02}-{module.name}": (0o100644, module.read_bytes())
            for number, module in enumerate(dict.fromkeys(modules))
        },
    }


def archive(files: dict[str, tuple[int, bytes]]) -> bytes:
    """These files in cpio's format `newc` (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    parts: list[bytes] = []
    for number, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        parts += [head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)]
    return b"".join(parts)


def _kvm_works(linux: Path) -> bool:
    """Whether a kernel gets anywhere by KVM: that there is /dev/kvm says little. Asked once a boot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = programs.cache() / f"kvm-{boot}"
    if not answer.exists():
        works = _says_something([*_machine(linux, "kvm", []), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"])
        answer.write_text("yes" if works else "no")
    return answer.read_text() == "yes"


def _says_something(argv: list[str]) -> bool:
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as guest:
        assert guest.stdout is not None
        said, end = b"", time.monotonic() + FIRST_LINE_S
        try:
            while b"Linux version" not in said:
                ready = select.select([guest.stdout], [], [], max(0, end - time.monotonic()))[0]
                more = os.read(guest.stdout.fileno(), 65536) if ready else b""
                if not more:
                    return False
                said += more
            return True
        finally:
            guest.kill()
