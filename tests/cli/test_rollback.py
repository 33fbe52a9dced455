"""`rollback` and `deployments`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from syntra.cli.person import person
from tests.cli.fake_agent import Cli, FakeAgent, Peer, Script, answering, deploying
from tests.cli.shown import RUNNING


def ends(**last: Any) -> Callable[[Peer], None]:
    return deploying(last)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (ends(status="running"), 0),
        (ends(status="rolled_back"), 0),
        (ends(status="rolled_back", error={"code": "X", "message": "y"}), 1),
        (ends(status="failed"), 1),
    ],
)
def test_rollback_succeeds_when_it_ends_where_it_was_meant_to(script: Script, code: int, cli: Cli) -> None:
    with FakeAgent(cli.path, rollback=script) as agent:
        assert cli("rollback", "api")[0] == code
        assert "target_deployment_id" not in agent.last("rollback")
        assert cli("rollback", "api", "dep_0")[0] == code
        assert agent.last("rollback")["target_deployment_id"] == "dep_0"


DEPLOYMENTS: dict[str, Any] = {
    "rollback_to": "dep_1",
    "deployments": [
        {
            "deployment_id": "dep_2",
            "kind": "deploy",
            "image": "api:2",
            "asked_by": "ada",
            "seconds_ago": 65.0,
            "took_seconds": 2.1,
            "outcome": "running",
            "is_current": True,
            "version": "b",
        },
        {"deployment_id": "dep_x", "image": "api:9", "outcome": "failed", "reason": "svc_shop_api: no\x1b[0m"},
        {"deployment_id": "dep_1", "kind": "deploy", "image": "api:1", "outcome": "running", "version": "a"},
        {"deployment_id": "dep_0", "kind": "deploy", "image": "api:2", "outcome": "running", "version": "b"},
    ],
}


def test_deployments_are_listed_with_how_each_ended(cli: Cli) -> None:
    with FakeAgent(cli.path, list_deployments=answering(DEPLOYMENTS)) as agent:
        code, out, _ = cli("deployments", "api", "-v")
        assert json.loads(cli("deployments", "api", "--json")[1]) == DEPLOYMENTS
        assert agent.last("list_deployments")["service_id"] == "svc_shop_api"
    lines = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    assert code == 0
    assert lines[0] == ["ID", "WHEN", "KIND", "IMAGE", "ASKED BY", "ENDED", "TOOK"]
    assert lines[1] == ["dep_2 *", "1m 5s ago", "deploy", "api:2", "ada", "succeeded", "2.1 s"]
    assert lines[2] == ["dep_x", "-", "-", "api:9", "-", "failed", "-"]
    assert out.splitlines()[-1] == "dep_x: api: no"


def test_rollback_says_from_which_version_to_which_and_refuses_the_same(cli: Cli) -> None:
    with FakeAgent(cli.path, list_deployments=answering(DEPLOYMENTS), rollback=deploying(RUNNING)) as agent:
        code, out, _ = cli("rollback", "api")
        assert code == 0
        assert out.startswith("api: from api:2 (dep_2, 1m 5s ago) to api:1 (dep_1, -)\n")
        assert cli("rollback", "api", "--to", "dep_1")[0] == 0
        assert agent.last("rollback")["target_deployment_id"] == "dep_1"
        assert agent.last("rollback")["requested_by"] == person()
        done = len(agent.requests)
        for same, word in (("dep_2", "it runs this deployment"), ("dep_0", "is the same version as the one that runs")):
            code, _, err = cli("rollback", "api", "--to", same)
            assert code == 1 and word in err and "syntra-agent deployments api" in err
        assert not [each for each in agent.requests[done:] if each["type"] == "rollback"]
