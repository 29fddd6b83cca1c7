"""Threads that run requests, with a limit of those that run and wait."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from kreid.serving.refusal import RequestRefused

_Result = TypeVar("_Result")


class Workers:
    """Threads that run the requests of coroutines in one event loop.

    Args:
        threads: number of requests that run at once.
        limit: number of requests that run and wait; further ones are refused.
        running: a gauge of the requests that run.
        waiting: a gauge of the requests that wait.
        name: of the threads.
    """

    def __init__(self, threads: int, limit: int, running: Any, waiting: Any, name: str) -> None:
        self._limit = limit
        self._running_gauge, self._waiting_gauge = running, waiting
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._loop = asyncio.get_running_loop()
        self._admitted = 0
        self._running = 0
        self._jobs: set[asyncio.Future[Any]] = set()

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run a function in a thread.

        Args:
            work: to run.

        Returns:
            Its result.

        Raises:
            RequestRefused: if too many requests run and wait, or the workers are ended.
        """
        if self._admitted >= self._limit:
            raise RequestRefused(
                "RESOURCE_EXHAUSTED",
                f"The server is busy: {self._admitted} requests run and wait, its limit; try again later.",
            )
        self._count(admitted=1)
        try:
            future = self._pool.submit(self._counted, work)
        except RuntimeError:  # the pool is shut down
            self._count(admitted=-1)
            raise stopping() from None
        # Of the thread's work, not of the call: a client that leaves does not stop the work that has begun.
        future.add_done_callback(lambda _: self._from_a_thread(admitted=-1))
        job = asyncio.wrap_future(future)
        self._jobs.add(job)
        try:
            await asyncio.wait({job})
        finally:
            self._jobs.discard(job)
            if not job.done():
                job.cancel()
        if job.cancelled():
            raise stopping()
        return job.result()

    def cancel(self) -> None:
        """End the calls of all requests with UNAVAILABLE; what a thread has begun goes on."""
        for job in list(self._jobs):
            job.cancel()

    def shut_down(self) -> None:
        """Take no more requests."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _counted(self, work: Callable[[], _Result]) -> _Result:
        self._from_a_thread(running=1)
        try:
            return work()
        finally:
            self._from_a_thread(running=-1)

    def _from_a_thread(self, **changes: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self._count(**changes))

    def _count(self, admitted: int = 0, running: int = 0) -> None:
        self._admitted += admitted
        self._running += running
        self._running_gauge.set(self._running)
        self._waiting_gauge.set(max(0, self._admitted - self._running))


def stopping() -> RequestRefused:
    """Return the error of a call to a server that stops."""
    return RequestRefused("UNAVAILABLE", "The server is stopping; try again.")
