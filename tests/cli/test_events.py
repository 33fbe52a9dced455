"""`events`: lines with their times."""

from __future__ import annotations

import json

from tests.cli.fake_agent import Cli, FakeAgent, answering


def test_events_are_lines_with_their_times(cli: Cli) -> None:
    event = {
        "seq": 7,
        "at": "2026-01-02T03:04:05.000Z",
        "kind": "health",
        "service_name": "api",
        "text": "is\x1b[1m up",
    }
    with FakeAgent(cli.path, list_events=answering({"events": [event]})) as agent:
        assert cli("events")[:2] == (0, "2026-01-02T03:04:05.000Z health     api: is\\x1b[1m up\n")
        assert json.loads(cli("events", "api", "--json", "--tail", "5")[1]) == event
        assert agent.last("list_events")["limit"] == 5
        assert agent.last("list_events")["service_id"] == "svc_shop_api"
        assert "\x1b[2m2026" in cli("events", "--color", "always")[1]
