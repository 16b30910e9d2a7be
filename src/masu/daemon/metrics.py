"""`[metrics]`: what Prometheus reads on /v1/metrics, by containerd's names where containerd has them.

process_*                          this process
containerd_build_info_total        which program
grpc_server_{started,handled}_total  calls, by service, method, kind and status
container_*                        each container that runs, by its cgroup; v1 and v2 have names of their own
masud_*                            what is bounded, and how full it is
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

import masu
from masu.api.containerd.site import Site
from masu.api.containerd.version import CONTAINERD
from masu.daemon.calls import Calls, Sample
from masu.errors import MasuError
from masu.linux.cgroups.stats import Counter as MemoryCounter
from masu.linux.cgroups.stats import Stats

TEXT = "text/plain; version=0.0.4; charset=utf-8"
# What containerd takes out of v2's memory.stat.
_V2_WORDS = (
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "pgfault", "pgmajfault", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate",
    "pglazyfree", "pglazyfreed",
)  # fmt: skip


def page(site: Site, calls: Calls) -> str:
    """The whole page. Looks at every container that runs: for a thread."""
    found = [*_of_process(), *calls.samples(), *_of_site(site), *_of_containers(site)]
    return "".join(_lines(found))


def application(text: Callable[[], Awaitable[str]]) -> web.Application:
    """Serves the page that `text` gives."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=(await text()).encode(), headers={"Content-Type": TEXT})

    app = web.Application()
    app.router.add_get("/v1/metrics", answer)
    return app


def _of_process() -> Iterator[Sample]:
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    tick, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    # proc_pid_stat(5), counted from "state".
    yield "process_cpu_seconds_total", {}, (int(fields[11]) + int(fields[12])) / tick
    yield "process_start_time_seconds", {}, time.time() - uptime + int(fields[19]) / tick
    yield "process_virtual_memory_bytes", {}, int(fields[20])
    yield "process_resident_memory_bytes", {}, int(fields[21]) * page_bytes
    yield "process_open_fds", {}, len(os.listdir("/proc/self/fd"))
    version = f"{CONTAINERD}+masu.{masu.__version__}"
    yield "containerd_build_info_total", {"version": version, "revision": ""}, 1


def _of_site(site: Site) -> Iterator[Sample]:
    yield "masud_event_subscribers", {}, site.feed.subscribers
    yield "masud_streams", {}, site.streams.count


def _of_containers(site: Site) -> Iterator[Sample]:
    for namespace in site.store.namespaces():
        engine = site.engine(namespace)
        try:
            tasks = engine.tasks.all()
        except MasuError:
            continue
        for task in tasks:
            try:
                stats, mode = engine.tasks.stats(task.container_id)
            except MasuError:
                continue  # it has stopped meanwhile
            labels = {"container_id": task.container_id, "namespace": namespace}
            for name, value in _v2(stats) if mode == "v2" else _v1(stats):
                yield f"container_{name}", labels, value


def _v1(stats: Stats) -> Iterator[tuple[str, float]]:
    if stats.cpu is not None:
        yield "cpu_total_nanoseconds", stats.cpu.total_ns
        yield "cpu_kernel_nanoseconds", stats.cpu.system_ns
        yield "cpu_user_nanoseconds", stats.cpu.user_ns
        yield "cpu_throttle_periods_total", stats.cpu.periods
        yield "cpu_throttled_periods_total", stats.cpu.throttled_periods
        yield "cpu_throttled_time_nanoseconds", stats.cpu.throttled_ns
    if stats.memory is not None:
        for word, value in stats.memory.raw.items():
            yield f"memory_{word}_bytes", value
        for name in ("usage", "swap", "kernel", "kernel_tcp"):
            counter: MemoryCounter | None = getattr(stats.memory, name)
            if counter is not None:
                short = name.replace("_", "")
                yield f"memory_{short}_usage_bytes", counter.usage
                yield f"memory_{short}_max_bytes", counter.peak or 0
                yield f"memory_{short}_failcnt_total", counter.failures
                yield f"memory_{short}_limit_bytes", counter.limit
        yield "memory_oom_total", stats.memory.oom_kills
    yield from _pids(stats)


def _v2(stats: Stats) -> Iterator[tuple[str, float]]:
    if stats.cpu is not None:
        yield "cpu_usage_usec_microseconds", stats.cpu.total_ns // 1000
        yield "cpu_user_usec_microseconds", stats.cpu.user_ns // 1000
        yield "cpu_system_usec_microseconds", stats.cpu.system_ns // 1000
        yield "cpu_nr_periods_total", stats.cpu.periods
        yield "cpu_nr_throttled_total", stats.cpu.throttled_periods
        yield "cpu_throttled_usec_microseconds", stats.cpu.throttled_ns // 1000
    if stats.memory is not None:
        yield "memory_usage_bytes", stats.memory.usage.usage
        yield "memory_usage_limit_bytes", stats.memory.usage.limit
        if stats.memory.swap_only is not None:
            yield "memory_swap_usage_bytes", stats.memory.swap_only.usage
            yield "memory_swap_limit_bytes", stats.memory.swap_only.limit
        for word in _V2_WORDS:
            if word in stats.memory.raw:
                yield f"memory_{word}_bytes", stats.memory.raw[word]
        yield "memory_oom_total", stats.memory.oom_kills
    yield from _pids(stats)


def _pids(stats: Stats) -> Iterator[tuple[str, float]]:
    if stats.pids is not None:
        yield "pids_current", stats.pids.current
        yield "pids_limit", stats.pids.limit


def _lines(samples: list[Sample]) -> Iterator[str]:
    # Of one name together, as the format wants them.
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample[0], []).append(sample)
    for name, found in by_name.items():
        yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n"
        for _, labels, value in found:
            told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{name}{{{told}}} {_number(value)}\n" if told else f"{name} {_number(value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
