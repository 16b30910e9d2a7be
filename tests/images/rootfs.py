"""Directories that are root file systems, built from recipes and kept in the tests' cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from harness.programs import cache

from images.recipes import RECIPES, Recipe

MULTIARCH = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
LIBRARY_FOLDERS = (f"lib/{MULTIARCH}", f"usr/lib/{MULTIARCH}")


def rootfs(name: str) -> Path:
    """The whole root file system of an image: busybox and what the recipe adds. Shared: do not write into it."""

    def make(target: Path) -> None:
        for folder in layers(name):
            copy(folder, target)
        passwd(name, target)

    return once("rootfs", name, make)


def copy(folder: Path, target: Path) -> Path:
    """All that is in `folder` into `target`, which is made when missing: hard links, owners and modes kept."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{folder}/.", target], check=True)
    return target


def layers(name: str) -> list[Path]:
    """The folders that lie on each other, lowest first."""
    base = [once("layer", "busybox", lambda target: _fill(RECIPES["busybox"], target, applets=True))]
    return base if name == "busybox" else [*base, once("layer", name, lambda target: _fill(RECIPES[name], target))]


def passwd(name: str, target: Path) -> None:
    """The users of busybox and of the recipe, a group for each."""
    users = list(dict.fromkeys(RECIPES["busybox"].users + RECIPES[name].users))
    _write(target / "etc/passwd", 0o644, "".join(f"{user}\n" for user in users))
    groups = [user.split(":") for user in users]
    _write(target / "etc/group", 0o644, "".join(f"{fields[0]}:x:{fields[3]}:\n" for fields in groups))


def once(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """Made in a folder of its own and renamed: killed midway it is not there, made twice the first stays."""
    sources = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    release = Path("/etc/os-release").read_bytes()
    key = hashlib.sha256(sources + release + sys.version.encode()).hexdigest()[:12]
    done = cache() / kind / f"{name}-{key}"
    if not done.exists():
        done.parent.mkdir(exist_ok=True)
        unfinished = done.with_suffix(f".{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        unfinished.chmod(0o755)
        try:
            make(unfinished)
            unfinished.rename(done)
        except OSError:
            if not done.exists():
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return done


def _fill(recipe: Recipe, target: Path, *, applets: bool = False) -> None:
    for folder in recipe.folders:
        (target / folder).mkdir(parents=True, exist_ok=True)
    if "tmp" in recipe.folders:
        (target / "tmp").chmod(0o1777)
    for path, (package, inside) in recipe.programs.items():
        program = _program(package, inside)
        _copy_with_libraries(program, target / path, target)
        if applets:
            _applets(target / path)
    if recipe.interpreter:
        _interpreter(target)
    for path, (mode, text) in recipe.files.items():
        _write(target / path, mode, text)
    name = next(name for name, other in RECIPES.items() if other is recipe)
    passwd(name, target)


def _applets(busybox: Path) -> None:
    # Hard links, as in the image that everybody pulls.
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            os.link(busybox, busybox.parent / applet)


def _interpreter(target: Path) -> None:
    """The Python that runs the tests, moved below /usr/local, where it finds its library by its own place."""
    program = Path(os.path.realpath(sys.executable))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    _copy_with_libraries(program, target / "usr/local/bin" / version, target)
    (target / "usr/local/bin/python3").symlink_to(version)
    unwanted = shutil.ignore_patterns(
        "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip", "config-*", "tkinter"
    )
    library = target / "usr/local/lib" / version
    shutil.copytree(sysconfig.get_paths()["stdlib"], library, ignore=unwanted)
    for module in (library / "lib-dynload").glob("*.so"):
        _copy_libraries(module, target)


def _program(package: str, inside: str) -> Path:
    """The program from the installed package, else from the package fetched and taken apart.

    busybox is always fetched when it can be: the one installed may be the static build, which runs its applets
    without exec and so hides mistakes."""
    installed = Path("/", inside)
    if package != "busybox" and installed.exists():
        return installed
    try:
        return _unpacked(package) / inside
    except subprocess.CalledProcessError:
        if installed.exists():
            return installed
        raise


def _unpacked(package: str) -> Path:
    """A Debian package's files in the cache; its libraries that the machine lacks lie in the same tree."""
    done = cache() / "debs" / package
    if not done.exists():
        unfinished = done.with_suffix(f".{os.getpid()}")
        unfinished.mkdir(parents=True)
        try:
            _unpack(package, unfinished)
            for library in _libraries_to_fetch(package):
                _unpack(library, unfinished)
            unfinished.rename(done)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return done


def _unpack(package: str, target: Path) -> None:
    subprocess.run(["apt-get", "download", "-qq", package], cwd=target, check=True, stderr=subprocess.PIPE)
    for deb in target.glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, target], check=True)
        deb.unlink()


def _libraries_to_fetch(package: str) -> list[str]:
    only = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    tree = _output("apt-cache", "depends", "--recurse", *only, package)
    names = re.findall(r"^(lib\S+)$", tree, re.MULTILINE)
    return sorted(set(names) - set(_output("dpkg-query", "-W", "-f", "${Package}\n", *names).split()))


def _output(*command: str, **environment: str) -> str:
    # dpkg-query and ldd fail for a single unknown name and still answer for the others.
    return subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    ).stdout


def _copy_with_libraries(program: Path, place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, place)
    place.chmod(0o755)
    _copy_libraries(program, target)


def _copy_libraries(program: Path, target: Path) -> None:
    """What the dynamic linker finds for `program`, into lib/<multiarch>; the linker itself where the program asks."""
    trees = [str(tree / folder) for tree in (cache() / "debs").glob("*") for folder in LIBRARY_FOLDERS]
    listed = _output("ldd", str(program), LD_LIBRARY_PATH=":".join(trees))
    if "not found" in listed:
        raise RuntimeError(f"{program}: {listed}")
    for path in re.findall(r"(/\S+) \(0x", listed):
        place = target / (path.lstrip("/") if "/ld-linux" in path else f"lib/{MULTIARCH}/{Path(path).name}")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def _write(path: Path, mode: int, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
