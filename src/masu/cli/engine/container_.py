"""`masu container VERB`."""

from __future__ import annotations

from masu.cli.engine.management import command

COMMAND = command("container")
