"""The two ways masu is had: a checkout's ./masu and ./masu-oci, and `pip install`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import programs


def run(
    *words: str | Path, cwd: str | Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as a clone has it: no build. The packages are this checkout's, so that nothing is fetched."""
    place = tmp_path_factory.mktemp("clone") / "masu"
    unwanted = shutil.ignore_patterns(".git", ".venv", "build", "*.so", "libexec", "__pycache__", ".*_cache")
    shutil.copytree(programs.ROOT, place, symlinks=True, ignore=unwanted)
    (place / ".venv").symlink_to(programs.ROOT / ".venv")
    return place


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options: list[str | Path] = ["--no-build-isolation", "--no-deps", "--disable-pip-version-check", "-q", "-w", folder]
    # The build is ninja's, which the checkout's venv has.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = run(sys.executable, "-m", "pip", "wheel", *options, checkout, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_several_first_starts_at_once_build_once(checkout: Path) -> None:
    command, pipe = [str(checkout / "masu-oci"), "--version"], subprocess.PIPE
    started = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert all(out.startswith("masu-oci version") for out, _ in ended)
    assert (checkout / "build/prepare.log").read_text().count("ninja -C") == 1


def test_through_symlinks_from_anywhere_without_path(checkout: Path, tmp_path: Path) -> None:
    run(checkout / "masu-oci", "--version")
    (tmp_path / "direct").symlink_to(checkout / "masu-oci")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/indirect").symlink_to("../direct")
    for words in ([str(tmp_path / "deep/indirect")], ["deep/indirect"], ["sh", "deep/indirect"]):
        environment = {"MASU_BRAIN": "off"} | ({"PATH": "/usr/bin:/bin"} if words[0] == "sh" else {})
        done = run(*words, "--version", cwd=tmp_path, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), (words, done)
        assert done.stdout.startswith("masu-oci version")


def test_a_newer_source_is_built_before_the_command_runs(checkout: Path) -> None:
    run(checkout / "masu-oci", "--version")
    built = checkout / "src/masu/libexec/masu-launch"
    built.unlink()
    (checkout / "native/launch/main.c").touch()
    done = run(checkout / "masu-oci", "--version")
    assert done.returncode == 0, done.stderr
    assert built.stat().st_mode & 0o777 == 0o755


def test_source_that_does_not_compile_is_told_and_nothing_runs(checkout: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkout, broken, symlinks=True)
    with (broken / "native/launch/main.c").open("a") as source:
        source.write("\nint broken(void) { return nothing; }\n")
    done = run(broken / "masu-oci", "--version")
    assert done.returncode == 125
    assert done.stdout == ""
    assert "nothing" in done.stderr
    assert "masu: compiling failed" in done.stderr


def test_pip_installs_commands_that_run(wheel: Path, tmp_path: Path) -> None:
    assert "-abi3-" in wheel.name, "one wheel for every CPython from 3.11 on"
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "-q"]
    done = run(*pip, "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    (tmp_path / "masu-oci").symlink_to(venv / "bin/masu-oci")
    for command in (venv / "bin/masu-oci", tmp_path / "masu-oci"):
        done = run(command, "--version", cwd="/")
        assert (done.returncode, done.stderr) == (0, ""), done
    done = run(venv / "bin/masu", "--help", cwd="/")
    assert done.returncode == 0, done.stderr
    done = run(venv / "bin/containerd-shim-masu-v2", "-v", cwd="/")
    assert (done.stderr, done.stdout[:24]) == ("", "containerd-shim-masu-v2:")
    # Its gRPC is not in this venv: what it says by itself needs none.
    assert run(venv / "bin/masud", "--version", cwd="/").stdout.startswith("masud version")
    # What cannot be found by looking beside the command is found by the interpreter that pip wrote down.
    (tmp_path / "bin").mkdir()
    for name in ("masu-oci", "masu-python"):
        shutil.copy(venv / "bin" / name, tmp_path / "bin")
    done = run(tmp_path / "bin/masu-oci", "--version", cwd="/")
    assert (done.returncode, done.stderr, done.stdout[:16]) == (0, "", "masu-oci version")
    done = run(tmp_path / "bin/masu-oci", "state", "nobody", cwd="/", env={"MASU_BRAIN": "off"})
    assert (done.returncode, "nobody" in done.stderr) == (1, True), done
    (package,) = venv.glob("lib/python3*/site-packages/masu")
    for helper in ("masu-launch", "masu-unpack"):
        assert (package / "libexec" / helper).stat().st_mode & 0o777 == 0o755
    done = run(venv / "bin/python", "-c", "import masu.linux._sys; print(masu.__file__)", cwd="/")
    assert done.stdout.strip() == str(package / "__init__.py"), done.stderr


def test_commands_say_which_package_is_missing(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    run(sys.executable, "-m", "pip", "--python", venv / "bin/python", "-q", "install", "--no-deps", "--no-index", wheel)
    (site,) = venv.glob("lib/python3*/site-packages")
    ask = f"import sys; sys.path[0] = {str(site)!r}\nfrom masu.cli import thirdparty\nthirdparty.enable('aiohttp')"
    done = run(venv / "bin/python", "-SIEc", ask)
    assert "python package aiohttp: unavailable: not installed (pip install masu brings it)" in done.stderr
