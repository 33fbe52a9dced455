"""Readings from statistics of cgroup v1 and v2, and from samples that lack things."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.model.figures import cpu_percent
from syntra.runtime.docker.stats import container_reading, is_empty
from tests.narrow import present


def sample(cpu: int, read: str, **more: Any) -> dict[str, Any]:
    return {
        "read": read,
        "cpu_stats": {"cpu_usage": {"total_usage": cpu}, "system_cpu_usage": 0, "online_cpus": 2},
        "memory_stats": {"usage": 1000, "limit": 5000, "stats": {"total_inactive_file": 300, "inactive_file": 1}},
        **more,
    }


V2 = {"memory_stats": {"usage": 1000, "limit": 5000, "stats": {"inactive_file": 400, "anon": 9, "pgfault": 7}}}
EMPTY: dict[str, Any] = {
    "read": "0001-01-01T00:00:00Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 0}},
    "memory_stats": {},
}


def rate(before: dict[str, Any], after: dict[str, Any]) -> float:
    return cpu_percent(container_reading(before), present(container_reading(after)))


def test_the_cpu_rate_is_of_one_core() -> None:
    before = sample(1_000_000_000, "2024-05-01T12:00:00.5Z")
    after = sample(2_500_000_000, "2024-05-01T12:00:01.5Z")
    assert rate(before, after) == pytest.approx(150.0)


def test_without_times_the_hosts_cpu_time_measures() -> None:
    before, after = sample(1_000, ""), sample(2_000, "")
    after["cpu_stats"]["system_cpu_usage"] = 4_000
    assert rate(before, after) == pytest.approx(50.0)


def test_memory_leaves_out_reclaimable_page_cache_of_both_cgroup_versions() -> None:
    v1 = present(container_reading(sample(2, "2024-05-01T12:00:01Z")))
    v2 = present(container_reading(sample(2, "2024-05-01T12:00:01Z", **V2)))
    assert (v1.memory_bytes, v1.working_set_bytes, v1.memory_limit_bytes) == (1000, 700, 5000)
    assert (v2.working_set_bytes, v2.rss_bytes, v2.minor_faults) == (600, 9, 7)


def test_network_and_block_counters_are_those_of_each_device() -> None:
    blocks = [("Read", 5), ("read", 5), ("Write", 7), ("Total", 99)]
    after = sample(
        2,
        "2024-05-01T12:00:01Z",
        networks={"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        blkio_stats={
            "io_service_bytes_recursive": [{"major": 8, "minor": 1, "op": op, "value": value} for op, value in blocks]
        },
        pids_stats={"current": 3, "limit": 9},
    )
    found = present(container_reading(after))
    assert found.networks == {"eth0": (1, 2), "eth1": (10, 20)}
    assert found.disks == {"8:1": (10, 7)}
    assert (found.pids, found.pids_limit) == (3, 9)


def test_an_empty_sample_gives_nothing() -> None:
    assert is_empty(EMPTY)
    assert container_reading(EMPTY) is None
    assert container_reading({}) is None


def test_a_restart_between_the_samples_gives_no_negative_rate() -> None:
    assert rate(sample(9_000, "2024-05-01T12:00:00Z"), sample(5, "2024-05-01T12:00:01Z")) == 0.0


def test_null_lists_of_the_engine_are_survived() -> None:
    after = sample(2, "2024-05-01T12:00:01Z", blkio_stats={"io_service_bytes_recursive": None}, networks=None)
    assert present(container_reading(after)).disks == {}
