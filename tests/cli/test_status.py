"""`status`: what it shows of the agent and of a service, and when it exits with 3."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.fake_agent import SERVICE, Cli, FakeAgent, answering
from tests.cli.shown import DETAILED

STATUS = {
    "agent": {
        "agent_id": "agt_1",
        "server_id": "srv_1",
        "version": "0.1.0",
        "pid": 7,
        "uptime_seconds": 90061.5,
        "data_dir": "/var/lib/syntra",
    },
    "control_plane": {"endpoint": "wss://cp/agent/ws", "state": "ready", "detail": "connected"},
    "runtime": {"name": "docker", "version": "20.10", "api_version": "1.41", "reachable": True, "detail": ""},
    "services": [SERVICE],
    "alerts": [
        {
            "type": "container_crash",
            "severity": "critical",
            "subject": "api replica 1",
            "service_id": "svc",
            "since": "2026-01-02T03:04:05.000Z",
            "times": 3,
            "is_ending": True,
        }
    ],
    "warnings": ["disk is 91 % full; remove old images"],
}


def test_status_shows_agent_control_plane_runtime_warnings_and_services(cli: Cli) -> None:
    with FakeAgent(cli.path, status=answering(STATUS)):
        code, out, _ = cli("status")
        assert json.loads(cli("status", "--json")[1]) == STATUS
    assert code == 3
    assert "agt_1 0.1.0, pid 7, up 1d 1h, server srv_1, data in /var/lib/syntra" in out
    assert "control plane: connected to wss://cp/agent/ws\n" in out
    assert "docker 20.10, API 1.41, reachable" in out
    assert "warning:       disk is 91 % full" in out
    assert (
        "alert:         critical container_crash, api replica 1, since 2026-01-02T03:04:05.000Z, 3 times, recovering\n"
        in out
    )
    assert "1/2" in out


def test_status_shows_why_the_control_plane_is_away_on_a_line_of_its_own(cli: Cli) -> None:
    reason = "cannot reach the control plane: connection refused; retrying"
    away = {"endpoint": "wss://cp/agent/ws", "state": "disconnected", "detail": reason}
    with FakeAgent(cli.path, status=answering({**STATUS, "control_plane": away})):
        out = cli("status")[1]
    assert f"control plane: disconnected, wss://cp/agent/ws\ndetail:        {reason}\n" in out


@pytest.mark.parametrize(
    ("certificate", "line"),
    [
        (
            {
                "source": "control_plane",
                "state": "accepted",
                "not_after": "2026-04-01T00:00:00.000Z",
                "days_left": 89.6,
            },
            "from the control plane, valid until 2026-04-01T00:00:00.000Z (90 days)",
        ),
        (
            {"source": "control_plane", "state": "failed", "problem": "the control plane refused: no"},
            "from the control plane, failed, the control plane refused: no",
        ),
        ({"source": "file", "not_after": "2026-01-01T00:00:00.000Z", "days_left": -0.5}, "from a file, expired"),
    ],
)
def test_status_shows_the_client_certificate(certificate: dict[str, object], line: str, cli: Cli) -> None:
    shown = {"endpoint": "wss://cp/agent/ws", "state": "ready", "detail": "connected", "certificate": certificate}
    with FakeAgent(cli.path, status=answering({**STATUS, "control_plane": shown})):
        out = cli("status")[1]
    assert f"certificate:   {line}\n" in out


def test_status_does_not_say_no_services_while_the_engine_is_away(cli: Cli) -> None:
    reason = "cannot reach the engine at /x.sock: no such file or directory"
    away = {"name": "docker", "version": None, "api_version": None, "reachable": False, "detail": reason}
    with FakeAgent(cli.path, status=answering({**STATUS, "runtime": away, "warnings": [reason], "services": []})):
        code, out, _ = cli("status")
    assert code == 3
    assert f"runtime:       docker, not reachable\nwarning:       {reason}\n" in out
    assert "services are not known while the runtime is not reachable" in out
    assert "no services" not in out


@pytest.mark.parametrize(
    "data", [{}, {"agent": 5, "services": {}, "warnings": "x"}, {"services": [1, {}], "control_plane": None}]
)
def test_an_answer_of_another_age_is_shown_as_far_as_it_goes(data: dict[str, object], cli: Cli) -> None:
    with FakeAgent(cli.path, status=answering(data), list_services=answering(data)):
        code, out, err = cli("status")
        assert (code, err) == (0, "")
        assert "none; this agent runs alone" in out
        assert cli("ps")[0] == 0


def test_status_exits_with_3_when_something_is_wrong(cli: Cli) -> None:
    well = {**STATUS, "alerts": [], "warnings": [], "services": [{**SERVICE, "replicas": {"desired": 2, "running": 2}}]}
    away = {"endpoint": "wss://cp", "state": "disconnected"}
    for data, code in (
        (well, 0),
        ({**well, "alerts": STATUS["alerts"]}, 3),
        ({**well, "warnings": STATUS["warnings"]}, 3),
        ({**well, "control_plane": away}, 3),
        ({**well, "runtime": {"reachable": False}}, 3),
        ({**well, "services": [SERVICE]}, 3),
        ({**well, "services": [{**SERVICE, "status": "failed", "replicas": {}}]}, 3),
    ):
        with FakeAgent(cli.path, status=answering(data)):
            assert cli("status")[0] == cli("status", "--json")[0] == code
            assert cli("status", "--exit-zero")[0] == 0
        cli.path.unlink()


DESCRIBED: dict[str, Any] = {
    "service": {**DETAILED, "status": "restarting", "status_detail": "exit 7, 2 times"},
    "spec": {
        "service_id": "svc_shop_api",
        "config": {"port": 8080, "env_vars": {"DB": "********"}, "health_check": {"path": "/h"}},
    },
    "routes": ["https://api.example"],
    "routes_problems": ["no proxy answers"],
    "names": ["api", "db.internal"],
    "health_answers": [{"replica": 1, "answer": "GET /h answered 500"}],
    "last_deployment": {
        "kind": "deploy",
        "image": "api:1",
        "outcome": "running",
        "seconds_ago": 60,
        "took_seconds": 2,
        "asked_by": "ada",
    },
    "alerts": STATUS["alerts"],
}


def test_status_of_a_service_says_how_it_is_and_what_to_do(cli: Cli) -> None:
    with FakeAgent(cli.path, describe_service=answering(DESCRIBED)) as agent:
        code, out, _ = cli("status", "api")
        assert agent.last("describe_service")["service_id"] == "svc_shop_api"
        assert json.loads(cli("status", "api", "--json")[1]) == DESCRIBED
        assert cli("status", "api", "--exit-zero")[0] == 0
    assert code == 3
    for line in (
        "service:       api, project shop",
        "status:        restarting (exit 7, 2 times), health healthy, 1/3 replicas",
        "spec:          port 8080, env DB, health_check.path /h",
        "route:         https://api.example",
        "proxy:         no proxy answers",
        "names:         api db.internal",
        "replica 1:     running, health healthy, 3 restarts, up 59s, last answer: GET /h answered 500",
        "last deploy:   deploy of api:1, succeeded 1m 0s ago, took 2.0 s, asked by ada",
        "problem:       its replicas crash (exit 7, 2 times); see `syntra-agent logs api`",
        "problem:       requests may not arrive (no proxy answers); see `syntra-agent proxy status`",
    ):
        assert line in out.splitlines(), out
    assert "svc_shop_api" not in out
