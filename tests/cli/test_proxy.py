"""`proxy`: what it asks, what it prints, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_agent import Cli, FakeAgent, Peer, answering

STATUS: dict[str, Any] = {
    "kind": "ours",
    "container": {"id": "c1", "name": "syntra-proxy", "image": "traefik:v3.7.13", "state": "running", "restarts": 2},
    "version": "3.7.13",
    "since": "2026-01-01T00:00:00Z",
    "api": {"url": "http://127.0.0.1:8080", "reachable": True, "detail": ""},
    "entrypoints": [{"name": "web", "address": ":80"}, {"name": "websecure", "address": ":443"}],
    "routes": {"directory": "/var/lib/syntra/traefik/dynamic", "applied": True},
    "certificates": {"resolver": "le", "storage": "/var/lib/syntra/traefik/acme/acme.json", "present": False},
    "problems": ["the proxy refuses router syn-web: no such entrypoint"],
}


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path / "s", capsys, "proxy")


def upping(*sentences: str) -> Any:
    def script(peer: Peer) -> None:
        for sentence in sentences:
            peer.send("proxy_progress", {"request_id": peer.request["id"], "message": sentence})
        peer.respond({"action": "started", "message": "syntra-proxy serves", "container": "syntra-proxy"})

    return script


def test_up_tells_what_is_under_way_and_how_it_ended(cli: Cli) -> None:
    with FakeAgent(cli.path, proxy_up=upping("pulling traefik:v3.7.13", "starting \x1b[1mit")) as agent:
        assert cli("up") == (0, "pulling traefik:v3.7.13\nstarting \\x1b[1mit\nsyntra-proxy serves\n", "")
        code, out, err = cli("up", "--json")
        assert [set(request["payload"]) for request in agent.requests] == [{"request_id"}] * 2
    assert (code, err) == (0, "")
    assert json.loads(out) == {"action": "started", "message": "syntra-proxy serves", "container": "syntra-proxy"}


@pytest.mark.parametrize(
    ("code", "status"), [("PROXY_FAILED", 1), ("PULL_FAILED", 1), ("CONFIGURATION", 78), ("RUNTIME_UNAVAILABLE", 69)]
)
def test_a_refusal_is_one_line_and_an_exit_code(cli: Cli, code: str, status: int) -> None:
    with FakeAgent(cli.path, proxy_up=lambda peer: peer.refuse(code, "cannot bring up the proxy: no; do this")):
        assert cli("up") == (status, "", f"cannot bring up the proxy: no; do this ({code})\n")


def test_an_agent_that_goes_away_in_the_middle_is_an_error(cli: Cli) -> None:
    def script(peer: Peer) -> None:
        peer.send("proxy_progress", {"request_id": peer.request["id"], "message": "starting"})

    with FakeAgent(cli.path, proxy_up=script):
        code, out, err = cli("up")
    assert (code, out) == (69, "starting\n")
    assert "it closed the connection before it was done" in err


def test_an_older_agent_says_that_it_does_not_know(cli: Cli) -> None:
    with FakeAgent(cli.path, proxy_up=lambda peer: peer.refuse("UNSUPPORTED", "cannot carry out `proxy_up`")):
        assert cli("up")[0] == 1


def test_down_tells_what_went(cli: Cli) -> None:
    data = {"removed": ["syntra-proxy"], "message": "stopped and removed syntra-proxy"}
    with FakeAgent(cli.path, proxy_down=answering(data)):
        assert cli("down") == (0, "stopped and removed syntra-proxy\n", "")
        assert json.loads(cli("down", "--json")[1]) == data


def test_status_is_readable_and_machine_readable(cli: Cli) -> None:
    with FakeAgent(cli.path, proxy_status=answering(STATUS)):
        code, out, err = cli("status")
        assert json.loads(cli("status", "--json")[1]) == STATUS
    assert (code, err) == (0, "")
    assert out == (
        "proxy:         managed by this agent\n"
        "container:     syntra-proxy running, restarted 2 times\n"
        "image:         traefik:v3.7.13\n"
        "version:       Traefik 3.7.13, since 2026-01-01T00:00:00Z\n"
        "API:           http://127.0.0.1:8080\n"
        "entrypoints:   web :80, websecure :443\n"
        "routes:        applied, in /var/lib/syntra/traefik/dynamic\n"
        "certificates:  by le, stored in /var/lib/syntra/traefik/acme/acme.json, empty so far\n"
        "problem:       the proxy refuses router syn-web: no such entrypoint\n"
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"kind": "foreign", "container": None}, "proxy:         not managed by this agent"),
        ({"kind": "none", "container": None}, "proxy:         none"),
        ({"api": {"reachable": False, "detail": "cannot ask: refused"}}, "API:           cannot ask: refused"),
        ({"routes": {"applied": False, "directory": "/d"}}, "routes:        not applied, in /d"),
        ({"routes": {"applied": None, "directory": "/d"}}, "routes:        not known, in /d"),
        ({"certificates": {"resolver": ""}}, "certificates:  none; services are reached without TLS"),
    ],
)
def test_status_of_other_states(cli: Cli, changes: dict[str, Any], line: str) -> None:
    with FakeAgent(cli.path, proxy_status=answering({**STATUS, **changes})):
        assert line in cli("status")[1].splitlines()


@pytest.mark.parametrize("data", [{}, {"api": 5, "entrypoints": {}, "problems": "x", "container": [], "routes": None}])
def test_a_status_of_another_age_is_shown_as_far_as_it_goes(cli: Cli, data: dict[str, Any]) -> None:
    with FakeAgent(cli.path, proxy_status=answering(data)):
        code, out, err = cli("status")
    assert (code, err) == (0, "")
    assert out.startswith("proxy:         -\n")


@pytest.mark.parametrize("words", [[], ["sideways"], ["up", "now"]])
def test_wrong_usage_is_said(cli: Cli, words: list[str]) -> None:
    assert cli(*words)[0] == 2
