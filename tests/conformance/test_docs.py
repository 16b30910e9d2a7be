"""Every command that the documents show is run, as it is printed, block by block.

Blocks marked `sh` are run in a shell in the checkout (without `sudo`), blocks marked `python` in the interpreter;
`console` and `toml` are only shown. Commands find their images in a registry on loopback through a rule for every
registry, so that `redis` means what it means to the reader.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from harness.programs import ROOT
from registryfixture import DockerRegistry

pytestmark = pytest.mark.root

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


SHELL = [(page, text) for page in PAGES for text in blocks(page, "sh")]
PYTHON = [(page, text) for page in PAGES for text in blocks(page, "python")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("docs")
    with DockerRegistry(folder) as registry:
        images.push("redis", registry.url.removeprefix("http://"))
        rules = folder / "registries.toml"
        rules.write_text(
            f'[[registry]]\nname = "*"\nfallback = false\n[[registry.mirror]]\nurl = "{registry.url}"\n'
        )
        state = {"MASU_ROOT": str(folder / "root"), "MASU_RUN": str(folder / "run"), "MASU_REGISTRIES": str(rules)}
        environment = {**os.environ, **state}
        yield environment
        shell("./masu rm --force $(./masu ps -aq) 2>/dev/null; true", environment)


def shell(text: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-ec", text.replace("sudo ", "")],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(("page", "text"), SHELL, ids=[f"{page.stem}-{n}" for n, (page, _) in enumerate(SHELL)])
def test_shell_block(page: Path, text: str, environment: dict[str, str]) -> None:
    done = shell(text, environment)
    assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(("page", "text"), PYTHON, ids=[f"{page.stem}-{n}" for n, (page, _) in enumerate(PYTHON)])
def test_python_block(page: Path, text: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**environment, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout}\n{done.stderr}"
