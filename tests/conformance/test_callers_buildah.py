"""Buildah with masu-oci as its runtime: Debian's buildah, unpatched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness.callers import check_shell, document
from harness.callers.buildah import Buildah
from harness.programs import MASU_OCI

pytestmark = pytest.mark.root

RUN = ["run", "--runtime", MASU_OCI]


@pytest.fixture(scope="module")
def working(buildah: Buildah) -> str:
    """A working container, to run commands in."""
    return buildah("from", *buildah.cgroup, "--name", "working", buildah.base).strip()


def test_what_the_document_says(buildah: Buildah, working: str) -> None:
    (words,) = document.commands("Buildah")
    assert buildah(*words[1:]) == "uid=0(root) gid=0(root) groups=0(root)\n"
    assert "`BUILDAH_RUNTIME=/usr/local/bin/masu-oci`" in document.PAGE.read_text()
    missing = buildah.try_("run", "--network", "none", working, "/nothing", env={"BUILDAH_RUNTIME": MASU_OCI})
    assert "the path is looked up inside the container" in missing.stderr  # masu-oci's hint, nobody else's


# (options, command, exit status, what is said: a pattern)
RUNS: dict[str, tuple[list[str], list[str], int, str]] = {
    "status": ([], ["sh", "-c", "exit 5"], 5, "exit status 5"),
    "missing": ([], ["/nothing"], 1, 'exec: "/nothing": stat /nothing: no such file'),
    "user": (["--user", "1000:1001"], ["id"], 0, r"^uid=1000\S* gid=1001"),
    "variable": (["--env", "A=b c"], ["sh", "-c", "echo $A"], 0, "^b c$"),
    "working directory": (["--workingdir", "/tmp"], ["pwd"], 0, "^/tmp$"),
    "host name": (["--hostname", "masu"], ["hostname"], 0, "^masu$"),
    "volume": (["-v", "/etc:/e:ro"], ["touch", "/e/x"], 1, "Read-only file"),
    "no network": (["--network", "none"], ["ip", "addr"], 0, "^1: lo"),
    "host's namespaces": (["--pid", "host", "--uts", "host"], ["sh", "-c", "cat /proc/1/comm"], 0, "."),
    "no pivot": (["--no-pivot"], ["id", "-u"], 0, "^0$"),
    "capabilities": (["--cap-drop", "CAP_CHOWN"], ["chown", "1", "/tmp"], 1, "Operation not permitted"),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_run(buildah: Buildah, working: str, what: str) -> None:
    options, command, status, said = RUNS[what]
    done = buildah.try_(*RUN, "--network", "none", *options, working, "--", *command)
    shown = (done.stdout + done.stderr.replace("\\", "")).strip()
    assert done.returncode == status, shown
    assert re.search(said, shown, re.MULTILINE), shown


def test_stdin(buildah: Buildah, working: str) -> None:
    said = buildah(*RUN, "--network", "none", working, "--", "cat", input=b"through\n")
    assert said == "through\n"


def test_terminal(buildah: Buildah, working: str) -> None:
    check_shell(buildah.terminal(*RUN, "--network", "none", "--terminal", working, "--", "sh"))


def test_what_is_written_stays(buildah: Buildah, working: str) -> None:
    buildah(*RUN, "--network", "none", working, "--", "sh", "-c", "echo kept > /kept")
    assert buildah(*RUN, "--network", "none", working, "--", "cat", "/kept") == "kept\n"


def test_build(buildah: Buildah, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(
        f"FROM {buildah.base}\nRUN echo made > /made && echo maker:x:7:7::/:/bin/sh >> /etc/passwd\n"
        "USER maker\nWORKDIR /tmp\nRUN id -un > who && cat /made who\n"
    )
    build = ["build", "--runtime", MASU_OCI, "--network", "none", *buildah.cgroup]
    assert "made\nmaker\n" in buildah(*build, "-t", "made", str(tmp_path))
    (tmp_path / "Containerfile").write_text(f"FROM {buildah.base}\nRUN exit 9\n")
    assert "exit status 9" in buildah.try_(*build, str(tmp_path)).stderr
