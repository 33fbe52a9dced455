"""Runs a background coroutine alongside other work, for exactly as long as that work takes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def alongside(work: Coroutine[Any, Any, T], companion: Coroutine[Any, Any, None]) -> T:
    """Await `work` while `companion` runs; cancel the companion when the work ends.

    Raises the error of the work, unwrapped. If the companion fails, the work is cancelled and the companion's error is
    raised. If both fail, the first error is raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(companion, name=f"companion of {getattr(work, '__qualname__', 'work')}")
            main = group.create_task(work, name=getattr(work, "__qualname__", "work"))
            await asyncio.wait({main, beside}, return_when=asyncio.FIRST_COMPLETED)
            if not main.done():
                await asyncio.wait({main})
            beside.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return main.result()
