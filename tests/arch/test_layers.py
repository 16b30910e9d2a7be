"""The rules of docs/design.md that hold for the source as it is written (import-linter checks the layers).

Read from the syntax trees, so a rule holds for code that no test has run yet.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FILES = sorted((SOURCE / "masu").rglob("*.py"))

# What commands that live for milliseconds import (DESIGN 4 and 9).
COLD = ("__main__", "errors", "spec", "linux", "plan", "runtime", "isolation", "store", "snapshots", "engine", "cli")
# Modules in those packages that only warm commands import: each with the reason.
WARM: dict[str, str] = {
    "masu.cli.brain.call": "a brain loads it ahead of any call",
    "masu.cli.engine.progress": "bars are drawn while something is pulled or unpacked",
    "masu.snapshots.apply": "layers are applied when an image arrives, not when a container starts",
}
# Dear at import time: the price of each is in docs/design.md, 9.
DEAR = frozenset(
    """
    argparse asyncio collections contextlib ctypes dataclasses datetime enum functools hashlib json logging pathlib re
    shutil signal socket struct subprocess tempfile threading typing
    aiohttp click isal msgspec pyroute2 pyseccomp rich zstandard
    """.split()  # noqa: SIM905
)
NAMELESS = ("utils", "util", "helpers", "misc")


def name_of(path: Path) -> str:
    """masu.linux.mount for src/masu/linux/mount.py."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def imports(path: Path, *, at_import_time: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of what the file imports; types-only imports are left out."""

    def walk(node: ast.AST) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                yield from walk(statement)
            return
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name_of(path).split(".")
            if path.name != "__init__.py":
                package.pop()
            start = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            base = ".".join(filter(None, (start, node.module)))
            yield node.lineno, base
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return walk(tree_of(path))


def package_of(path: Path) -> str:
    return name_of(path).partition(".")[2].partition(".")[0] or path.stem


def complain(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(SOURCE.parent)}:{line}"


def test_only_linux_imports_the_extension() -> None:
    complain(
        [
            f"{place(path, line)}: {name} (only masu.linux may)"
            for path in FILES
            if package_of(path) != "linux"
            for line, name in imports(path, at_import_time=False)
            if name == "masu.linux._sys"
        ]
    )


def test_cold_modules_import_nothing_dear() -> None:
    complain(
        [
            f"{place(path, line)}: import {name} at import time (late, in the function that needs it, and why)"
            for path in FILES
            if package_of(path) in COLD and name_of(path) not in WARM
            for line, name in imports(path, at_import_time=True)
            if name.partition(".")[0] in DEAR
        ]
    )


def test_warm_exceptions_are_real() -> None:
    complain([f"{name} is excepted and not there" for name in WARM if name not in map(name_of, FILES)])


def test_asyncio_stays_with_registry_api_and_daemon() -> None:
    complain(
        [
            f"{place(path, line)}: {name}"
            for path in FILES
            if package_of(path) not in ("registry", "api", "daemon")
            for line, name in imports(path, at_import_time=False)
            if name.partition(".")[0] in ("asyncio", "aiohttp")
        ]
    )


def test_libraries_neither_print_nor_exit() -> None:
    found = []
    for path in FILES:
        if package_of(path) in ("cli", "daemon", "__main__"):
            continue
        # What runs as `python -m` is a program.
        library = [node for node in tree_of(path).body if not ast.unparse(node).startswith("if __name__ ==")]
        for node in ast.walk(ast.Module(library, [])):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "exit", "quit", "sys.exit"):
                found.append(f"{place(path, node.lineno)}: {ast.unparse(node.func)}()")
    complain(found)


def test_there_is_no_utils() -> None:
    complain([f"{path}: what is it about?" for path in FILES if path.stem in NAMELESS])


def test_every_module_has_a_first_word() -> None:
    complain([f"{place(path, 1)}: no docstring" for path in FILES if not ast.get_docstring(tree_of(path))])
