"""`[debug]`: a socket that shows what masud is doing, by HTTP.

/debug/tasks                        each task of the event loop, with its stack
/debug/threads                      each thread, with its stack
/debug/pprof/goroutine?debug=2      both: what `ctr pprof goroutines` asks for

curl --unix-socket /run/masu/debug.sock http://masud/debug/tasks
"""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable

from aiohttp import web


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/debug/tasks", _page(tasks))
    app.router.add_get("/debug/threads", _page(threads))
    app.router.add_get("/debug/pprof/goroutine", _page(tasks, threads))
    return app


def _page(*parts: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="\n".join(part() for part in parts))

    return answer


def tasks() -> str:
    """For the event loop's thread."""
    out = io.StringIO()
    found = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    print(f"{len(found)} tasks", file=out)
    for task in found:
        print(f"\ntask {task.get_name()}:", file=out)
        for frame in task.get_stack():
            # gRPC's frames, which are C, have no lines: asyncio's own print_stack stumbles over them.
            code = frame.f_code
            print(f"  {code.co_filename}:{frame.f_lineno or 0} in {code.co_name}", file=out)
    return out.getvalue()


def threads() -> str:
    out = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    print(f"{len(frames)} threads", file=out)
    for ident, frame in frames.items():
        print(f"\nthread {names.get(ident, ident)}:", file=out)
        traceback.print_stack(frame, file=out)
    return out.getvalue()
