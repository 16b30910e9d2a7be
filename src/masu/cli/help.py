"""The pages of `--help`, laid out as Docker's (cobra and pflag): groups of verbs, flags in a column, text wrapped."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.cli.options import Command, Flag, Program


def program_help(program: Program, width: int = 0) -> str:
    """The page of `program --help`."""
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
        out.append("Global Options:\n" + _flag_lines(program.flags, width or _width()))
    out.append(f"Run '{program.name} COMMAND --help' for more information on a command.\n")
    if program.footer:
        out.append(program.footer.strip() + "\n")
    return "\n".join(out)


def command_help(program: Program, command: Command, width: int = 0) -> str:
    """The page of `program VERB --help`."""
    out = [f"Usage:  {program.name} {command.name} {command.usage}".rstrip() + f"\n\n{command.summary}\n"]
    if command.description:
        out.append(command.description.strip() + "\n")
    if command.aliases:
        names = ", ".join(f"{program.name} {name}" for name in (command.name, *command.aliases))
        out.append(f"Aliases:\n  {names}\n")
    if any(not flag.hidden for flag in command.flags):
        out.append("Options:\n" + _flag_lines(command.flags, width or _width()))
    return "\n".join(out)


def _flag_lines(flags: Sequence[Flag], width: int) -> str:
    rows: list[tuple[str, str]] = []
    for flag in sorted((f for f in flags if not f.hidden), key=lambda f: f.name):
        left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.value:
            left += f" {flag.value}"
        rows.append((left, flag.help + _default_text(flag)))
    column = max(len(left) for left, _ in rows) + 3
    lines: list[str] = []
    for left, text in rows:
        wrapped = _wrap(text, max(width - column, 24))
        lines.append((left.ljust(column) + wrapped[0]).rstrip())
        lines.extend(" " * column + line for line in wrapped[1:])
    return "\n".join(lines) + "\n"


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
