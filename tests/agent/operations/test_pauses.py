"""`pause` and `resume`: stored, answered once, and what a paused service refuses."""

from __future__ import annotations

import pytest

from syntra.agent.journal.pauses import Pause
from syntra.model.ids import ServiceId
from tests.agent.agent_rig import Agent

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")


async def answer(agent: Agent, kind: str, request_id: str, **payload: object) -> dict[str, object]:
    await agent.ask(kind, request_id, **payload)
    await agent.done("web")
    return [response for response in agent.local.responses() if response["request_id"] == request_id][-1]


async def test_a_paused_service_refuses_what_makes_replicas_and_obeys_the_rest(agent: Agent) -> None:
    await agent.deployed("d1")
    paused = await answer(agent, "pause", "p1", service_id="web", reason="disk", requested_by="maria")
    assert paused["success"] is True
    for kind, payload in (
        ("scale", {"replicas": 2}),
        ("rollback", {}),
    ):
        refused = await answer(agent, kind, f"{kind}-1", service_id="web", **payload)
        error = refused["error"]
        assert isinstance(error, dict) and error["code"] == "SERVICE_PAUSED", refused
        assert "(disk); run `syntra-agent resume web` first" in error["message"]
    assert (await answer(agent, "restart", "re1", service_id="web"))["success"] is True
    assert (await answer(agent, "resume", "r1", service_id="web"))["success"] is True
    assert (await answer(agent, "scale", "scale-2", service_id="web", replicas=2))["success"] is True


async def test_a_pause_is_kept_once_and_ends_with_the_service(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.ask("pause", "p1", service_id="web", reason="one")
    first = await agent.journal.pauses.of(WEB)
    assert first is not None and (first.reason, first.by) == ("one", "")
    # The same request again is answered as before, and changes nothing.
    await agent.ask("resume", "r1", service_id="web")
    await agent.ask("pause", "p1", service_id="web", reason="one")
    assert await agent.journal.pauses.of(WEB) is None
    await agent.ask("pause", "p2", service_id="web", reason="two")
    again = await agent.journal.pauses.of(WEB)
    await agent.ask("pause", "p3", service_id="web", reason="three")
    assert again is not None
    assert await agent.journal.pauses.all() == {WEB: Pause(at=again.at, reason="three")}
    await agent.carry_out("stop", "s1", remove_container=True)
    assert await agent.journal.pauses.all() == {}


async def test_what_cannot_be_paused_is_said(agent: Agent) -> None:
    unknown = await answer(agent, "pause", "p1", service_id="nope")
    long = await answer(agent, "pause", "p2", service_id="nope", reason="x" * 201)
    codes = [error["code"] for error in (unknown["error"], long["error"]) if isinstance(error, dict)]
    assert codes == ["SERVICE_NOT_FOUND", "INVALID_PAYLOAD"]
