"""What the documents tell a user to write, section by section, with this checkout's masu-oci in its place."""

from __future__ import annotations

import re
import shlex

from harness.programs import MASU_OCI, ROOT

PAGE = ROOT / "docs" / "oci-runtime.md"
INSTALLED = "/usr/local/bin/masu-oci"


def snippet(section: str, language: str, page: str = PAGE.name) -> str:
    """The one block of that language below the heading `section` of a page in docs/."""
    text = re.split(rf"^## {re.escape(section)}$", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)[1]
    text = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return str(found).replace(INSTALLED, MASU_OCI)


def commands(section: str, page: str = PAGE.name) -> list[list[str]]:
    """The commands of its `console` block, in words."""
    return [shlex.split(line) for line in snippet(section, "console", page).splitlines()]
