"""The queue of requests for the model and the memory: one is worked on, a bounded number wait.

These requests have a thread of their own. Were they to wait for the learner's lock in the threads that serve all
routes, forty of them would leave none for ``/health``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from fastapi import Request

from continual_learning.errors import BusyError, StoppedError
from continual_learning.model.generation import GenerationControl, controlled

_T = TypeVar("_T")
_ONE_THREAD = 1  # the learner has one lock
_LEFT = "the client has gone away"
_STOPPING = "the server is stopping; ask again when it is back"


class Job(Generic[_T]):
    """One piece of work. Belongs to the event loop that submitted it."""

    def __init__(self, control: GenerationControl, stoppable: bool):
        self.control = control
        self.outcome: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        """What the work returned or raised, or StoppedError."""
        self.outcome.add_done_callback(_look_at)
        self.future: Future[_T] | None = None
        self._stoppable = stoppable

    def leave(self) -> None:
        """The client has gone: the work is dropped if it waits; if it has begun, it is stopped if it is stoppable."""
        if self.future is not None and not self.future.cancel() and self._stoppable:
            self.control.give_up(_LEFT)
        self.fail(_LEFT)

    def stop(self) -> None:
        """The server stops: so does the work, and nobody waits for it. From any thread."""
        if self.future is not None:
            self.future.cancel()
        self.control.give_up(_STOPPING)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.outcome.get_loop().call_soon_threadsafe(self.fail, _STOPPING)

    def fail(self, reason: str) -> None:
        """End the waiting with a StoppedError."""
        if not self.outcome.done():
            self.outcome.set_exception(StoppedError(reason))

    def finish(self, done: Future[_T]) -> None:
        """End the waiting with what the work came to."""
        if self.outcome.done():
            return
        if done.cancelled():
            self.fail(_STOPPING)
        elif error := done.exception():
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(done.result())


class WorkQueue:
    """Runs one job at a time, in the order in which they came."""

    def __init__(self, max_waiting: int):
        self._executor = ThreadPoolExecutor(_ONE_THREAD, "answers")
        self._max_waiting = max_waiting
        self._jobs: set[Job[Any]] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._last_seconds = 0.0

    def submit(self, work: Callable[[GenerationControl], _T], stoppable: bool = True) -> Job[_T]:
        """Add a job. Raises BusyError if too many wait, StoppedError after `close`."""
        job: Job[_T] = Job(GenerationControl(), stoppable)
        loop = asyncio.get_running_loop()

        def run() -> _T:
            started = time.perf_counter()
            try:
                with controlled(job.control):
                    return work(job.control)
            finally:
                self._last_seconds = time.perf_counter() - started

        def done(future: Future[_T]) -> None:
            with self._lock:
                self._jobs.discard(job)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(job.finish, future)

        with self._lock:
            if self._closed:
                raise StoppedError(_STOPPING)
            if len(self._jobs) > self._max_waiting:  # one of them is being worked on
                seconds = max(1, math.ceil(self._last_seconds))
                raise BusyError(
                    f"{self._max_waiting} requests are waiting, as many as may (--max-waiting); ask again in "
                    f"{seconds} s",
                    seconds,
                )
            self._jobs.add(job)
            job.future = self._executor.submit(run)
        job.future.add_done_callback(done)
        return job

    async def result(self, request: Request, work: Callable[[GenerationControl], _T], stoppable: bool = True) -> _T:
        """Wait for a job's result; a client who goes away stops it. Raises what ``work`` raises, and as `submit`."""
        job = self.submit(work, stoppable)
        async with watched(request, job):
            return await job.outcome

    def close(self) -> None:
        """Drop what waits, and stop what is being worked on at its next token. From any thread."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs)
        for job in jobs:
            job.stop()
        self._executor.shutdown(wait=False)

    def idle_within(self, seconds: float) -> bool:
        """Whether nothing is being worked on, after waiting for at most this long."""
        end = time.monotonic() + seconds
        while self._jobs and time.monotonic() < end:
            time.sleep(0.02)
        return not self._jobs


@contextlib.asynccontextmanager
async def watched(request: Request, job: Job[Any]) -> AsyncIterator[None]:
    """Inside, the client's going away makes the job stop; so does leaving before the job is over."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.leave()

    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()
        if not job.outcome.done():
            job.leave()


def _look_at(outcome: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody may wait for: asyncio would print it."""
    if not outcome.cancelled():
        outcome.exception()
