"""How coroutine tests run: on a loop of their own, with what their fixtures open on it, and no task left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class OnLoop(Generic[T]):
    """What a fixture gives that is opened on the loop of the test: the test gets what `manager` yields."""

    manager: AbstractAsyncContextManager[T]


async def run(test: Callable[..., Coroutine[Any, Any, None]], arguments: Mapping[str, Any]) -> None:
    """Run a coroutine test; fail when it leaves a task running."""
    async with AsyncExitStack() as stack:
        given = {
            name: await stack.enter_async_context(value.manager) if isinstance(value, OnLoop) else value
            for name, value in arguments.items()
        }
        await test(**given)
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, f"the test left tasks running: {left}"
