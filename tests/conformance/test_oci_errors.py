"""Every mistake of tests/harness/mistakes, made for real: what masu-oci says of it, and that nothing is left.

`PYTHONPATH=src:tests python -m conformance.test_oci_errors` makes them all on runc, too, and writes docs/errors.md
anew; the change is then read in the diff.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import programs
from harness.chaos import PYTHON_WORDS, Brood
from harness.mistakes import Mistake, Scene, document, files, life, limits, program
from harness.oci import Runtime

pytestmark = pytest.mark.root

PAGE = programs.ROOT / "docs" / "errors.md"
SECTIONS = {
    "The program": program.MISTAKES,
    "The root file system, mounts and devices": files.MISTAKES,
    "The bundle, security and namespaces": document.MISTAKES,
    "Limits": limits.MISTAKES,
    "Life cycle, terminals, hooks, files of the runtime": life.MISTAKES,
}
MISTAKES = [mistake for section in SECTIONS.values() for mistake in section]


class Answer:
    """What a runtime said of a mistake, its exit status, and what it left behind."""

    def __init__(self, name: str, mistake: Mistake, rootfs: Path, folder: Path) -> None:
        runtime = Runtime(name, folder)
        with Brood() as brood:
            scene = Scene(runtime, rootfs)
            try:
                done = mistake.make(scene)
                self.text = scene.said(done)
                self.status = done.returncode
                self.left = scene.left_of_the_unborn()
            finally:
                scene.close()
            self.left += scene.left() + [f"process {pid}" for pid in brood.pids()]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name.replace(" ", "-") for mistake in MISTAKES])
def test_mistake(mistake: Mistake, probe_rootfs: Path, tmp_path: Path) -> None:
    if why_not := mistake.why_not():
        pytest.skip(why_not)
    answer = Answer("masu-oci", mistake, probe_rootfs, tmp_path)
    missing = [part for part in mistake.parts if part not in answer.text]
    assert not missing, f"{missing} not in:\n{answer.text}"
    assert answer.status == mistake.status, answer.text
    assert not answer.left
    assert not [word for word in PYTHON_WORDS if word in answer.text], answer.text
    assert answer.text == _published()[mistake.name][0], f"not what {PAGE.name} says: {__doc__}"


def test_the_page_has_every_mistake() -> None:
    assert PAGE.read_text() == page(_published())


# --- the page

_HEAD = """\
# What masu-oci says when something is wrong

Every class of mistake that people bring to the issue trackers of container runtimes, made once, with the answers of \
masu-oci and of runc {version}. The table is made by `tests/conformance/test_oci_errors.py`, and each of our answers \
is checked there.

An answer names the place in config.json (or the flag), what was done to which object, the system call and its errno, \
what the kernel or the file says about it, and in parentheses what can be done. Where callers match on runc's words, \
those are in it. With `--log-format json` the same comes as fields: `where`, `what`, `object`, `syscall`, `errno`, \
`detail`, `hint`.

`box` is the container; the bundle is `/bundle`, `--root` is `/run/oci`, other files are in `/tmp`. "(nothing)" is an \
accepted mistake without a word.
"""
_ROW = re.compile(r"^\| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
_NOTHING = "(nothing)"


def page(rows: dict[str, tuple[str, str]], version: str = "") -> str:
    version = version or _version()
    parts = [_HEAD.format(version=version)]
    for heading, mistakes in SECTIONS.items():
        parts.append(f"\n## {heading}\n\n| mistake | masu-oci says | runc {version} says |\n| --- | --- | --- |\n")
        for mistake in mistakes:
            ours, theirs = rows[mistake.name]
            parts.append(f"| {mistake.name} | {_cell(ours)} | {_cell(theirs)} |\n")
    return "".join(parts)


def _version() -> str:
    """That of runc on the page."""
    (version,) = set(re.findall(r"\| runc (\S+) says \|", PAGE.read_text()))
    return str(version)


def _published() -> dict[str, tuple[str, str]]:
    return {name: (_text(ours), _text(theirs)) for name, ours, theirs in _ROW.findall(PAGE.read_text())}


def _cell(text: str) -> str:
    for plain, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("`", "&#96;")):
        text = text.replace(plain, written)
    return f"<code>{text}</code>".replace("\n", "<br>") if text else _NOTHING


def _text(cell: str) -> str:
    text = "" if cell == _NOTHING else cell.removeprefix("<code>").removesuffix("</code>").replace("<br>", "\n")
    for plain, written in (("`", "&#96;"), ("|", "&#124;"), (">", "&gt;"), ("<", "&lt;"), ("&", "&amp;")):
        text = text.replace(written, plain)
    return text


def _answers(folder: Path, rootfs: Path, only: str) -> Iterator[tuple[Mistake, list[Answer]]]:
    for mistake in MISTAKES:
        if only in mistake.name:
            answers = []
            for name in ("masu-oci", "runc"):
                place = folder / f"{name}-{mistake.name.replace(' ', '-').replace('/', '-')}"
                place.mkdir()
                answers.append(Answer(name, mistake, rootfs, place))
            yield mistake, answers


def write(only: str = "", *, show: bool = False) -> None:
    import subprocess

    from conftest import make_probe_rootfs

    version = subprocess.run([programs.peer("runc"), "--version"], capture_output=True, text=True, check=True).stdout
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rootfs = make_probe_rootfs(programs.probe(), folder / "rootfs")
        for mistake, (ours, theirs) in _answers(folder, rootfs, only):
            rows[mistake.name] = ours.text, theirs.text
            if show:
                missing = [part for part in mistake.parts if part not in ours.text]
                print(f"== {mistake.name}\n   masu {ours.status}: {ours.text}\n   runc {theirs.status}: {theirs.text}")
                if missing or ours.status != mistake.status or ours.left:
                    print(f"   !! missing {missing} left {ours.left} wanted status {mistake.status}")
    if not show:
        PAGE.write_text(page(rows, version.split()[2].partition("+")[0]))


if __name__ == "__main__":
    write(*sys.argv[2:3], show=sys.argv[1:2] == ["--show"])
