"""`metrics`: of one service and of all."""

from __future__ import annotations

import json

from tests.cli.fake_agent import Cli, FakeAgent, answering


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


def test_metrics_without_a_service_are_of_all(cli: Cli) -> None:
    with FakeAgent(cli.path, metrics=answering({"containers": []})) as agent:
        assert cli("metrics") == (0, "no running containers\n", "")
        assert "service_id" not in agent.last("metrics")
