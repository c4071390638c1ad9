"""How far a call is: waited for, connected, over, and why; and the tasks that run while it lasts."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mien.call import clock
from mien.protocol.errors import MienError


class Course:
    """Make it in a running loop. It ends once: the first reason stands."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        """`on_end` hears the reason, once."""
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()
        self.connected = asyncio.Event()  # both sides have said hello
        self.ended = ""
        self.fault: Exception | None = None
        self.begin_us = clock.now_us()
        self.connected_us: int | None = None
        self.over_us: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self.over.is_set()

    @property
    def seconds(self) -> float:
        """How long both sides have been, or were, connected."""
        return self.since_connected(self.over_us or clock.now_us()) or 0.0

    def since_connected(self, time_us: int | None) -> float | None:
        """Return the seconds from the connection until a time; None where one of them is not known."""
        if time_us is None or self.connected_us is None:
            return None
        return (time_us - self.connected_us) / 1e6

    def end(self, reason: str) -> None:
        """The call is over."""
        if not self.is_over:
            self.ended = reason
            self.over_us = clock.now_us()
            self.over.set()
            self._on_end(reason)

    def fail(self, error: Exception) -> None:
        """A bug, or a full disk: the call is over, and the first such error is its fault."""
        self.fault = self.fault or error
        self.end(f"{type(error).__name__}: {error}")

    async def until_over(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the coroutine's result. Raises `MienError`, or the fault, where the call is over before."""
        task = asyncio.ensure_future(coroutine)
        over = asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self.fault is not None:
                raise self.fault
            raise MienError(f"no call came about: {self.ended}")
        finally:
            task.cancel()
            over.cancel()
            await asyncio.gather(task, over, return_exceptions=True)

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run something while the call lasts; what it raises is the call's fault."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    async def stop_tasks(self) -> None:
        """End what was started, and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.fail(error)
