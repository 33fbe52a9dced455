"""Rules every test lives under: coroutine tests run on a fresh loop and may not leave a task behind."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from tests.agent.virtual_time import VirtualLoop
from tests.on_loop import run


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests on a loop of their own, in virtual time where the mark `virtual_time` asks for it.

    The mark of a module may be taken back by `virtual_time(False)` at a test.
    """
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    mark = pyfuncitem.get_closest_marker("virtual_time")
    is_virtual = mark is not None and mark.args != (False,)
    with asyncio.Runner(loop_factory=VirtualLoop if is_virtual else None) as runner:
        runner.run(run(pyfuncitem.obj, {name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a fixture of the engine or a cluster, so that no stage without them runs it."""
    for item in items:
        if {"engine_token", "cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.engine)
