"""`telemetry status` and `telemetry tail`: what is asked, what is printed, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syntra.cli.exit_codes import ExitCode
from tests.cli.fake_agent import Cli, FakeAgent, Peer, answering

URL = "http://127.0.0.1:4318"
STATUS: dict[str, Any] = {
    "problem": None,
    "receivers": [{"protocol": "http", "url": URL}, {"protocol": "grpc", "url": "http://127.0.0.1:4317"}],
    "buffer": {"bytes": 1_500_000, "max_bytes": 52_428_800, "oldest_seconds": 75.2, "memory_only": ""},
    "destinations": [
        {"name": "control-plane", "problem": None, "last_success_seconds": 3.7},
        {"name": "export", "problem": "cannot ship telemetry to https://otlp.example: refused", "signals": {}},
    ],
    "sampling": {"spans_per_sec": 12.4, "target_spans_per_sec": 1000.0, "state": "everything is kept"},
    "signals": [
        {
            "signal": "traces",
            "received": 1200,
            "refused": 3,
            "sampled_out": 100,
            "kept": 1097,
            "buffered": 5,
            "shipped": 1092,
            "dropped": 0,
            "rate": 12.42,
        }
    ],
    "services": [
        {
            "service": "shop/web",
            "requests_per_sec": 4.25,
            "error_share": 0.015,
            "p50": 3.21,
            "p95": 20.0,
            "p99": None,
            "sampling": 0.5,
        }
    ],
}


def shown(cli: Cli, status: dict[str, Any]) -> str:
    with FakeAgent(cli.path, telemetry_status=answering(status)):
        code, out, err = cli("telemetry", "status")
    assert (code, err) == (0, "")
    return out


def test_status_shows_receivers_buffer_destinations_sampling_and_counts(cli: Cli) -> None:
    lines = shown(cli, STATUS).splitlines()
    assert lines[:5] == [
        f"receivers:     {URL}, http://127.0.0.1:4317",
        "buffer:        1.5 MB of 52.4 MB, oldest 1m 15s ago",
        "shipping:      control-plane: running, last batch 3s ago",
        "shipping:      export: cannot ship telemetry to https://otlp.example: refused",
        "sampling:      12 spans/s received, target 1000; everything is kept",
    ]
    assert lines[6].split() == [
        *("SIGNAL", "RECEIVED", "REFUSED", "SAMPLED", "OUT", "KEPT", "BUFFERED", "SHIPPED", "DROPPED", "RATE")
    ]
    assert lines[7].split() == ["traces", "1200", "3", "100", "1097", "5", "1092", "0", "12.4/s"]
    assert lines[10].split() == ["shop/web", "4.2", "1.5%", "3.2", "ms", "20.0", "ms", "-", "50.0%"]


def test_status_says_what_is_missing_of_containers_logs_and_of_sampled_ones(cli: Cli) -> None:
    logs = {"containers": 20, "streamed": 2, "lines": 12345, "dropped_lines": 7, "invalid_utf8": 1, "unreadable": 3}
    sampling = {**STATUS["sampling"], "logs_probability": 0.25}
    lines = shown(cli, {**STATUS, "container_logs": logs, "sampling": sampling}).splitlines()
    assert lines[4].endswith("everything is kept; 25.0% of ordinary log records are kept")
    assert lines[5] == (
        "logs:          of 20 containers (2 through the engine), 12345 records, 7 dropped by rate limits, "
        "3 lines damaged, 1 characters replaced that were no UTF-8"
    )


def test_status_of_container_logs_without_losses_is_short(cli: Cli) -> None:
    logs = {"containers": 1, "streamed": 0, "lines": 5, "dropped_lines": 0, "invalid_utf8": 0, "unreadable": 0}
    assert "logs:          of 1 containers, 5 records\n" in shown(cli, {**STATUS, "container_logs": logs})


def test_status_as_json_is_the_agent_s_answer(cli: Cli) -> None:
    with FakeAgent(cli.path, telemetry_status=answering(STATUS)) as agent:
        code, out, _ = cli("telemetry", "status", "--json")
        assert [one["type"] for one in agent.requests] == ["telemetry_status"]
    assert code == 0 and json.loads(out) == STATUS


def test_a_receiver_that_cannot_listen_is_a_problem_and_no_receiver(cli: Cli) -> None:
    sentence = "cannot listen on 127.0.0.1 port 4318: Address already in use; stop the other process"
    receivers = [{"url": URL, "problem": sentence}, {"url": "http://127.0.0.1:4317"}, {"url": "x", "problem": "other"}]
    lines = shown(cli, {**STATUS, "problem": sentence, "receivers": receivers}).splitlines()
    assert lines[:3] == [f"problem:       {sentence}", "problem:       other", "receivers:     http://127.0.0.1:4317"]


def test_without_any_receiver_it_says_so(cli: Cli) -> None:
    assert "receivers:     none" in shown(cli, {**STATUS, "receivers": [{"url": URL, "problem": "in use"}]})


@pytest.mark.parametrize("problem", ["telemetry is kept in memory only: the disk is full", "something else"])
def test_a_buffer_in_memory_is_said_once(cli: Cli, problem: str) -> None:
    out = shown(cli, {**STATUS, "problem": problem, "buffer": {**STATUS["buffer"], "memory_only": "the disk is full"}})
    assert out.count("the disk is full") == 1
    assert problem in out


def test_a_new_agent_has_received_nothing(cli: Cli) -> None:
    empty = {
        "problem": None,
        "receivers": [],
        "buffer": {"bytes": 0, "max_bytes": 1_000_000, "oldest_seconds": None, "memory_only": ""},
        "destinations": [],
        "sampling": STATUS["sampling"],
        "signals": [],
        "services": [],
    }
    out = shown(cli, empty)
    assert "nothing received yet" in out
    assert "buffer:        0 B of 1.0 MB\n" in out
    assert "SERVICE" not in out and "shipping" not in out


@pytest.mark.parametrize(
    "status", [{}, {"signals": [{}], "services": [{}], "destinations": [{}], "receivers": [{}], "buffer": {"bytes": 1}}]
)
def test_fields_that_another_version_lacks_are_shown_as_unknown(cli: Cli, status: dict[str, Any]) -> None:
    assert "sampling:      -" in shown(cli, status)


def test_foreign_text_cannot_move_the_cursor(cli: Cli) -> None:
    services = [{**STATUS["services"][0], "service": "\x1b[2Jweb"}]
    out = shown(cli, {**STATUS, "problem": "a\x1b[2Jb", "services": services})
    assert "\x1b" not in out


@pytest.mark.parametrize("action", ["status", "tail"])
def test_an_agent_without_telemetry_says_how_to_get_it(cli: Cli, action: str) -> None:
    sentence = "cannot ask for telemetry: it is off; set telemetry.receivers to on"

    def refuse(peer: Peer) -> None:
        peer.refuse("TELEMETRY_UNAVAILABLE", sentence)

    with FakeAgent(cli.path, telemetry_status=refuse, telemetry_tail=refuse):
        code, out, err = cli("telemetry", action)
    assert code != 0
    assert out == "" and sentence in err


def tailing(*messages: dict[str, Any], end: str = "the telemetry process has ended") -> Any:
    """Accepts, sends messages, and ends with a refusal."""

    def script(peer: Peer) -> None:
        peer.respond({"subscribed": True})
        peer.send("telemetry_tail", {"request_id": "of someone else", "items": [{"line": "not ours"}], "missed": 0})
        for message in messages:
            peer.send("telemetry_tail", {"request_id": peer.request["id"], "missed": 0, **message})
        peer.refuse("TELEMETRY_UNAVAILABLE", end)

    return script


ITEMS = [{"signal": "traces", "operation_name": "GET /", "line": "12:00  GET /"}, {"signal": "logs", "line": "12:01 x"}]


def test_tail_prints_a_line_for_each_item_until_the_agent_ends_it(cli: Cli) -> None:
    with FakeAgent(cli.path, telemetry_tail=tailing({"items": ITEMS}, {"items": [], "missed": 12})) as agent:
        code, out, err = cli("telemetry", "tail")
        asked = agent.last("telemetry_tail")
    assert (asked["service"], asked["signal"]) == ("", "")
    assert out.splitlines() == ["12:00  GET /", "12:01 x", "… 12 more, faster than they can be shown"]
    assert code != 0 and "the telemetry process has ended" in err


def test_tail_as_json_prints_nothing_but_json(cli: Cli) -> None:
    with FakeAgent(cli.path, telemetry_tail=tailing({"items": ITEMS, "missed": 12})):
        _, out, err = cli("telemetry", "tail", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"signal": "traces", "operation_name": "GET /"},
        {"signal": "logs"},
    ]
    assert "12 more" in err


@pytest.mark.parametrize("name", ["api", "shop/api", "svc_shop_api"])
def test_tail_of_a_service_of_the_agent_asks_for_its_id(cli: Cli, name: str) -> None:
    with FakeAgent(cli.path, telemetry_tail=tailing()) as agent:
        cli("telemetry", "tail", "--service", name, "--signal", "logs")
        asked = agent.last("telemetry_tail")
    assert (asked["service"], asked["signal"]) == ("svc_shop_api", "logs")


def test_tail_of_another_program_asks_for_its_name(cli: Cli) -> None:
    with FakeAgent(cli.path, telemetry_tail=tailing()) as agent:
        cli("telemetry", "tail", "--service", "cron")
        assert agent.last("telemetry_tail")["service"] == "cron"


def test_tail_ends_with_an_error_when_the_agent_is_gone(cli: Cli) -> None:
    with FakeAgent(cli.path, telemetry_tail=lambda peer: peer.respond({"subscribed": True})):
        code, _, err = cli("telemetry", "tail")
    assert code != 0 and "it closed the connection" in err


def test_text_of_a_sender_cannot_move_the_cursor(cli: Cli) -> None:
    with FakeAgent(cli.path, telemetry_tail=tailing({"items": [{"line": "a\x1b[2Jb"}]})):
        assert "\x1b" not in cli("telemetry", "tail")[1]


@pytest.mark.parametrize("words", [(), ("show",), ("tail", "--signal", "spans")])
def test_other_words_are_a_usage_error(cli: Cli, words: tuple[str, ...]) -> None:
    code, _, err = cli("telemetry", *words)
    assert code == ExitCode.USAGE and err


@pytest.mark.parametrize("words", [("--service", "web"), ("--signal", "traces")])
def test_status_takes_no_filter(cli: Cli, words: tuple[str, str]) -> None:
    code, out, err = cli("telemetry", "status", *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err == "cannot select a service or signal in status: only tail takes them; leave them out\n"


def test_status_lists_what_is_scraped_and_why_a_target_is_down(cli: Cli) -> None:
    target = {"service": "shop", "last_scrape_seconds": 4.2, "duration_seconds": 0.0123, "samples": 40, "kept": 30}
    scrapes = {
        "targets": [
            {"url": "http://172.18.0.2:9090/metrics", "problem": "", **target},
            {"url": "http://10.0.0.9/metrics", "problem": "it answers with HTTP status 503", **target, "samples": 0},
            {"url": "http://10.0.0.8/metrics", "problem": "it has not been scraped yet", "last_scrape_seconds": None},
        ],
        "refused_targets": 2,
        "max_targets": 3,
    }
    lines = shown(cli, {**STATUS, "scrapes": scrapes}).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("TARGET"))
    assert lines[at + 1].split() == [
        "http://172.18.0.2:9090/metrics",
        "shop",
        "4s",
        "ago",
        "12.3",
        "ms",
        "40",
        "30",
        "up",
    ]
    assert lines[at + 2].endswith("it answers with HTTP status 503")
    assert lines[at + 3].split()[:4] == ["http://10.0.0.8/metrics", "-", "-", "-"]
    assert lines[at + 4] == "2 more targets are not scraped; raise telemetry.prometheus.max_targets, which is 3"
