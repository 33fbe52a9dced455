"""The verbs that ask the agent: what they send, what they print, and how they end."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from syntra.cli import exec as exec_verb
from syntra.cli.exec_words import VALUED, split_exec
from syntra.cli.options import add_common
from syntra.cli.person import person
from syntra.model.exec_frames import FrameKind, encoded, exited, failed
from tests.cli.fake_agent import SERVICE, Cli, FakeAgent, Peer, Script, answering, attaching, deploying

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


@pytest.fixture
def service_file(tmp_path: Path) -> str:
    path = tmp_path / "api.yaml"
    path.write_text("image: registry.example/api:1\nproject: shop\nport: 80\n")
    return str(path)


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


DETAILED: dict[str, Any] = {
    **SERVICE,
    "configured_replicas": 3,
    "age_seconds": 90061,
    "ports": ["80:8080"],
    "urls": ["https://api.example", "https://www.example", "https://c.example"],
    "has_check": True,
    "containers": [
        {
            "replica": number,
            "container_name": f"syn-svc_shop_api-dep_{number}",
            "place": f"10.0.0.{number}",
            "status": "running",
            "health": health,
            "has_check": True,
            "restart_count": 3,
            "cpu_percent": 12.5,
            "memory_mb": 64.0,
            "age_seconds": 59,
            "deployment_id": "dep_1",
        }
        for number, health in ((1, "healthy"), (2, "unknown"))
    ],
}


def test_ps_lists_services_in_a_table(cli: Cli) -> None:
    with FakeAgent(cli.path, list_services=answering({"services": [DETAILED]})):
        code, out, _ = cli("ps")
        assert json.loads(cli("ps", "--json")[1]) == {"services": [DETAILED]}
        assert "dep_1" not in out and "dep_1" in cli("ps", "-v")[1]
    assert code == 0
    header, line = (re.split("  +", line) for line in out.splitlines())
    assert header == (
        ["SERVICE", "PROJECT", "IMAGE", "STATUS", "HEALTH", "REPLICAS", "RESTARTS", "AGE", "PORTS", "ENDPOINTS"]
    )
    endpoints = "https://api.example https://www.example +1"
    image = "registry.example/api:1"
    assert line == ["api", "shop", image, "running", "healthy", "1/3", "3", "1d", "80:8080", endpoints]


def test_ps_of_a_service_has_a_line_for_each_replica(cli: Cli) -> None:
    with FakeAgent(cli.path, list_services=answering({"services": [DETAILED]})):
        code, out, _ = cli("ps", "api")
        assert cli("ps", "-a")[1] == out
        assert cli("ps", "nothing")[0] == 1
    assert code == 0
    lines = [re.split("  +", line) for line in out.splitlines()]
    assert lines[0] == ["NAME", "CONTAINER", "WHERE", "STATE", "HEALTH", "RESTARTS", "CPU", "MEMORY", "AGE"]
    first = ["api-1", "syn-svc_shop_api-dep_1", "10.0.0.1", "running", "healthy", "3", "12.5%", "64.0 MiB", "59s"]
    assert lines[1] == first
    assert lines[2][4] == "starting"


@pytest.mark.parametrize("words", [("ps",), ("ps", "api"), ("ps", "-a")])
def test_ps_fits_a_terminal_of_80_columns(words: tuple[str, ...], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {**DETAILED, "service_name": "a-service-with-a-long-name", "image": "registry.example/a/b/c/api:1.2.3-rc1"}
    monkeypatch.setenv("COLUMNS", "80")
    with FakeAgent(cli.path, list_services=answering({"services": [DETAILED, {**long, "service_id": "svc_b"}]})):
        out = cli(*words)[1]
    assert max(map(len, out.splitlines())) <= 80
    wanted = ("RESTARTS", "AGE", "PORTS", "ENDPOINTS") if words == ("ps",) else ("CPU", "MEMORY", "WHERE", "CONTAINER")
    assert all(word in out for word in wanted), out


def test_what_does_not_run_reads_so_and_health_is_what_is_known(cli: Cli) -> None:
    off: dict[str, Any] = {**DETAILED, "status": "stopped", "health": "unknown", "containers": []}
    stopped = {**off, "replicas": {"desired": 0, "running": 0}, "configured_replicas": 2}
    scaled = {**stopped, "configured_replicas": 0, "status_detail": "scaled to 0"}
    young = {**DETAILED, "health": "unknown"}
    unchecked = {**young, "has_check": False}
    with FakeAgent(cli.path, list_services=answering({"services": [stopped, scaled, young, unchecked]})):
        lines = [re.split("  +", line)[3:6] for line in cli("ps")[1].splitlines()[1:]]
    assert lines == [
        ["stopped", "-", "0/2"],
        ["stopped (scaled to 0)", "-", "0/0"],
        ["running", "starting", "1/3"],
        ["running", "-", "1/3"],
    ]


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


def test_ps_says_how_often_and_with_what_a_crash_loop_exits(cli: Cli) -> None:
    looping = {**SERVICE, "status": "restarting", "status_detail": "exit 7, 12 times", "restarts": 12}
    with FakeAgent(cli.path, list_services=answering({"services": [looping]})):
        _, out, _ = cli("ps")
    assert " restarting (exit 7, 12 times) " in out.splitlines()[1]


def test_ps_without_services_says_so(cli: Cli) -> None:
    with FakeAgent(cli.path, list_services=answering({"services": []})):
        assert cli("ps") == (0, "no services\n", "")


def test_metrics_are_readable(cli: Cli) -> None:
    container = {
        "container_id": "c1",
        "container_name": "syn-api-1",
        "cpu_percent": 12.345,
        "memory_used_mb": 64.2,
        "memory_limit_mb": 1024,
        "network_rx_bytes": 1500,
        "network_tx_bytes": 999,
        "block_read_bytes": 0,
        "block_write_bytes": 2_000_000_000_000,
        "pids": 3,
    }
    with FakeAgent(cli.path, metrics=answering({"containers": [container]})) as agent:
        code, out, _ = cli("metrics", "shop/api")
        assert json.loads(cli("metrics", "api", "--json")[1]) == {"containers": [container]}
        assert agent.last("metrics")["service_id"] == "svc_shop_api"
    assert code == 0
    assert "syn-api-1    12.3%" in out
    assert "64.2 MiB" in out
    assert "1.0 GiB" in out
    assert "1.5 kB" in out
    assert "999 B" in out
    assert "2.0 TB" in out


def test_a_service_is_found_by_name_qualified_name_or_id(cli: Cli) -> None:
    with FakeAgent(cli.path, restart=answering({})) as agent:
        for given in ("api", "shop/api", "svc_shop_api"):
            assert cli("restart", given) == (0, f"restarted {given}\n", "")
            assert agent.last("restart")["service_id"] == "svc_shop_api"
        cli("restart", "svc_gone")
        assert agent.last("restart")["service_id"] == "svc_gone"
        code, _, err = cli("restart", "apo")
    assert (code, err) == (1, "cannot find service apo: there is none with that name, did you mean api?\n")


def test_a_name_of_two_services_must_be_qualified(cli: Cli) -> None:
    other = {**SERVICE, "service_id": "svc_blog_api", "project_name": "blog"}
    with FakeAgent(cli.path, list_services=answering({"services": [SERVICE, other]}), stop=answering({})) as agent:
        code, _, err = cli("stop", "api")
        assert code == 2
        assert "use one of blog/api, shop/api" in err
        assert cli("stop", "blog/api")[0] == 0
        assert agent.last("stop")["service_id"] == "svc_blog_api"


def test_services_of_one_name_and_project_are_told_apart_by_id(cli: Cli) -> None:
    other = {**SERVICE, "service_id": "svc_other"}
    with FakeAgent(cli.path, list_services=answering({"services": [SERVICE, other]})):
        code, _, err = cli("stop", "api")
    assert code == 2
    assert "use one of svc_other, svc_shop_api" in err


def stopped(replicas: int = 3) -> dict[str, Any]:
    return {**SERVICE, "status": "stopped", "replicas": {"desired": 0, "running": 0}, "configured_replicas": replicas}


def test_up_starts_as_many_replicas_as_there_were(cli: Cli) -> None:
    scale = deploying({"status": "running", "message": "3 of 3 replicas"})
    with FakeAgent(cli.path, list_services=answering({"services": [stopped()]}), scale=scale) as agent:
        code, out, _ = cli("up", "api")
    assert code == 0 and "3 of 3 replicas" in out
    assert agent.last("scale") | {"request_id": ""} == {
        "request_id": "",
        "service_id": "svc_shop_api",
        "replicas": 3,
        "strategy": "rolling",
        "requested_by": person(),
    }


def test_up_of_what_the_cluster_scales_restarts_it(cli: Cli) -> None:
    listed = answering({"services": [stopped()]})
    refuse: Script = lambda peer: peer.refuse("INVALID_PAYLOAD", "replicas: the cluster scales this service")  # noqa: E731
    with FakeAgent(cli.path, list_services=listed, scale=refuse, restart=answering({})) as agent:
        assert cli("up", "api") == (0, "started api\n", "")
    assert agent.last("restart")["service_id"] == "svc_shop_api"


def test_up_says_why_it_starts_nothing(cli: Cli) -> None:
    with FakeAgent(cli.path):
        assert cli("up", "api") == (0, "api is up already, 1/2 replicas\n", "")
    with FakeAgent(cli.path.with_name("t"), list_services=answering({"services": [stopped(0)]})) as agent:
        cli.path = agent.path
        code, _, err = cli("up", "api")
        assert code == 2 and err == "cannot start api: it is scaled to 0; run `syntra-agent scale api 1`\n"


def test_rm_stops_and_removes(cli: Cli) -> None:
    with FakeAgent(cli.path, stop=answering({"notes": ["volume shop_data stays"]})) as agent:
        assert cli("rm", "api") == (0, "removed api\nnote: volume shop_data stays\n", "")
    assert agent.last("stop")["remove_container"] is True


def test_stop_sends_grace_and_removal(cli: Cli) -> None:
    with FakeAgent(cli.path, stop=answering({"stopped": 2})) as agent:
        assert cli("stop", "api") == (0, "stopped api\n", "")
        assert agent.last("stop") | {"request_id": ""} == {
            "request_id": "",
            "service_id": "svc_shop_api",
            "remove_container": False,
        }
        assert cli("stop", "api", "--remove", "--timeout", "3") == (0, "removed api\n", "")
        assert agent.last("stop")["remove_container"] is True
        assert agent.last("stop")["timeout_seconds"] == 3
        assert json.loads(cli("stop", "api", "--json")[1]) == {"stopped": 2}


def test_a_stop_or_restart_that_takes_long_is_not_called_done(cli: Cli) -> None:
    under_way, done = answering({"accepted": True, "completed": False}), answering({"notes": ["it was down"]})
    with FakeAgent(cli.path, stop=under_way, restart=done):
        assert cli("stop", "api") == (75, "", "the stop of api continues in the background; see `syntra-agent ps`\n")
        assert cli("stop", "api", "--json")[0] == 75
        assert cli("restart", "api") == (0, "restarted api\nnote: it was down\n", "")


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        ("promote", "the canary of api will get all traffic once it is healthy; see `syntra-agent ps`\n"),
        ("abort", "the canary of api ends; what served before gets every request; see `syntra-agent ps`\n"),
    ],
)
def test_a_canary_is_promoted_or_aborted(verb: str, sentence: str, cli: Cli) -> None:
    with FakeAgent(cli.path, **{verb: answering({"accepted": True})}) as agent:
        assert cli(verb, "shop/api")[0] == 0
        assert agent.last(verb)["service_id"] == "svc_shop_api"
        assert cli(verb, "api") == (0, sentence, "")
        assert json.loads(cli(verb, "api", "--json")[1]) == {"accepted": True}


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_that_there_is_no_canary_is_said(verb: str, cli: Cli) -> None:
    refusal = f"cannot {verb} api: no canary of it is under way; deploy one with strategy canary"
    with FakeAgent(cli.path, **{verb: lambda peer: peer.refuse("NO_CANARY", refusal)}):
        assert cli(verb, "api") == (1, "", f"{refusal} (NO_CANARY)\n")


def test_a_refusal_is_one_line_and_its_exit_code(cli: Cli) -> None:
    with FakeAgent(cli.path, stop=lambda peer: peer.refuse("PERMISSION_DENIED", "cannot stop api: policy")):
        assert cli("stop", "api") == (77, "", "cannot stop api: policy (PERMISSION_DENIED)\n")


def test_exec_passes_command_output_and_exit_code_through(cli: Cli) -> None:
    frames = [
        encoded(FrameKind.STDOUT, b"o\x1b[1m\nu"),
        encoded(FrameKind.STDERR, b"e\n"),
        encoded(FrameKind.STDOUT, b"\xc3"),
        encoded(FrameKind.STDOUT, b"\xa4"),
        exited(3),
    ]
    with FakeAgent(cli.path, exec=attaching(*frames)) as agent:
        argv = ["exec", "--workdir", "/w", "--env", "A=b=c", "--timeout", "5", "api", "--", "sh", "-c", "x", "--", "-f"]
        # Not a terminal, so the bytes are the command's own.
        assert cli(*argv) == (3, "o\x1b[1m\nuä", "e\n")
        sent = agent.last("exec")
    assert sent | {"request_id": ""} == {
        "request_id": "",
        "service_id": "svc_shop_api",
        "command": ["sh", "-c", "x", "--", "-f"],
        "env": {"A": "b=c"},
        "timeout_seconds": 5.0,
        "working_dir": "/w",
        "stream": True,
        "stdin": True,
        "tty": False,
    }


def test_exec_with_json_asks_for_the_bounded_form(cli: Cli) -> None:
    data = {"exit_code": 3, "stdout": "x" * 4096, "stderr": "", "truncated": True}
    with FakeAgent(cli.path, exec=answering(data)) as agent:
        code, out, err = cli("exec", "--json", "--replica", "2", "api", "ls")
        assert (code, json.loads(out)) == (3, data)
        assert err.startswith("only the first 4 KiB of the output are shown")
        sent = agent.last("exec")
        assert (sent["timeout_seconds"], sent["replica"], "stream" in sent) == (30.0, 2, False)


def test_exec_with_json_shows_what_came_before_a_timeout(cli: Cli) -> None:
    details = {"stdout": "before", "stderr": ""}
    with FakeAgent(cli.path, exec=lambda peer: peer.refuse("EXEC_TIMEOUT", "cannot finish", details=details)):
        code, out, err = cli("exec", "--json", "api", "ls")
    assert (code, json.loads(out)) == (1, {**details, "timed_out": True})
    assert err == "cannot finish (EXEC_TIMEOUT)\n"


def test_exec_on_a_terminal_escapes_what_the_terminal_would_obey(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    # A character may be cut anywhere; what never becomes one is shown as bytes.
    pieces = [b"a\x1b", b"[2J\tb\n\xc3", b"\xa4\xff\xc3"]
    frames = [encoded(FrameKind.STDOUT, piece) for piece in pieces]
    with FakeAgent(cli.path, exec=attaching(*frames, exited(0))):
        assert cli("exec", "api", "--", "ls")[0] == 0
    assert terminal.getvalue() == "a\\x1b[2J\tb\nä\\xff\\xc3"


@pytest.mark.parametrize("code", ["-1", "true", "null", '"0"'])
def test_exec_takes_no_odd_exit_code_for_success(code: str, cli: Cli) -> None:
    end = encoded(FrameKind.EXIT, b'{"exit_code": %s}' % code.encode())
    with FakeAgent(cli.path, exec=attaching(end)):
        found = cli("exec", "api", "--", "ls")[0]
    assert found == {"-1": 255}.get(code, 69)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "it closed the connection before it was done"),
        ([encoded(FrameKind.EXIT, b"{")], "its end is not JSON"),
        ([b"\x09\0\0\0\0"], "9 is no type of frame"),
    ],
)
def test_exec_never_takes_a_broken_stream_for_an_end(frames: list[bytes], said: str, cli: Cli) -> None:
    with FakeAgent(cli.path, exec=attaching(encoded(FrameKind.STDOUT, b"some"), *frames)):
        code, out, err = cli("exec", "api", "dump")
    assert (code, out) == (69, "some")
    assert said in err


def test_exec_says_why_a_command_ended_without_a_code(cli: Cli) -> None:
    with FakeAgent(cli.path, exec=attaching(encoded(FrameKind.STDOUT, b"some"), failed("EXEC_TIMEOUT", "too long"))):
        assert cli("exec", "api", "dump") == (1, "some", "too long (EXEC_TIMEOUT)\n")


def test_exec_refuses_an_agent_that_answers_in_the_bounded_form(cli: Cli) -> None:
    with FakeAgent(cli.path, exec=answering({"exit_code": 0, "output_forgotten": True})):
        code, _, err = cli("exec", "api", "dump")
    assert code == 69
    assert "does not know attached commands" in err


@pytest.mark.parametrize("argv", [["exec", "api"], ["exec", "api", "--"], ["exec", "-i", "api", "-w", "/"]])
def test_exec_needs_a_command(argv: list[str], cli: Cli) -> None:
    code, _, err = cli(*argv)
    assert code == 2
    assert "put it after SERVICE" in err


@pytest.mark.parametrize(
    ("argv", "options", "command"),
    [
        (["api", "ls", "-l"], ["api"], ["ls", "-l"]),
        (["api", "--", "ls", "--", "-l"], ["api"], ["ls", "--", "-l"]),
        (["-it", "api", "sh"], ["-it", "api"], ["sh"]),
        (["-itw", "/w", "api", "sh"], ["-itw", "/w", "api"], ["sh"]),
        (["-w/we", "api", "sh"], ["-w/we", "api"], ["sh"]),
        (["-eA=e", "-e", "B=w", "api", "sh"], ["-eA=e", "-e", "B=w", "api"], ["sh"]),
        (
            ["--env=A=b", "--workdir", "/", "api", "sh", "-w", "x"],
            ["--env=A=b", "--workdir", "/", "api"],
            ["sh", "-w", "x"],
        ),
        (["api", "--json", "--timeout", "3", "--", "sh"], ["api", "--json", "--timeout", "3"], ["sh"]),
        (["--socket", "/s", "api", "sh", "-c", "a -- b"], ["--socket", "/s", "api"], ["sh", "-c", "a -- b"]),
        (["--", "ls"], [], ["ls"]),
        ([], [], []),
    ],
)
def test_everything_behind_the_service_is_the_command(argv: list[str], options: list[str], command: list[str]) -> None:
    assert split_exec(argv) == (options, command)


def test_the_words_of_exec_know_every_option_with_a_value() -> None:
    parser = argparse.ArgumentParser()
    add_common(parser, top=False)
    exec_verb.add_arguments(parser)
    valued = {word for action in parser._actions if action.nargs is None for word in action.option_strings}
    assert valued == VALUED


def test_ps_names_two_domains_and_counts_the_rest(cli: Cli) -> None:
    service = {"service_id": "s", "domains": ["a.example", "b.example", "c.example"]}
    with FakeAgent(cli.path, list_services=answering({"services": [service]})):
        _, out, _ = cli("ps")
        assert "a.example b.example +1" in out
        assert json.loads(cli("ps", "--json")[1])["services"][0]["domains"] == service["domains"]


def log_lines(*messages: str) -> Script:
    def script(peer: Peer) -> None:
        for message in messages:
            line = {"timestamp": "2026-01-01T00:00:00Z", "stream": "stdout", "message": message}
            peer.send("log_stream", {"request_id": peer.request["id"], "logs": [line], "done": False})
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [], "done": True})

    return script


def test_logs_print_lines_escaped_and_end(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=log_lines("a\tb", "\x1b[31mred")) as agent:
        assert cli("logs", "api") == (0, "a\tb\n\\x1b[31mred\n", "")
        assert agent.last("logs_subscribe") | {"request_id": ""} == {
            "request_id": "",
            "service_id": "svc_shop_api",
            "follow": False,
            "tail": 100,
        }
        assert cli("logs", "api", "-t", "--tail", "5")[1].startswith("2026-01-01T00:00:00Z a\tb\n")
        assert agent.last("logs_subscribe")["tail"] == 5
        assert cli("logs", "api", "--tail", "0", "-f")[1] == "a\tb\n\\x1b[31mred\n"
        assert agent.last("logs_subscribe")["follow"] is True
        first = json.loads(cli("logs", "api", "--json")[1].splitlines()[0])
        assert first == {"timestamp": "2026-01-01T00:00:00Z", "stream": "stdout", "message": "a\tb"}


def replica_lines(*numbers: int, known: tuple[int, ...] = ()) -> Script:
    def script(peer: Peer) -> None:
        peer.respond({"subscribed": True, "follow": False, "replicas": list(known)})
        for number in numbers:
            line = {"timestamp": "", "stream": "stdout", "message": f"of {number}", "replica": number}
            peer.send("log_stream", {"request_id": peer.request["id"], "logs": [line], "done": False})
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [], "done": True})

    return script


def test_logs_of_several_replicas_say_whose_line_it_is(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, 10, known=(1, 10))):
        assert cli("logs", "shop/api")[1] == "api-1   | of 1\napi-10  | of 10\n"
        assert cli("logs", "api", "--no-log-prefix")[1] == "of 1\nof 10\n"
        assert json.loads(cli("logs", "api", "--json")[1].splitlines()[1])["replica"] == 10
    cli.path.unlink()
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, 1, known=(1,))):
        assert cli("logs", "api")[1] == "of 1\nof 1\n"
    cli.path.unlink()
    # A second replica that comes while following.
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, 2, 1, known=(1,))):
        assert cli("logs", "api")[1] == "of 1\napi-2  | of 2\napi-1  | of 1\n"


def merged_lines(peer: Peer) -> None:
    """Lines of two services at alternating times; when it follows, one that was there and one that is new."""
    service = peer.payload["service_id"]
    peer.respond({"subscribed": True, "replicas": [1]})
    first = 1 if service == "svc_shop_api" else 2
    moments = [f"2026-01-01T00:00:0{n}.000000000Z" for n in (first, first + 2)]
    if peer.payload["follow"]:
        assert peer.payload["since"] == moments[-1]
        moments = [moments[-1], f"2026-01-01T00:00:09.00000000{first}Z"]
    lines = [{"timestamp": moment, "message": f"{service[-3:]} at {moment[17:19]}", "replica": 1} for moment in moments]
    peer.send("log_stream", {"request_id": peer.request["id"], "logs": lines, "done": True})


def test_logs_of_several_services_are_merged_by_time_also_when_followed(cli: Cli) -> None:
    known = answering({"services": [SERVICE, {**SERVICE, "service_id": "svc_shop_web", "service_name": "web"}]})
    with FakeAgent(cli.path, list_services=known, logs_subscribe=merged_lines):
        all_of = ["api-1  | api at 01", "web-1  | web at 02", "api-1  | api at 03", "web-1  | web at 04"]
        assert cli("logs", "api", "web")[1].splitlines() == all_of
        assert cli("logs", "--all", "--tail", "2")[1].splitlines() == all_of[2:]
        assert cli("logs", "--all", "--grep", "^api", "--tail", "1")[1].splitlines() == [all_of[2]]
        followed = cli("logs", "-a", "-f", "--tail", "1")[1].splitlines()
        assert followed[0] == all_of[3]
        assert sorted(followed[1:]) == ["api-1  | api at 09", "web-1  | web at 09"]
        shown = json.loads(cli("logs", "--all", "--json")[1].splitlines()[0])
        assert (shown["service_id"], shown["message"]) == ("svc_shop_api", "api at 01")
    for words in (("logs",), ("logs", "api", "--all"), ("logs", "api", "--grep", "(")):
        code, _, err = cli(*words)
        assert code == 2 and err.startswith("cannot ")


def test_log_prefixes_are_coloured_on_a_terminal_only(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, known=(1, 2))):
        assert cli("logs", "api")[0] == 0
        assert terminal.getvalue() == "\x1b[33mapi-1  | \x1b[0mof 1\n"
        monkeypatch.setenv("NO_COLOR", "1")
        assert cli("logs", "api")[0] == 0
    assert terminal.getvalue().endswith("\x1b[0mof 1\napi-1  | of 1\n")


def test_logs_say_where_a_line_was_cut(cli: Cli) -> None:
    def script(peer: Peer) -> None:
        line = {"timestamp": "", "stream": "stdout", "message": "xx", "truncated": True}
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [line], "done": True})

    with FakeAgent(cli.path, logs_subscribe=script):
        assert cli("logs", "api")[1] == "xx … (cut at 64 KiB)\n"
        assert json.loads(cli("logs", "api", "--json")[1])["truncated"] is True


def test_logs_since_takes_ages_and_times(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=log_lines()) as agent:
        assert cli("logs", "api", "--since", "2024-05-01T12:00:00+02:00")[0] == 0
        assert agent.last("logs_subscribe")["since"] == "2024-05-01T10:00:00.000000Z"
        assert cli("logs", "api", "--since", "2h")[0] == 0
    moment = datetime.fromisoformat(agent.last("logs_subscribe")["since"])
    assert 7190 < (datetime.now(UTC) - moment).total_seconds() < 7300


def test_logs_cut_short_are_an_error(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=lambda peer: peer.respond({})):
        code, _, err = cli("logs", "api")
    assert code == 69
    assert "closed the connection" in err


PLANNED: dict[str, Any] = {
    "service_id": "svc_shop_api",
    "action": "deploy",
    "strategy": "rolling",
    "changes": [
        {"setting": "image", "text": "image registry.example/api:1 → :2"},
        {"setting": "env A", "text": "env A changed"},
    ],
    "steps": [{"phase": "pull_image", "text": "pull registry.example/api:1"}, {"text": "create replica 0"}],
    "notes": ["stop first, because the volume has one writer"],
}


def test_plan_prints_changes_steps_and_notes(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, plan=answering(PLANNED)) as agent:
        code, out, _ = cli("plan", service_file)
        assert json.loads(cli("plan", service_file, "--json")[1]) == PLANNED
        assert agent.last("plan")["service_id"] == "svc_shop_api"
        assert agent.last("plan")["force"] is False
        # The same view, and nothing is deployed without a yes.
        code, shown, err = cli("deploy", service_file, "--plan")
    assert (code, err) == (0, "nothing was deployed; add --yes to deploy it\n")
    assert shown == out
    assert out.splitlines() == [
        "api: rolling, 2 steps",
        "  image registry.example/api:1 → :2",
        "  env A changed",
        "  1. pull registry.example/api:1",
        "  2. create replica 0",
        "note: stop first, because the volume has one writer",
    ]


def test_a_file_that_changes_nothing_is_not_deployed_unless_forced(cli: Cli, service_file: str) -> None:
    unchanged = answering({"service_id": "svc_shop_api", "action": "none", "changes": [], "steps": []})
    with FakeAgent(cli.path, plan=unchanged) as agent:
        assert cli("plan", service_file)[1] == "api: no changes\n"
        assert cli("deploy", service_file) == (0, "api: no changes; --force deploys it again\n", "")
        assert json.loads(cli("deploy", service_file, "--json")[1])["status"] == "unchanged"
        assert not [each for each in agent.requests if each["type"] == "deploy"]
    cli.path.unlink()
    with FakeAgent(cli.path, plan=answering(PLANNED), deploy=deploying(RUNNING)) as agent:
        code, out, _ = cli("deploy", service_file, "--force")
        assert agent.last("plan")["force"] is True
    assert code == 0
    assert out.startswith("api: image registry.example/api:1 → :2, env A changed\n")


def test_a_changed_number_of_replicas_only_scales(cli: Cli, service_file: str) -> None:
    data = {**PLANNED, "action": "scale", "replicas": 3, "changes": [{"setting": "replicas", "text": "replicas 2 → 3"}]}
    with FakeAgent(cli.path, plan=answering(data), scale=deploying(RUNNING)) as agent:
        assert cli("plan", service_file)[1].splitlines()[:2] == ["api: scale only, 2 steps", "  replicas 2 → 3"]
        assert cli("deploy", service_file, "--plan", "--yes")[0] == 0
        assert agent.last("scale") | {"request_id": ""} == {
            "request_id": "",
            "service_id": "svc_shop_api",
            "replicas": 3,
            "strategy": "rolling",
            "requested_by": person(),
        }


PULLING = {"status": "pulling", "phase": "pull_image", "progress_percent": 10, "message": "pulling"}
RUNNING = {"status": "running", "phase": "cleanup", "progress_percent": 100, "message": "2 replicas serve"}
FAILED = {
    "status": "failed",
    "progress_percent": 60,
    "message": "failed",
    "error": {"code": "HEALTH_CHECK_FAILED", "message": "GET /health answered 500"},
    "logs": [f"line {n}\x1b[2J" for n in range(30)],
}


def unstamped(out: str) -> str:
    """The lines without their times, and without how long it took."""
    lines = [line.partition("Z ")[2] for line in out.splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line.partition("Z ")[0]) for line in out.splitlines())
    return re.sub(r" in \d+\.\d s$", " in 0 s", "\n".join(lines))


def test_deploy_in_a_pipe_prints_a_line_per_change_and_ends_well(cli: Cli, service_file: str) -> None:
    service = {**SERVICE, "urls": ["https://api.example"]}
    known = answering({"services": [service]})
    with FakeAgent(cli.path, deploy=deploying(PULLING, PULLING, RUNNING), list_services=known) as agent:
        code, out, err = cli("deploy", service_file)
    assert (code, err) == (0, "")
    last = "100% api registry.example/api:1, 2 replicas serve, https://api.example in 0 s"
    assert unstamped(out) == f" 10% pulling: pulling\n{last}"
    sent = agent.last("deploy")
    assert sent["service_id"] == "svc_shop_api"
    assert sent["image"] == {"registry": "registry.example", "repository": "api", "tag": "1"}
    assert "registry_auth" not in sent


def test_how_far_a_step_is_is_said_and_percentages_only_rise(cli: Cli, service_file: str) -> None:
    far = {**PULLING, "detail": "2/3 layers", "progress_percent": 30}
    back = {"status": "creating", "message": "create replica 1", "progress_percent": 5}
    with FakeAgent(cli.path, deploy=deploying(PULLING, far, back, RUNNING)):
        out = unstamped(cli("deploy", service_file)[1])
    assert out.splitlines()[:3] == [
        " 10% pulling: pulling",
        " 30% pulling: pulling, 2/3 layers",
        " 30% creating: create replica 1",
    ]


def test_a_deploy_is_not_waited_for_when_it_is_detached(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING, RUNNING)) as agent:
        code, out, err = cli("deploy", service_file, "--detach", "--timeout", "20")
        assert agent.last("deploy")["timeout_seconds"] == 20
        assert json.loads(cli("deploy", service_file, "-d", "--json")[1])["accepted"] is True
    assert (code, out, err) == (0, "the deploy of api continues in the background; see `syntra-agent ps`\n", "")


def test_the_last_phases_are_called_what_they_are(cli: Cli, service_file: str) -> None:
    stopping = {"status": "starting", "phase": "stop_old", "message": "stop old", "progress_percent": 80}
    commit = {"status": "health_checking", "phase": "cleanup", "message": "commit", "progress_percent": 90}
    with FakeAgent(cli.path, deploy=deploying(stopping, commit, RUNNING)):
        out = unstamped(cli("deploy", service_file)[1])
    assert out.startswith(" 80% stopping: stop old\n 90% finishing: commit\n100% api")


def test_deploy_json_prints_one_event_per_line(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING, RUNNING)):
        code, out, _ = cli("deploy", service_file, "--json")
    assert code == 0
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["pulling", "running"]


def test_a_failed_deploy_says_why_once_with_the_last_lines_and_what_to_type(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING, FAILED)):
        code, out, err = cli("deploy", service_file)
    assert code == 1
    lines = err.splitlines()
    assert lines[0] == "cannot deploy api: GET /health answered 500 (HEALTH_CHECK_FAILED)"
    assert lines[1] == "  | line 10\\x1b[2J"
    assert lines[21:] == ["next: syntra-agent status api"]
    assert "GET /health" not in out


def test_a_reason_is_without_the_page_of_a_web_server_and_names_the_service_as_typed(
    cli: Cli, service_file: str
) -> None:
    page = "<!DOCTYPE html>\n<html><style>p{}</style><body><h1>502 Bad Gateway</h1>\x1b[31m</body></html>"
    kept = "; the failed container is kept for a day: see `syntra-agent logs api --deployment dep_1`"
    message = f"cannot pull api of svc_shop_api: {page}"
    failed = {"status": "failed", "message": f"{message}{kept}", "error": {"code": "X", "message": message}}
    with FakeAgent(cli.path, deploy=deploying(failed)):
        err = cli("deploy", service_file)[2]
    assert err == (
        "cannot deploy api: cannot pull api of api: 502 Bad Gateway (X)\n"
        "next: syntra-agent logs api --deployment dep_1\n"
    )


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"status": "failed"}, "no reason given"),
        ({"status": "failed", "error_message": "older name"}, "older name"),
        ({"status": "rolled_back", "message": "went back"}, "went back; the previous version is running again"),
    ],
)
def test_only_running_is_success(last: dict[str, object], said: str, cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(last)):
        code, _, err = cli("deploy", service_file)
    assert code == 1
    assert said in err


def test_an_engine_that_is_away_is_exit_code_69(cli: Cli, service_file: str) -> None:
    with FakeAgent(
        cli.path, deploy=deploying({"status": "failed", "error": {"code": "RUNTIME_UNAVAILABLE", "message": "gone"}})
    ):
        assert cli("deploy", service_file)[0] == 69


def test_a_refused_deploy_prints_the_refusal(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=lambda peer: peer.refuse("BUSY", "another deployment runs")):
        assert cli("deploy", service_file) == (75, "", "another deployment runs (BUSY)\n")


def test_an_agent_that_goes_away_in_the_middle_is_an_error(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING)):
        code, _, err = cli("deploy", service_file)
    assert code == 69
    assert "the deploy of api continues in the background" in err
    assert "closed the connection" in err


def test_a_wrong_service_file_is_exit_code_2_and_asks_no_agent(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("imge: nginx")
    for verb in ("deploy", "plan"):
        code, _, err = cli(verb, str(path))
        assert code == 2
        assert "x.yaml:1:1: imge: unknown key, did you mean image?" in err


class Terminal(io.StringIO):
    """What calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_deploy_in_a_terminal_has_a_line_for_each_step_with_its_time(
    cli: Cli, service_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    long = {"status": "creating", "message": "create " + "x" * 50}
    far = {**PULLING, "detail": "1/3 layers, 1.0 of 3.0 MB"}
    with FakeAgent(cli.path, deploy=deploying(PULLING, far, long, RUNNING)):
        assert cli("deploy", service_file)[0] == 0
    drawn = terminal.getvalue().replace("\n", "\r").split("\r")
    assert all(len(line.removeprefix("\x1b[2K")) < 40 for line in drawn), drawn
    shown = [re.sub(r"\d+\.\d s", "0 s", line.rpartition("\x1b[2K")[2]) for line in terminal.getvalue().split("\n")]
    assert shown[0] == "+ pulling  0 s"
    assert re.fullmatch(r"\+ create x+…  0 s", shown[1])
    assert " ".join(shown[2:]).split() == [
        "+",
        "api",
        "registry.example/api:1,",
        "2",
        "replicas",
        "serve",
        "in",
        "0",
        "s",
    ]
    assert any("1/3 layers, 1.0" in line for line in drawn)


def test_the_registry_password_comes_from_stdin_or_the_environment(
    cli: Cli, service_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAgent(cli.path, deploy=deploying(RUNNING)) as agent:
        monkeypatch.setattr(sys, "stdin", io.StringIO("hunter2\n"))
        assert cli("deploy", service_file, "--registry-user", "u", "--registry-password-stdin")[0] == 0
        assert agent.last("deploy")["registry_auth"] == {"username": "u", "password": "hunter2"}
        monkeypatch.setenv("SYNTRA_REGISTRY_PASSWORD", "hunter3")
        assert cli("deploy", service_file, "--registry-user", "u")[0] == 0
        assert agent.last("deploy")["registry_auth"] == {"username": "u", "password": "hunter3"}
        assert cli("deploy", service_file)[0] == 0
        assert "registry_auth" not in agent.last("deploy")
    monkeypatch.delenv("SYNTRA_REGISTRY_PASSWORD")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for argv in (["--registry-user", "u"], ["--registry-password-stdin"]):
        code, _, err = cli("deploy", service_file, *argv)
        assert code == 2
        assert "cannot use the registry password" in err
    assert cli("deploy", service_file, "--registry-user", "u", "--registry-password-stdin")[0] == 2


def test_scale_sends_replicas_and_follows(cli: Cli) -> None:
    with FakeAgent(cli.path, scale=deploying(RUNNING)) as agent:
        assert cli("scale", "api", "3")[0] == 0
        assert (agent.last("scale")["replicas"], agent.last("scale")["strategy"]) == (3, "rolling")
        assert cli("scale", "api", "0", "--immediate", "--json")[0] == 0
        assert (agent.last("scale")["replicas"], agent.last("scale")["strategy"]) == (0, "immediate")


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


def test_metrics_without_a_service_are_of_all(cli: Cli) -> None:
    with FakeAgent(cli.path, metrics=answering({"containers": []})) as agent:
        assert cli("metrics") == (0, "no running containers\n", "")
        assert "service_id" not in agent.last("metrics")


def test_standard_input_is_either_the_service_file_or_the_password(cli: Cli) -> None:
    code, _, err = cli("deploy", "-", "--registry-user", "u", "--registry-password-stdin")
    assert code == 2
    assert "cannot read both the service file and the password from stdin; set SYNTRA_REGISTRY_PASSWORD" in err
