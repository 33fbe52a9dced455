"""Figures from statistics of cgroup v1 and v2, and from samples that lack things."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.runtime.docker.stats import container_figures, is_empty
from tests.narrow import present


def sample(cpu: int, read: str, **more: Any) -> dict[str, Any]:
    return {
        "read": read,
        "cpu_stats": {"cpu_usage": {"total_usage": cpu}, "system_cpu_usage": 0, "online_cpus": 2},
        "memory_stats": {"usage": 1000, "limit": 5000, "stats": {"total_inactive_file": 300, "inactive_file": 1}},
        **more,
    }


V2 = {"memory_stats": {"usage": 1000, "limit": 5000, "stats": {"inactive_file": 400}}}
EMPTY: dict[str, Any] = {
    "read": "0001-01-01T00:00:00Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 0}},
    "memory_stats": {},
}


def test_the_cpu_rate_is_of_one_core() -> None:
    before = sample(1_000_000_000, "2024-05-01T12:00:00.5Z")
    after = sample(2_500_000_000, "2024-05-01T12:00:01.5Z")
    figures = present(container_figures(before, after))
    assert figures.cpu_percent == pytest.approx(150.0)


def test_without_times_the_hosts_cpu_time_measures() -> None:
    before, after = sample(1_000, ""), sample(2_000, "")
    after["cpu_stats"]["system_cpu_usage"] = 4_000
    figures = present(container_figures(before, after))
    assert figures.cpu_percent == pytest.approx(50.0)


def test_memory_leaves_out_reclaimable_page_cache_of_both_cgroup_versions() -> None:
    before = sample(1, "2024-05-01T12:00:00Z")
    v1 = container_figures(before, sample(2, "2024-05-01T12:00:01Z"))
    v2 = container_figures(before, sample(2, "2024-05-01T12:00:01Z", **V2))
    assert v1 is not None and v2 is not None
    assert (v1.memory_bytes, v1.memory_limit_bytes) == (700, 5000)
    assert v2.memory_bytes == 600


def test_network_and_block_counters_are_summed() -> None:
    after = sample(
        2,
        "2024-05-01T12:00:01Z",
        networks={"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        blkio_stats={
            "io_service_bytes_recursive": [
                {"op": "Read", "value": 5},
                {"op": "read", "value": 5},
                {"op": "Write", "value": 7},
                {"op": "Total", "value": 99},
            ]
        },
        pids_stats={"current": 3},
    )
    figures = present(container_figures(sample(1, "2024-05-01T12:00:00Z"), after))
    assert (figures.network_rx_bytes, figures.network_tx_bytes) == (11, 22)
    assert (figures.block_read_bytes, figures.block_write_bytes) == (10, 7)
    assert figures.pids == 3


def test_an_empty_sample_gives_nothing() -> None:
    full = sample(1, "2024-05-01T12:00:00Z")
    assert is_empty(EMPTY)
    assert container_figures(full, EMPTY) is None
    assert container_figures(EMPTY, full) is None
    assert container_figures(None, full) is None
    assert container_figures({}, {}) is None


def test_one_sample_with_its_predecessor_inside_is_enough() -> None:
    one = sample(2_000_000_000, "2024-05-01T12:00:01Z", preread="2024-05-01T12:00:00Z")
    one["precpu_stats"] = {"cpu_usage": {"total_usage": 1_000_000_000}}
    figures = present(container_figures(None, one))
    assert figures.cpu_percent == pytest.approx(100.0)


def test_a_restart_between_the_samples_gives_no_negative_rate() -> None:
    figures = present(container_figures(sample(9_000, "2024-05-01T12:00:00Z"), sample(5, "2024-05-01T12:00:01Z")))
    assert figures.cpu_percent == 0.0


def test_null_lists_of_the_engine_are_survived() -> None:
    after = sample(2, "2024-05-01T12:00:01Z", blkio_stats={"io_service_bytes_recursive": None}, networks=None)
    assert container_figures(sample(1, "2024-05-01T12:00:00Z"), after) is not None
