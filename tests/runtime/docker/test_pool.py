"""Which idle connections are handed out again."""

from __future__ import annotations

from pathlib import Path

from syntra.runtime.docker.pool import ConnectionPool
from tests.runtime.docker.fake_engine import Peer, answer, fake_engine
from tests.runtime.docker.test_connection import GET, body_of


async def serve(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(answer(200, {}))


async def test_a_connection_is_handed_out_again_only_after_a_complete_response(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, serve) as engine:
        pool = ConnectionPool(engine.endpoint, size=1)
        first, pooled = await pool.acquire(own=False)
        assert not pooled
        await first.request(GET, method="GET", what="GET /")
        await body_of(first)
        pool.release(first)
        again, pooled = await pool.acquire(own=False)
        assert pooled
        assert again is first
        await again.request(GET, method="GET", what="GET /")
        pool.release(again)  # its body was not read
        assert len(pool) == 0
        await pool.close()


async def test_a_fresh_connection_can_be_asked_for_and_a_closed_pool_keeps_none(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, serve) as engine:
        pool = ConnectionPool(engine.endpoint, size=2)
        first, _ = await pool.acquire(own=False)
        await first.request(GET, method="GET", what="GET /")
        await body_of(first)
        pool.release(first)
        second, pooled = await pool.acquire(own=True)
        assert not pooled
        assert second is not first
        await second.request(GET, method="GET", what="GET /")
        await body_of(second)
        await pool.close()
        pool.release(second)
        assert len(pool) == 0
