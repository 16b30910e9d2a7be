"""Between asyncio and the synchronous rest of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, but a cancelled caller still waits for the thread to be done.

    A thread cannot be interrupted; without the wait a clean-up would close files under its hands.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # marked as seen: the cancellation is what the caller is told
        raise


def run(main: Coroutine[object, object, T]) -> T:
    """Run `main` to its end from synchronous code, also inside a thread that has a running event loop.

    (Such a thread is blocked meanwhile, as by any other call of the engine.)
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main).result()


def one_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell: of several layers that failed together the first is as good as any."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        inner = [e for e in found.exceptions if not isinstance(e, Exception)] or list(found.exceptions)
        found = inner[0]
    return found
