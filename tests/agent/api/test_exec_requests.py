"""Answers of execs: what is in them, and what of them is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syntra.agent.api.exec_requests import output
from syntra.agent.journal import budget
from tests.agent.agent_rig import Agent

pytestmark = pytest.mark.virtual_time


def said(script: str) -> dict[str, Any]:
    return {"service_id": "web", "command": ["sh", "-c", script]}


async def quiet() -> None:
    """Let everything that can happen at once happen."""
    await asyncio.sleep(0.001)


def test_output_that_is_no_text_is_sent_as_base64_and_a_cut_character_is_left_out() -> None:
    assert output(b"\xff", "ä".encode(), truncated=False) == {"stdout": "/w==", "stderr": "w6Q=", "encoding": "base64"}
    cut = "aä".encode()[:-1]
    assert output(cut, b"\0", truncated=True) == {"stdout": "a", "stderr": "\0", "truncated": True}
    assert output(cut, b"", truncated=False)["encoding"] == "base64"


async def test_output_before_a_timeout_is_in_the_refusal_and_not_in_the_journal(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.send("exec", "slow", **said("sleep 60"), timeout_seconds=5)
    await asyncio.sleep(10)
    await agent.send("exec", "slow", **said("sleep 60"), timeout_seconds=5)
    first, again = await agent.responses("slow")
    assert first["error"]["details"] == {"stdout": "before\n", "stderr": ""}
    assert again["error"] == {key: value for key, value in first["error"].items() if key != "details"}


async def test_an_id_whose_answer_is_forgotten_is_not_carried_out_again(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "ANSWERS_BYTES", 0)
    monkeypatch.setattr(budget, "SLACK_BYTES", 0)
    await agent.deployed("d1")
    await agent.send("exec", "e1", **said("pwd"))
    await quiet()
    await agent.send("exec", "e1", **said("pwd"))
    answers = await agent.responses("e1")
    assert [answer["success"] for answer in answers] == [True, False]
    assert answers[1]["error"]["code"] == "ANSWER_FORGOTTEN"
    assert agent.engine.calls.count("execute") == 1


async def test_an_exec_goes_to_the_replica_that_was_asked_for(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    await agent.send("exec", "e3", **said("pwd"), replica=3)
    await agent.send("exec", "e2", **said("pwd"), replica=2)
    await quiet()
    refused = (await agent.responses("e3"))[0]["error"]
    assert refused["code"] == "CONTAINER_NOT_FOUND"
    assert "replica 3 does not run; use 1, 2" in refused["message"]
    assert (await agent.responses("e2"))[0]["success"]


async def test_an_exec_with_streams_is_refused_over_the_control_plane(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.send("exec", "e1", **said("pwd"), stream=True)
    assert (await agent.responses("e1"))[0]["error"]["code"] == "UNSUPPORTED"


async def test_a_copy_is_refused_over_the_control_plane(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.send("copy", "c1", service_id="web", path="/etc", direction="from")
    error = (await agent.responses("c1"))[0]["error"]
    assert (error["code"], error["message"]) == (
        "UNSUPPORTED",
        "cannot copy: it is available on the local socket only",
    )
