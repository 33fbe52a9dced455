"""The proxy's commands through the router: from the local socket only, told on the way, ended without a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from syntra.agent.messages import LOCAL, PeerGone
from syntra.model.command import ProxyAction
from syntra.model.fields import Json
from syntra.networking.errors import InvalidStatic
from syntra.utils.errors import AgentError
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine

pytestmark = pytest.mark.virtual_time


class Verbs:
    """Says something, waits to be let go on, and answers or fails."""

    def __init__(self, failure: AgentError | None = None) -> None:
        self.asked: list[ProxyAction] = []
        self.ended = 0
        self.go_on = asyncio.Event()
        self._failure = failure

    async def carry_out(self, action: ProxyAction, say: Callable[[str], Awaitable[None]]) -> dict[str, Json]:
        self.asked.append(action)
        await say("under way")
        await self.go_on.wait()
        self.ended += 1
        if self._failure is not None:
            raise self._failure
        return {"message": "done"}


async def test_the_local_socket_is_told_on_the_way_and_at_the_end(tmp_path: Path) -> None:
    verbs = Verbs()
    async with running(tmp_path, FakeEngine(), proxy=verbs) as agent:
        for action in ProxyAction:
            await agent.ask(action.value, action.value)
        await asyncio.sleep(1)
        progress = [payload for kind, payload in agent.local.heard if kind == "proxy_progress"]
        assert progress == [{"request_id": action.value, "message": "under way"} for action in ProxyAction]
        verbs.go_on.set()
        await asyncio.sleep(1)
        answers = {answer["request_id"]: answer["data"] for answer in agent.local.responses()}
        assert answers == {action.value: {"message": "done"} for action in ProxyAction}
        assert verbs.asked == list(ProxyAction)


async def test_the_control_plane_is_refused(tmp_path: Path) -> None:
    verbs = Verbs()
    async with running(tmp_path, FakeEngine(), proxy=verbs) as agent:
        await agent.send("proxy_up", "u1")
        answer = await agent.answer("u1")
        assert (answer["success"], answer["error"]["code"]) == (False, "UNSUPPORTED")
        assert verbs.asked == []


async def test_an_agent_without_a_proxy_says_so(agent: Agent) -> None:
    await agent.ask("proxy_status", "s1")
    error = agent.local.responses()[0]["error"]
    assert error["code"] == "UNSUPPORTED"
    assert error["message"] == (
        "cannot run `proxy_status`: a cluster routes domains with its own ingress; see docs/kubernetes.md"
    )


async def test_a_failure_is_the_answer(tmp_path: Path) -> None:
    verbs = Verbs(InvalidStatic("networking.acme_email", "is empty"))
    verbs.go_on.set()
    async with running(tmp_path, FakeEngine(), proxy=verbs) as agent:
        await agent.ask("proxy_up", "u1")
        await asyncio.sleep(1)
        assert agent.local.responses()[0]["error"] == {
            "code": "CONFIGURATION",
            "message": "cannot set up the proxy: networking.acme_email: is empty",
        }


class Away:
    """A client that hung up."""

    origin = LOCAL
    share = "uid 0"

    async def respond(self, payload: object) -> None:
        raise PeerGone("hung up")

    async def stream(self, kind: str, payload: object) -> None:
        raise PeerGone("hung up")


async def test_what_was_begun_is_finished_without_its_client(tmp_path: Path) -> None:
    verbs = Verbs()
    async with running(tmp_path, FakeEngine(), proxy=verbs) as agent:
        peer = Away()
        await agent.router.handle("proxy_up", "u1", {}, peer)
        await asyncio.sleep(1)
        agent.router.forget(peer)
        verbs.go_on.set()
        await asyncio.sleep(1)
        assert verbs.ended == 1
