"""`masu`: the command people type. One file a verb, imported when that verb is typed; thin over `masu.engine`."""

from __future__ import annotations

import os

from masu import __version__
from masu.cli.options import Entry, Flag, Help, Program, UsageError
from masu.errors import MasuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMON = "Common Commands"
_CONTAINERS = "Containers"
_IMAGES = "Images"
_OTHER = "Other Commands"

_VERBS = (
    ("run", "Create and run a new container from an image", _COMMON),
    ("exec", "Execute a command in a running container", _COMMON),
    ("ps", "List containers", _COMMON),
    ("logs", "Fetch the logs of a container", _COMMON),
    ("pull", "Download an image from a registry", _COMMON),
    ("images", "List images", _COMMON),
    ("attach", "Attach local standard input, output, and error streams to a running container", _CONTAINERS),
    ("cp", "Copy files/folders between a container and the local filesystem", _CONTAINERS),
    ("create", "Create a new container", _CONTAINERS),
    ("kill", "Kill one or more running containers", _CONTAINERS),
    ("pause", "Pause all processes within one or more containers", _CONTAINERS),
    ("rename", "Rename a container", _CONTAINERS),
    ("restart", "Restart one or more containers", _CONTAINERS),
    ("rm", "Remove one or more containers", _CONTAINERS),
    ("start", "Start one or more stopped containers", _CONTAINERS),
    ("stats", "Display a live stream of container(s) resource usage statistics", _CONTAINERS),
    ("stop", "Stop one or more running containers", _CONTAINERS),
    ("top", "Display the running processes of a container", _CONTAINERS),
    ("unpause", "Unpause all processes within one or more containers", _CONTAINERS),
    ("wait", "Block until one or more containers stop, then print their exit codes", _CONTAINERS),
    ("history", "Show the history of an image", _IMAGES),
    ("import", "Import the contents from a tarball to create a filesystem image", _IMAGES),
    ("load", "Load an image from a tar archive or STDIN", _IMAGES),
    ("push", "Upload an image to a registry", _IMAGES),
    ("rmi", "Remove one or more images", _IMAGES),
    ("save", "Save one or more images to a tar archive (streamed to STDOUT by default)", _IMAGES),
    ("tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", _IMAGES),
    ("brain", "Show or end the interpreters that wait for commands", _OTHER),
    ("container", "Manage containers: the verbs above, as docker container spells them", _OTHER),
    ("events", "Get events", _OTHER),
    ("explain", "Show what each layer would do for a command, without doing it", _OTHER),
    ("image", "Manage images: the verbs above, as docker image spells them", _OTHER),
    ("inspect", "Return low-level information on containers and images", _OTHER),
    ("version", "Show the version", _OTHER),
    ("volume", "Manage volumes: ls, create, inspect, rm", _OTHER),
)

PROGRAM = Program(
    "masu",
    "[OPTIONS] COMMAND [ARG...]",
    "Containers, from the image registry down to the kernel, without a daemon",
    version=__version__,
    flags=(
        Flag("debug", "D", help="Show where an error comes from"),
        Flag("timings", help="Show on standard error where the time of the command went"),
        Flag("root", value="DIR", help="Where images and containers are kept (/var/lib/masu; $MASU_ROOT)"),
        Flag("run", value="DIR", aliases=("state",), help="Where running containers are kept (/run/masu; $MASU_RUN)"),
        Flag("namespace", "n", value="NAME", help="Which set of containers and images (default; $MASU_NAMESPACE)"),
    ),
    entries=tuple(Entry(name, summary, f"masu.cli.engine.{name}_", group=group) for name, summary, group in _VERBS),
)


def main(argv: Sequence[str]) -> int:
    """Runs one command line; the exit status."""
    debug = False
    try:
        call = PROGRAM.parse(argv)
        debug = call.globals.on("debug")
        assert call.command.run is not None
        if call.globals.on("timings"):
            from masu.cli.timings import timed

            return timed(call)
        return call.command.run(call)
    except Help as help:
        os.write(1, help.text.encode())
        return 0
    except UsageError as error:
        _say(f"masu: {error}" + (f"\n\n{error.usage}" if error.usage else ""))
        return error.status
    except MasuError as error:
        if debug:
            raise
        _say(f"masu: {error}")
        return 1
    except OSError as error:
        if debug or isinstance(error, BrokenPipeError):
            raise
        _say(f"masu: {error.filename}: {error.strerror}" if error.filename else f"masu: {error.strerror}")
        return 1


def _say(text: str) -> None:
    os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
