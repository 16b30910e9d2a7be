"""The threads that calls of the engine run in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
THREADS = 32


class Threads:
    """A bounded pool; what finds no thread waits for one."""

    def __init__(self, count: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="masud")

    def submit(self, function: Callable[P, T], *values: P.args, **named: P.kwargs) -> Future[T]:
        return self._pool.submit(function, *values, **named)

    async def run(self, function: Callable[..., T], *values: object) -> T:
        """A caller that is cancelled waits all the same: a thread cannot be interrupted, and what it works on must
        not be taken away from under it."""
        done = asyncio.get_running_loop().run_in_executor(self._pool, function, *values)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait({done})
            if not done.cancelled():
                done.exception()  # seen: the cancellation is what is told
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
