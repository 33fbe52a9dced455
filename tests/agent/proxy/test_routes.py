"""When the proxy counts as working with new routes: seen twice, as its entrypoints get them one after another."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.agent.proxy.routes import ProxyRoutes
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from tests.networking.real_traefik import PLAIN
from tests.networking.test_proxy import TABLE, api, raw, telling


@pytest.mark.parametrize(("is_new", "least"), [(True, 2), (False, 1)])
async def test_new_routes_are_seen_twice(tmp_path: Path, is_new: bool, least: int) -> None:
    asked: list[str] = []

    def answer(path: str) -> bytes:
        asked.append(path)
        return telling(raw())(path)

    async with api(answer) as url:
        routes = ProxyRoutes(PLAIN, writer=FileWriter(tmp_path), observer=ProxyObserver(url, PLAIN))
        await routes.until_applied(TABLE, is_new=is_new)
    assert asked.count("/api/rawdata") >= least
    assert routes.problem == ""
