"""`ps`: services and replicas in tables that fit the terminal."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.cli.fake_agent import SERVICE, Cli, FakeAgent, answering
from tests.cli.shown import DETAILED


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


def test_ps_says_how_often_and_with_what_a_crash_loop_exits(cli: Cli) -> None:
    looping = {**SERVICE, "status": "restarting", "status_detail": "exit 7, 12 times", "restarts": 12}
    with FakeAgent(cli.path, list_services=answering({"services": [looping]})):
        _, out, _ = cli("ps")
    assert " restarting (exit 7, 12 times) " in out.splitlines()[1]


def test_ps_without_services_says_so(cli: Cli) -> None:
    with FakeAgent(cli.path, list_services=answering({"services": []})):
        assert cli("ps") == (0, "no services\n", "")


def test_ps_names_two_domains_and_counts_the_rest(cli: Cli) -> None:
    service = {"service_id": "s", "domains": ["a.example", "b.example", "c.example"]}
    with FakeAgent(cli.path, list_services=answering({"services": [service]})):
        _, out, _ = cli("ps")
        assert "a.example b.example +1" in out
        assert json.loads(cli("ps", "--json")[1])["services"][0]["domains"] == service["domains"]
