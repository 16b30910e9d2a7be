"""The verbs of runc that are not here yet; each says so."""

from __future__ import annotations

from masu.cli.options import Call, Command
from masu.errors import Unimplemented


def run(call: Call) -> int:
    raise Unimplemented(f"masu-oci {call.command.name}", detail="this verb of runc is not here yet")


def command(name: str) -> Command:
    return Command(name, "[arguments...]", "not here yet", arity=(0, None), interspersed=False, run=run)
