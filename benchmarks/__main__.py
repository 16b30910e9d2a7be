"""`benchmarks/run`: see there."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import commands
import daemons
import engines
import runtimes
import shims
import unpacking
import verbs
from harness.leftovers import cgroups
from measure import Contender, race, render, table

JOBS = (
    "start",
    "lifecycle",
    "rate",
    "verbs",
    "many",
    "commands",
    "engine",
    "callers",
    "memory",
    "daemon",
    "shim",
    "unpack",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/run")
    parser.add_argument("jobs", nargs="*", metavar="|".join(JOBS), help="which (all)")
    parser.add_argument("-n", "--rounds", type=int, default=30, help="times each contender does a short job (30)")
    parser.add_argument("--containers", type=int, default=1000, help="how many `many` makes (1000)")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    options = parser.parse_args()
    unknown = set(options.jobs) - set(JOBS)
    if unknown:
        parser.error(f"no such job: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("needs root: the peers do")
    jobs = options.jobs or JOBS
    print(machine(), flush=True)
    print()
    # Below /var: an overlay's upper directory cannot lie on the tmpfs that /tmp often is.
    before = set(cgroups())
    scratch = Path(tempfile.mkdtemp(prefix="masu-bench-", dir="/var/tmp"))

    def show(text: str) -> None:
        print(text, flush=True)

    try:
        if {"start", "lifecycle", "rate", "verbs", "many"} & set(jobs):
            with runtimes.bundle(scratch) as bundle:
                for job, title in (("start", "run a container, cold"), ("lifecycle", "create, start, delete")):
                    if job in jobs:
                        contenders = getattr(runtimes, job)(scratch / job, bundle)
                        race(contenders, options.rounds)
                        show(table(title, contenders, "runc", markdown=options.markdown))
                if "rate" in jobs:
                    rows = runtimes.rate(scratch / "rate", bundle, options.rounds)
                    show(render("containers a second, so many at a time", rows, markdown=options.markdown))
                if {"verbs", "many"} & set(jobs):
                    runtime_verbs(scratch / "verbs", bundle, jobs, options, show)
        if "commands" in jobs:
            with commands.contenders(scratch / "commands") as contenders:
                race(contenders, options.rounds)
                show(table("masu's own commands", contenders, "floor", markdown=options.markdown))
        if {"engine", "callers", "memory"} & set(jobs):
            with engines.engines(scratch) as found:
                if "engine" in jobs:
                    contenders = engines.start(found)
                    race(contenders, max(3, options.rounds // 2))
                    title = "run --rm of a local image, no network"
                    show(table(title, contenders, "ctr (containerd)", markdown=options.markdown))
                if "callers" in jobs:
                    for name, contenders in engines.callers(found):
                        race(contenders, max(3, options.rounds // 2))
                        show(table(f"{name}: run --rm", contenders, "with runc", markdown=options.markdown))
                if "memory" in jobs:
                    rows = [("", "monitor", "PSS a container")]
                    rows += [(name, what, f"{kb / 1024:.2f} MB") for name, what, kb in engines.monitors(found, 5)]
                    show(render("memory beside each container", rows, markdown=options.markdown))
        if "daemon" in jobs:
            with daemons.servers(scratch / "daemon") as (found_servers, host):
                compare_daemons(found_servers, host, options, show)
        if "shim" in jobs:
            with shims.serving(scratch / "shim") as engine:
                if engine is not None:
                    compare_shims(engine, options, show)
        if "unpack" in jobs:
            for number, title in enumerate(unpacking.LAYERS):
                with unpacking.contenders(scratch / f"unpack{number}", title) as contenders:
                    race(contenders, max(3, options.rounds // 10), warm_up=1)
                    title = f"unpack a layer of {title}"
                    show(table(title, contenders, "ctr snapshots unpack", markdown=options.markdown))
    finally:
        remove_cgroups(before)
        shutil.rmtree(scratch, ignore_errors=True)
        if scratch.exists():
            print(f"could not be removed: {scratch}", file=sys.stderr)
    return 0


def compare_shims(engine: engines.Engine, options: argparse.Namespace, show: Callable[[str], None]) -> None:
    reference = next(iter(shims.RUNTIMES))
    contenders = shims.runs(engine)
    race(contenders, options.rounds)
    show(table("ctr run --rm, each shim", contenders, reference, markdown=options.markdown))
    with shims.one_there(engine):
        contenders = shims.runs(engine)
        race(contenders, options.rounds)
        show(table("ctr run --rm beside another container", contenders, reference, markdown=options.markdown))
    rows = [("", "containers", "PSS of shims and monitors"), *shims.memory(engine)]
    show(render("memory beside containers", rows, markdown=options.markdown))


def runtime_verbs(
    folder: Path, bundle: Path, jobs: Sequence[str], options: argparse.Namespace, show: Callable[[str], None]
) -> None:
    with verbs.peers(folder, bundle) as found:
        if "verbs" in jobs:
            for verb, contenders in verbs.each_verb(found, folder, options.rounds):
                show(table(verb, contenders, "runc", markdown=options.markdown))
            rows = [("", "", "PSS"), *verbs.memory(found)]
            show(render("memory of a container that waits for start", rows, markdown=options.markdown))
        if "many" in jobs:
            contenders = verbs.many(found, options.containers, max(3, options.rounds // 3))
            title = f"with {options.containers} containers"
            show(table(title, contenders, "runc list", markdown=options.markdown))


def compare_daemons(
    found: list[daemons.Server], host: str, options: argparse.Namespace, show: Callable[[str], None]
) -> None:
    def compare(title: str, contenders: Sequence[Contender], rounds: int) -> None:
        race(contenders, rounds)
        show(table(title, contenders, "containerd", markdown=options.markdown))

    compare("ctr run --rm", daemons.runs(found, host), options.rounds)
    with daemons.execs(found, host) as contenders:
        compare("ctr tasks exec", contenders, options.rounds)
    compare("ctr images pull of 1 GB", daemons.pulls(found, host), max(3, options.rounds // 10))
    rows: list[tuple[str, ...]] = [("", "all done"), *daemons.at_once(found, host)]
    show(render(f"{daemons.PULLS} ctr images pull at once", rows, markdown=options.markdown))
    with daemons.listings(found, options.containers) as contenders:
        compare(f"ctr containers ls of {options.containers}", contenders, max(3, options.rounds // 3))
    rows = [("", "events a second"), *daemons.events(found)]
    show(render("events, published and received", rows, markdown=options.markdown))
    count = max(1, options.containers // 5)
    rows = [("", "idle", f"all beside {count} containers"), *daemons.memory(found, host, count)]
    show(render("memory", rows, markdown=options.markdown))


def remove_cgroups(before: set[str]) -> None:
    """Peers leave empty ones: those that are new and have their names or ours."""
    ours = ("/bench-", "/masu-bench", "/libpod_parent", "/default", "/docker")
    for folder in sorted(set(cgroups()) - before, reverse=True):
        if any(name in folder for name in ours):
            try:
                os.rmdir(folder)
            except OSError as error:
                print(f"could not be removed: {error}", file=sys.stderr)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} × {', '.join(names) or platform.machine()}, Linux {platform.release()}, load {load:.1f}"


if __name__ == "__main__":
    sys.exit(main())
