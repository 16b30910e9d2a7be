"""The program `masud`: command line, signals, life and end."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import masu
from masu.daemon import config, log, manager, toml
from masu.daemon.config import Config
from masu.errors import InvalidArgument, MasuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.daemon.service import Daemon

logger = logging.getLogger("masud")
_TRANSFER_THREADS = 64


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 when there was an error, which is on standard error then."""
    options = _parser().parse_args(words)
    try:
        return int(options.run(options))
    except MasuError as error:
        print(f"masud: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="masud", description="containerd's API on masu's engine")
    parser.add_argument("--version", "-v", action="version", version=f"masud version {masu.__version__}")
    parser.add_argument("--config", "-c", metavar="FILE", help=f"configuration (default: {config.DEFAULT_FILE})")
    parser.add_argument("--address", "-a", metavar="PATH", help="the gRPC socket")
    parser.add_argument("--root", metavar="DIR", help="what must outlive a reboot")
    parser.add_argument("--state", metavar="DIR", help="what need not")
    parser.add_argument("--log-level", "-l", metavar="LEVEL", choices=list(log.LEVELS), help=", ".join(log.LEVELS))
    parser.set_defaults(run=_serve)
    verbs = parser.add_subparsers(metavar="VERB")
    about = verbs.add_parser("config", help="about the configuration")
    about.set_defaults(run=lambda _: about.error("default, dump or migrate?"))
    what = about.add_subparsers(metavar="WHAT")
    for name, function, text in (
        ("default", lambda _: config.of({}, ""), "what it is when nothing is said"),
        ("dump", _configured, "what it is: the file, its imports, the defaults"),
        ("migrate", _configured, "the same, as it is in the newest version"),
    ):
        verb = what.add_parser(name, help=text)
        verb.set_defaults(run=lambda options, function=function: _print(function(options)))
    publish = verbs.add_parser("publish", help="send the event on standard input, a protobuf Any, to the daemon")
    publish.add_argument("--namespace", default="", help="whose it is")
    publish.add_argument("--topic", default="", help="/tasks/exit")
    publish.set_defaults(run=_publish)
    hook = verbs.add_parser("oci-hook", help="execute a command, {{id}}, {{rootfs}} … filled in from a hook's state")
    hook.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND [ARG...]")
    hook.set_defaults(run=_oci_hook)
    return parser


def _publish(options: argparse.Namespace) -> int:
    from masu.daemon import verbs

    verbs.publish(_configured(options).address, options.namespace, options.topic)
    return 0


def _oci_hook(options: argparse.Namespace) -> int:
    from masu.daemon import verbs

    verbs.oci_hook(options.words[1:] if options.words[:1] == ["--"] else options.words)
    return 0


def _print(found: Config) -> int:
    sys.stdout.write(toml.dumps(found.table))
    return 0


def _configured(options: argparse.Namespace) -> Config:
    """The file, with what the command line says above it. Raises what `config.load` does."""
    found = config.load(options.config)
    for value, path in (
        (options.address, ("grpc", "address")),
        (options.root, ("root",)),
        (options.state, ("state",)),
        (options.log_level, ("debug", "level")),
    ):
        if value is not None:
            found.set(value, *path)
    if found.text("debug", "level") not in log.LEVELS:
        raise InvalidArgument("log level", found.text("debug", "level"), detail=f"one of {', '.join(log.LEVELS)}")
    return found


def _serve(options: argparse.Namespace) -> int:
    from masu.daemon.service import Daemon  # late: gRPC, which `masud config` does not need

    found = _configured(options)
    _begin_log(found)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    daemon = Daemon(found)
    asyncio.run(_live(daemon, options))
    return 0


async def _live(daemon: Daemon, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    # What the registry client does in threads, of all pulls together; those wait for each other's layers.
    loop.set_default_executor(ThreadPoolExecutor(_TRANSFER_THREADS, thread_name_prefix="masud-transfer"))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, daemon, options)
    async with daemon:
        # What is there now stays for good: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        logger.info("masud %s, process %d, serves %s", masu.__version__, os.getpid(), daemon.address)
        manager.notify("READY=1", f"STATUS=serves {daemon.address}")
        await ended.wait()
        manager.notify("STOPPING=1")
        logger.info("ends")


def _begin_log(found: Config) -> None:
    log.begin(found.text("debug", "level"), found.text("debug", "format"))
    for line in found.warnings:
        logger.warning("%s", line)
    for line in found.notes:
        logger.info("%s", line)


def _reload(daemon: Daemon, options: argparse.Namespace) -> None:
    """A configuration with a mistake changes nothing."""
    manager.reloading()
    try:
        found = _configured(options)
        _begin_log(found)
        daemon.reload(found)
        logger.info("read the configuration again")
    except MasuError as error:
        logger.error("the configuration stays as it was: %s", error)
    manager.notify("READY=1")
