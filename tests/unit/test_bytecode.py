"""The pack of byte code (cli/bytecode.py): used, never trusted against the sources, made anew when it is outdated."""

from __future__ import annotations

import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "masu"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, with the times of its files and nothing compiled."""
    place = tmp_path / "src" / "masu"
    shutil.copytree(SOURCE, place, ignore=shutil.ignore_patterns("__pycache__", "libexec"))
    return place


def version(package: Path, *flags: str) -> str:
    """The first line of `masu-oci --version`, or of the error."""
    entry = str(package / "__main__.py")
    done = subprocess.run(
        [sys.executable, "-SIE", *flags, entry, "masu-oci", "--version"], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).splitlines()[0]


def pack_of(package: Path) -> Path:
    return package / "__pycache__" / f"masu.{sys.implementation.cache_tag}.pack"


def made(package: Path) -> tuple[int, int]:
    """Which pack that is."""
    facts = pack_of(package).stat()
    return facts.st_ino, facts.st_mtime_ns


def say(package: Path, number: str) -> os.stat_result:
    """Edits the version that masu-oci tells; how the file was before."""
    file = package / "__init__.py"
    before = file.stat()
    file.write_text(file.read_text().replace('__version__ = "0.1.0"', f'__version__ = "{number}"'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    return before


def test_is_made_by_the_first_command_and_used_by_the_next(package: Path) -> None:
    assert version(package) == "masu-oci version 0.1.0"
    first = made(package)
    # Looking as it did, it is not read: neither is the .pyc, which is gone.
    before = say(package, "9.9.9")
    os.utime(package / "__init__.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    shutil.rmtree(package / "cli" / "__pycache__")
    (package / "__pycache__" / f"__init__.{sys.implementation.cache_tag}.pyc").unlink()
    assert version(package) == "masu-oci version 0.1.0"
    assert made(package) == first


def test_a_source_that_changed_counts_at_once_and_is_packed(package: Path) -> None:
    version(package)
    first = made(package)
    say(package, "9.9.9")
    assert version(package) == "masu-oci version 9.9.9"
    renewed = made(package)
    assert renewed != first
    assert version(package) == "masu-oci version 9.9.9"
    assert made(package) == renewed


def test_a_source_that_came_or_went_counts_at_once(package: Path) -> None:
    version(package)
    first = made(package)
    (package / "cli" / "later.py").write_text("text = 'later'\n")
    start = package / "cli" / "oci" / "__init__.py"
    start.write_text(start.read_text().replace("import __version__", "import __version__\nimport masu.cli.later"))
    assert version(package) == "masu-oci version 0.1.0"
    assert made(package) != first
    (package / "cli" / "later.py").unlink()
    assert version(package) == "Traceback (most recent call last):"


def test_a_folder_that_moved_is_named_as_it_is_now(package: Path, tmp_path: Path) -> None:
    version(package)
    shutil.copytree(package.parent, tmp_path / "moved", copy_function=shutil.copy2)
    moved = tmp_path / "moved" / "masu"
    shutil.rmtree(package)
    code = "from masu.cli import start; print(start.__file__, start.main.__code__.co_filename)"
    entry = moved / "__main__.py"
    before = entry.stat()
    entry.write_text(entry.read_text().replace("main(pack, finder)", f"assert finder; {code}"))
    os.utime(entry, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert version(moved) == f"{moved}/cli/start.py {moved}/cli/start.py"


def test_one_that_is_replaced_while_a_command_runs_is_not_read(package: Path) -> None:
    version(package)
    # What is loaded after the first modules comes from where the index of this very pack says, or not from a pack.
    start = package / "cli" / "start.py"
    old = pack_of(package).read_bytes()
    length = int(old[:8])
    other = old[: 8 + length] + bytes(len(old) - 8 - length)
    (package / "other").write_bytes(other)
    replace = f"    os.rename({str(package / 'other')!r}, {str(pack_of(package))!r})\n    _fill_standard_fds()\n"
    start.write_text(start.read_text().replace("    _fill_standard_fds()\n", replace, 1))
    assert version(package) == "masu-oci version 0.1.0"


def test_that_of_another_interpreter_is_not_used(package: Path) -> None:
    version(package)
    data = pack_of(package).read_bytes()
    length = int(data[:8])
    (_, *own), *rest = marshal.loads(data[8 : 8 + length])
    head = marshal.dumps(((0, *own), *rest))
    pack_of(package).write_bytes(b"%08d" % len(head) + head)  # its byte code is missing
    assert version(package) == "masu-oci version 0.1.0"
    assert pack_of(package).stat().st_size > len(head) + 8


@pytest.mark.parametrize("content", [b"", b"00000001", b"00000001N", b"rubbish and more", b"00000004" + bytes(4)])
def test_a_damaged_one_is_made_anew(package: Path, content: bytes) -> None:
    version(package)
    pack_of(package).write_bytes(content)
    assert version(package) == "masu-oci version 0.1.0"
    assert pack_of(package).stat().st_size > 100_000


def test_one_of_another_version_of_its_reader_is_not_used(package: Path) -> None:
    version(package)
    for name, old, new in (
        ("cli/bytecode.py", "class Finder:", "class OtherFinder:"),
        ("__main__.py", 'names["Finder"]', 'names["OtherFinder"]'),
    ):
        file = package / name
        file.write_text(file.read_text().replace(old, new))
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
        assert version(package) == "masu-oci version 0.1.0"


def test_is_not_made_where_no_byte_code_is_wanted(package: Path) -> None:
    assert version(package, "-B") == "masu-oci version 0.1.0"
    assert not (package / "__pycache__").exists()
