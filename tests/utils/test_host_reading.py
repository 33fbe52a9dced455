"""What the host uses, beside what Debian's node exporter says at the same moment, and from files laid out."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syntra.utils.file_systems import FileSystems
from syntra.utils.host_reading import HostReader, HostReading

EXPORTER = "prometheus-node-exporter"
_SAMPLE = re.compile(r"(node_\w+)(?:\{(.*)\})? (\S+)")

Samples = dict[tuple[str, str], float]


@contextmanager
def exporter() -> Iterator[str]:
    if shutil.which(EXPORTER) is None:
        pytest.skip(f"{EXPORTER} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [EXPORTER, f"--web.listen-address=127.0.0.1:{port}", "--collector.interrupts"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}/metrics"
        finally:
            process.terminate()


def scraped(url: str) -> Samples:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                text = answer.read().decode()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    found = (_SAMPLE.fullmatch(line) for line in text.splitlines())
    return {(match[1], match[2] or ""): float(match[3]) for match in found if match}


def between(before: float, value: float, after: float, slack: float = 0.0) -> bool:
    return min(before, after) - slack <= value <= max(before, after) + slack


def test_counters_lie_between_those_of_the_node_exporter_before_and_after() -> None:
    reader = HostReader()
    with exporter() as url:
        scraped(url)  # the first takes longest
        before, reading, after = scraped(url), reader.read(), scraped(url)

    def check(name: str, labels: str, value: float, slack: float = 0.0) -> None:
        found = before[name, labels], after[name, labels]
        assert between(found[0], value, found[1], slack), (name, labels, value, found)

    for mode, secs in reading.cpu_secs.items():
        old, new = (
            sum(
                value
                for (name, labels), value in one.items()
                if name == "node_cpu_seconds_total" and f'mode="{mode}"' in labels
            )
            for one in (before, after)
        )
        # The kernel counts in hundredths, and its idle may fall.
        assert between(old, secs, new, 0.05), (mode, old, secs, new)
    for name, value in reading.memory.items():
        exported = "node_memory_" + name.replace("(", "_").replace(")", "") + "_bytes"
        if name in ("MemTotal", "SwapTotal", "CommitLimit", "VmallocTotal"):
            assert before[exported, ""] == value
        elif (exported, "") in before:
            check(exported, "", value, 512 * 1024**2)
    assert reading.memory["MemFree"] < reading.memory["MemAvailable"] < reading.memory["MemTotal"]
    for name in ("pgfault", "pgmajfault", "pswpin", "pswpout", "oom_kill"):
        check(f"node_vmstat_{name}", "", reading.paging[name])
    check("node_forks_total", "", reading.processes_created)
    assert before["node_boot_time_seconds", ""] * 1e9 == reading.booted_ns
    assert abs(before["node_load15", ""] - reading.load[2]) < 1
    for name, disk in reading.disks.items():
        device = f'device="{name}"'
        check("node_disk_read_bytes_total", device, disk.read_bytes)
        check("node_disk_written_bytes_total", device, disk.written_bytes)
        check("node_disk_reads_completed_total", device, disk.reads)
        check("node_disk_writes_completed_total", device, disk.writes)
        check("node_disk_reads_merged_total", device, disk.merged_reads)
        check("node_disk_writes_merged_total", device, disk.merged_writes)
        check("node_disk_read_time_seconds_total", device, disk.read_ms / 1000, 1e-6)
        check("node_disk_write_time_seconds_total", device, disk.write_ms / 1000, 1e-6)
        check("node_disk_io_time_seconds_total", device, disk.busy_ms / 1000, 1e-6)
    exported_disks = {labels for name, labels in before if name == "node_disk_reads_completed_total"}
    assert {f'device="{name}"' for name in reading.disks} == {
        labels for labels in exported_disks if not re.search(r'"(zram|sr|fd)', labels)
    }
    for name, card in reading.interfaces.items():
        device = f'device="{name}"'
        if ("node_network_receive_bytes_total", device) not in after:
            continue  # a network that another test has removed meanwhile
        check("node_network_receive_bytes_total", device, card.received_bytes)
        check("node_network_transmit_bytes_total", device, card.sent_bytes)
        check("node_network_receive_packets_total", device, card.received_packets)
        check("node_network_transmit_packets_total", device, card.sent_packets)
        check("node_network_receive_errs_total", device, card.received_errors)
        check("node_network_transmit_errs_total", device, card.sent_errors)
        check("node_network_receive_drop_total", device, card.received_dropped)
        check("node_network_transmit_drop_total", device, card.sent_dropped)
    for resource, exported in (("cpu", "waiting"), ("memory", "waiting"), ("io", "waiting")):
        some = reading.pressure_us[resource][0] / 1e6
        check(f"node_pressure_{resource}_{exported}_seconds_total", "", some, 1e-6)
    for resource in ("memory", "io"):
        full = reading.pressure_us[resource][1] / 1e6
        check(f"node_pressure_{resource}_stalled_seconds_total", "", full, 1e-6)
    for system in reading.file_systems:
        labels = f'device="{system.device}",fstype="{system.kind}",mountpoint="{system.mountpoint}"'
        assert before["node_filesystem_size_bytes", labels] == system.total_bytes
        check("node_filesystem_avail_bytes", labels, system.free_bytes, 1024**3)
        free = system.free_bytes + system.reserved_bytes
        check("node_filesystem_free_bytes", labels, free, 1024**3)


def laid_out(root: Path, **files: str) -> HostReading:
    given = {
        "stat": "cpu  1 2 3\ncpu0 1 2 3\nbtime 5\nprocesses 6\nprocs_running 2\nprocs_blocked 1\n",
        "loadavg": "0.1 0.2 0.3 1/99 7\n",
        "meminfo": "MemTotal: 10 kB\nMemAvailable: 4 kB\nHugePages_Total: 7\n",
        "uptime": "9.5 3.1\n",
        **files,
    }
    for name, content in given.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "mounts").write_text("")
    return HostReader(
        proc=root, sys_block=root / "block", file_systems=FileSystems(mountinfo=str(root / "mounts"))
    ).read()


def test_a_kernel_without_the_newer_files_is_read_without_them(tmp_path: Path) -> None:
    found = laid_out(tmp_path)
    assert found.cpu_secs == {"user": 0.01, "nice": 0.02, "system": 0.03}
    assert (found.cpus, found.load, found.uptime_secs) == (1, (0.1, 0.2, 0.3), 9.5)
    assert found.memory == {"MemTotal": 10240, "MemAvailable": 4096}
    assert (found.paging, found.disks, found.interfaces, found.pressure_us) == ({}, {}, {}, {})


def test_partitions_memory_devices_and_containers_interfaces_are_left_out(tmp_path: Path) -> None:
    for name in ("sda", "loop0", "cciss!c0d0"):
        (tmp_path / "block" / name).mkdir(parents=True)
    counters = " ".join(str(number) for number in range(1, 12))
    names = ("sda", "sda1", "loop0", "zram0", "cciss/c0d0")
    lines = [f"8 0 {name} {counters} 0 0 0 0\n" for name in names]
    cards = "".join(f"{name}: {' '.join(['1'] * 16)}\n" for name in ("lo", "eth0", "veth12"))
    found = laid_out(tmp_path, **{"diskstats": "".join(lines) + "short 1\n", "net/dev": f"a\nb\n{cards}"})
    assert found.disks.keys() == {"sda", "cciss/c0d0"}
    assert (found.disks["sda"].read_bytes, found.disks["sda"].written_bytes) == (3 * 512, 7 * 512)
    assert found.interfaces.keys() == {"lo", "eth0"}


@pytest.mark.parametrize("content", ["", "cpu x\n", "cpu  1 2\n"])
def test_a_file_of_another_form_is_an_os_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(OSError, match="cannot read"):
        laid_out(tmp_path, stat=content)
