"""Rules for every test: who may run it, what may be skipped, what may be left behind."""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from harness import leftovers, programs
from harness.keepers import held

from masu.store import NamespaceStore, Store, open_store

# A guest (tests/vm) has a list of its own.
# What a brain does is tested where it is asked for; no test is to start one that outlives it.
os.environ.setdefault("MASU_BRAIN", "off")

SKIPS = Path(os.environ.get("MASU_TEST_SKIPS") or Path(__file__).parent / "expected-skips.txt")


COLD_ONLY = Path(__file__).parent / "cold-only.txt"


def by_a_brain() -> bool:
    return os.environ["MASU_BRAIN"] == "require"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if by_a_brain():
        patterns = [line.partition(" #")[0].strip() for line in COLD_ONLY.read_text().splitlines() if line[:1] != "#"]
        cold = [item for item in items if any(fnmatch.fnmatchcase(item.nodeid, pattern) for pattern in patterns)]
        config.hook.pytest_deselected(items=cold)
        items[:] = [item for item in items if item not in cold]
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """The last word of a run: being the first fixture of the session it is torn down after all others."""
    if not os.environ.get("MASU_TEST_LEFTOVERS"):
        yield
        return
    before = leftovers.snapshot()
    yield
    found = leftovers.left(before, leftovers.snapshot())
    if found:
        pytest.fail("the tests left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def brain(nothing_left_behind: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """With MASU_BRAIN=require, one brain for all tests: started here, kept from leaving by a call that goes on."""
    if not by_a_brain():
        yield
        return
    with held(programs.ROOT / "src" / "masu", tmp_path_factory.mktemp("brain")):
        yield


class Skips:
    """In CI a skip must be one that tests/expected-skips.txt names with its reason."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []
        self.expected = [
            (pattern.strip(), reason.strip())
            for line in SKIPS.read_text().splitlines()
            if line.strip() and not line.startswith("#")
            for pattern, _, reason in [line.partition("#")]
        ]

    def saw(self, nodeid: str, why: object) -> None:
        text = why[2] if isinstance(why, tuple) else str(why)
        if not any(fnmatch.fnmatchcase(nodeid, pattern) for pattern, _ in self.expected):
            self.unexpected.append(f"{nodeid}: {text.removeprefix('Skipped: ')}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.saw(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.saw(report.nodeid, report.longrepr)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexpected:
            terminalreporter.section("skips that tests/expected-skips.txt does not name", red=True)
            for line in self.unexpected:
                terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    # By chance at a desk, where a find is welcome; the same cases each time where it would stop somebody else's work.
    hypothesis.settings.register_profile("ci", derandomize=True)
    if os.environ.get("CI"):
        hypothesis.settings.load_profile("ci")
        config.pluginmanager.register(Skips(), "masu-skips")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "state"))


@pytest.fixture
def ns(store: Store) -> NamespaceStore:
    return store.namespace()


@pytest.fixture(scope="session")
def probe() -> Path:
    """The static program that tests run inside containers: tests/probe/probe.c says what it can tell."""
    return programs.probe()


@pytest.fixture(scope="session")
def probe_rootfs(probe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with the probe and nothing else but the usual empty directories. Not to be written to."""
    return make_probe_rootfs(probe, tmp_path_factory.mktemp("probe") / "rootfs")


@pytest.fixture
def own_probe_rootfs(probe: Path, tmp_path: Path) -> Path:
    """The same for one test alone, which may change it."""
    return make_probe_rootfs(probe, tmp_path / "rootfs")


def make_probe_rootfs(probe: Path, root: Path) -> Path:
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "home"):
        (root / folder).mkdir(parents=True)
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/probe\nuser:x:1000:1000::/home:/bin/probe\n")
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
    shutil.copy(probe, root / "bin/probe")
    return root


@pytest.fixture(scope="session")
def criu() -> str:
    """A CRIU that works on this kernel."""
    program = programs.peer("criu")
    checked = subprocess.run([program, "check"], capture_output=True, text=True, check=False)
    if checked.returncode != 0:
        pytest.skip(f"criu check: {(checked.stdout + checked.stderr).strip().splitlines()[-1]}")
    return program
