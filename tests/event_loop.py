"""Scenes on an event loop of their own, which never last for ever."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def in_loop(scenario: Callable[[], Coroutine[Any, Any, None]], *, limit_s: float = 30) -> None:
    """Run a scene to its end. Raises `TimeoutError` where it takes longer."""
    asyncio.run(asyncio.wait_for(scenario(), limit_s))
