"""Facts and figures of this host, and the arithmetic between two readings."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from syntra.utils.host import HostCounters, HostMeter, counted_interfaces, cpu_model, facts, figures_between
from syntra.utils.host_reading import HostReader, HostReading, Interface

GIB = 1024**3


def counters(
    busy: float = 0, total: float = 0, interfaces: Mapping[str, tuple[int, int]] | None = None
) -> HostCounters:
    return HostCounters(
        cpu_busy_secs=busy,
        cpu_total_secs=total,
        memory_total=8 * GIB,
        memory_available=6 * GIB,
        disk_used=10 * GIB + 5,
        disk_available=90 * GIB - 5,
        interfaces=interfaces or {},
    )


def test_facts_are_complete_and_fit_the_hello() -> None:
    found = facts()
    payload = found.to_payload()
    assert set(payload) == {"os", "arch", "resources", "network"}
    assert json.loads(json.dumps(payload)) == payload
    assert found.kernel == os.uname().release and found.hostname == socket.gethostname()
    assert found.os_name and found.os_version and found.cpu_model
    assert found.arch in ("x86_64", "aarch64")
    assert found.cpu_cores == os.cpu_count()
    assert found.memory_total_mb == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    disk = os.statvfs("/")
    assert found.disk_total_gb == disk.f_blocks * disk.f_frsize // GIB
    ipaddress.ip_address(found.private_ip)
    assert found.public_ip is None


def test_a_host_without_a_network_still_has_a_private_ip() -> None:
    program = "from syntra.utils.host import facts; print(facts().private_ip)"
    done = subprocess.run(["unshare", "--net", sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no network namespace can be made here")
    assert done.stdout == "127.0.0.1\n"


def test_the_first_sample_has_sizes_and_no_rates() -> None:
    figures = HostMeter().measure(HostReader().read())
    assert figures.cpu_usage_percent == 0 and figures.network_rx_bytes == 0 and figures.network_tx_bytes == 0
    assert figures.memory_used_mb > 0 and figures.memory_available_mb > 0 and figures.disk_available_gb >= 0
    assert json.loads(json.dumps(figures.to_payload())) == figures.to_payload()


def test_real_samples_stay_in_their_ranges() -> None:
    meter = HostMeter("/proc/self/..")
    for _ in range(3):
        figures = meter.measure(HostReader().read())
        assert 0 <= figures.cpu_usage_percent <= 100 and figures.network_rx_bytes >= 0


def test_a_missing_disk_path_is_an_os_error() -> None:
    with pytest.raises(OSError):
        HostMeter("/no/such/path").measure(HostReader().read())


def reading(busy: float, total: float, received: int, sent: int) -> HostReading:
    """The processors and the one network interface of a host, beside what this one has."""
    cards = {"eth0": Interface(**dict.fromkeys(Interface.__dataclass_fields__, 0) | {"received_bytes": received})}
    cards["eth0"] = replace(cards["eth0"], sent_bytes=sent)
    found = HostReader().read()
    memory = {"MemTotal": 8 * GIB, "MemAvailable": 6 * GIB}
    cpu = {"user": busy, "idle": total - busy}
    return replace(found, cpu_secs=cpu, memory=memory, interfaces=cards)


def test_each_reading_counts_from_the_one_before(tmp_path: Path) -> None:
    meter = HostMeter(tmp_path)
    readings = [reading(10, 100, 1000, 500), reading(15, 110, 1500, 600), reading(15, 120, 1500, 650)]
    seen = [meter.measure(each) for each in readings]
    counted = bool(counted_interfaces(["eth0"]))
    assert [(each.cpu_usage_percent, each.network_rx_bytes, each.network_tx_bytes) for each in seen] == [
        (0.0, 0, 0),
        (50.0, 500 * counted, 100 * counted),
        (0.0, 0, 50 * counted),
    ]
    disk = os.statvfs(tmp_path)
    payload = seen[0].to_payload()
    assert payload.pop("disk_available_gb") == disk.f_bavail * disk.f_frsize // GIB
    assert payload.pop("disk_used_gb") == (disk.f_blocks - disk.f_bfree) * disk.f_frsize // GIB
    assert payload == {
        "cpu_usage_percent": 0.0,
        "memory_used_mb": 2048,
        "memory_available_mb": 6144,
        "network_rx_bytes": 0,
        "network_tx_bytes": 0,
    }


@pytest.mark.parametrize(
    ("last", "current", "received", "sent"),
    [
        ({}, {"eth0": (10**12, 10**12)}, 0, 0),
        ({"eth0": (100, 100)}, {"eth0": (30, 150)}, 30, 50),
        ({"eth0": (100, 100)}, {}, 0, 0),
        ({"eth0": (1, 1), "eth1": (1, 1)}, {"eth0": (2, 3), "eth1": (4, 5)}, 4, 6),
    ],
)
def test_interfaces_that_come_go_or_start_over_do_not_spoil_the_sum(
    last: Mapping[str, tuple[int, int]], current: Mapping[str, tuple[int, int]], received: int, sent: int
) -> None:
    figures = figures_between(counters(interfaces=last), counters(interfaces=current))
    assert (figures.network_rx_bytes, figures.network_tx_bytes) == (received, sent)


@pytest.mark.parametrize(
    ("busy", "total", "percent"), [(5, 10, 50.0), (0, 0, 0.0), (-1, 10, 0.0), (12, 10, 100.0), (1, -1, 0.0)]
)
def test_processor_use_is_a_percentage_whatever_the_kernel_counts(busy: float, total: float, percent: float) -> None:
    assert figures_between(counters(100, 1000), counters(100 + busy, 1000 + total)).cpu_usage_percent == percent


def sys_tree(root: Path, devices: list[str], masters: Mapping[str, str]) -> Path:
    for name in devices:
        (root / name / "device").mkdir(parents=True)
    for name, master in masters.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / "master").symlink_to(f"../{master}")
    return root


@pytest.mark.parametrize(
    ("names", "devices", "masters", "counted"),
    [
        (["lo", "eth0", "docker0", "veth1", "br-abc"], ["eth0"], {}, ["eth0"]),
        (
            ["bond0", "eth0", "eth1", "bond0.100"],
            ["eth0", "eth1"],
            {"eth0": "bond0", "eth1": "bond0"},
            ["eth0", "eth1"],
        ),
        (["eth0", "enP1"], ["eth0", "enP1"], {"enP1": "eth0"}, ["eth0"]),
        (["lo", "eth0", "cali1", "docker0"], [], {}, ["eth0"]),
        (["lo", "venet0", "wg0"], [], {}, ["venet0"]),
        (["lo"], [], {}, []),
    ],
)
def test_each_byte_is_counted_on_one_interface(
    tmp_path: Path, names: list[str], devices: list[str], masters: Mapping[str, str], counted: list[str]
) -> None:
    assert counted_interfaces(names, sys_tree(tmp_path, devices, masters)) == counted


@pytest.mark.parametrize(
    ("cpuinfo", "device_tree", "model"),
    [
        (
            "processor\t: 0\nmodel name\t: Some  CPU @ 2GHz\n\nprocessor\t: 1\nmodel name\t: Other\n",
            "",
            "Some CPU @ 2GHz",
        ),
        ("processor : 0\nCPU part : 0xd08\n\nModel\t\t: Raspberry Pi 4\n", "x", "Raspberry Pi 4"),
        ("processor : 0\nCPU part : 0xd0c\n", "Some Board\0", "Some Board"),
        ("model name :\n", "", ""),
        ("", "", ""),
    ],
)
def test_the_processor_has_a_name_where_the_kernel_knows_one(cpuinfo: str, device_tree: str, model: str) -> None:
    assert cpu_model(cpuinfo, device_tree) == model


def test_the_facts_are_those_of_psutil_and_do_not_load_it() -> None:
    """It would cost a start a tenth of its time, and the agent 0.9 MB."""
    program = "import sys; from syntra.utils.host import facts; facts(); print('psutil' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
    found = facts("/")
    assert found.cpu_cores == psutil.cpu_count(logical=True)
    assert found.memory_total_mb == psutil.virtual_memory().total // 2**20
    assert found.disk_total_gb == psutil.disk_usage("/").total // 2**30
