"""The pages of `--help`, laid out as Docker's (cobra and pflag): groups of verbs, flags in a column, text wrapped; in
runc's dialect as runc's (urfave/cli): NAME, USAGE, OPTIONS, each with what is indented below it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.cli.options import Command, Flag, Program


def program_help(program: Program, width: int = 0) -> str:
    """The page of `program --help`."""
    width = width or _width()
    if program.dialect == "runc":
        return _sections(
            ("NAME", f"{program.name} - {program.summary}"),
            ("USAGE", f"{program.name} {program.usage}"),
            ("VERSION", program.version),
            ("COMMANDS", [(entry.name, entry.summary) for entry in program.entries if not entry.hidden]),
            ("GLOBAL OPTIONS", _flag_rows(program.flags)),
            width=width,
        )
    out = [f"Usage:  {program.name} {program.usage}\n\n{program.summary}\n"]
    if program.description:
        out.append(program.description.strip() + "\n")
    shown = [entry for entry in program.entries if not entry.hidden]
    pad = max((len(entry.name) for entry in shown), default=0)
    groups: list[str] = []
    for entry in shown:
        if entry.group not in groups:
            groups.append(entry.group)
    for group in groups:
        lines = [f"  {e.name.ljust(pad)}  {e.summary}" for e in shown if e.group == group]
        out.append((group or "Commands") + ":\n" + "\n".join(lines) + "\n")
    if program.flags:
        out.append("Global Options:\n" + _flag_lines(program.flags, width))
    out.append(f"Run '{program.name} COMMAND --help' for more information on a command.\n")
    if program.footer:
        out.append(program.footer.strip() + "\n")
    return "\n".join(out)


def command_help(program: Program, command: Command, width: int = 0) -> str:
    """The page of `program VERB --help`."""
    width = width or _width()
    if program.dialect == "runc":
        return _sections(
            ("NAME", f"{program.name} {command.name} - {command.summary}"),
            ("USAGE", f"{program.name} {command.name} {command.usage}"),
            ("DESCRIPTION", command.description.strip()),
            ("OPTIONS", _flag_rows(command.flags)),
            width=width,
        )
    out = [f"Usage:  {program.name} {command.name} {command.usage}".rstrip() + f"\n\n{command.summary}\n"]
    if command.description:
        out.append(command.description.strip() + "\n")
    if command.aliases:
        names = ", ".join(f"{program.name} {name}" for name in (command.name, *command.aliases))
        out.append(f"Aliases:\n  {names}\n")
    if any(not flag.hidden for flag in command.flags):
        out.append("Options:\n" + _flag_lines(command.flags, width))
    return "\n".join(out)


def _flag_lines(flags: Sequence[Flag], width: int) -> str:
    rows: list[tuple[str, str]] = []
    for flag in sorted((f for f in flags if not f.hidden), key=lambda f: f.name):
        left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.value:
            left += f" {flag.value}"
        rows.append((left, flag.help + _default_text(flag)))
    return _columns(rows, width, gap=3) + "\n"


def _columns(rows: list[tuple[str, str]], width: int, *, gap: int = 2) -> str:
    column = max((len(left) for left, _ in rows), default=0) + gap
    lines: list[str] = []
    for left, text in rows:
        wrapped = _wrap(text, max(width - column, 24))
        lines.append((left.ljust(column) + wrapped[0]).rstrip())
        lines.extend(" " * column + line for line in wrapped[1:])
    return "\n".join(lines)


def _sections(*sections: tuple[str, str | list[tuple[str, str]]], width: int) -> str:
    """runc's page: titles, and below each a text or columns; a section without them is left out."""
    out = []
    for title, content in sections:
        text = content if isinstance(content, str) else _columns(content, width - 3)
        if text:
            out.append(f"{title}:\n   " + text.replace("\n", "\n   ") + "\n")
    return "\n".join(out)


def _flag_rows(flags: Sequence[Flag]) -> list[tuple[str, str]]:
    """As runc lists them: in the order in which they are declared, the short name behind the long one."""
    rows = []
    for flag in flags:
        value = f" {flag.value}" if flag.value else ""
        names = [f"--{flag.name}{value}", *([f"-{flag.short}{value}"] if flag.short else [])]
        if not flag.hidden:
            rows.append((", ".join(names), flag.help + _default_text(flag)))
    return rows


def _default_text(flag: Flag) -> str:
    if flag.default in (None, "", False, 0) or flag.repeated:
        return ""
    if isinstance(flag.default, str):
        return f' (default "{flag.default}")'
    return f" (default {str(flag.default).lower() if isinstance(flag.default, bool) else flag.default})"


def _wrap(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and len(line) + 1 + len(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines


def _width() -> int:
    try:
        return min(os.get_terminal_size(1).columns or 80, 120) - 1
    except OSError:
        return 79
