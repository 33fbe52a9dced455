"""`top`: once as a table and as JSON, and live in a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from syntra.cli.exit_codes import ExitCode
from tests.cli.fake_agent import Cli, FakeAgent, answering


def container(name: str, cpu: float, memory: float, **more: Any) -> dict[str, Any]:
    return {
        "container_id": name,
        "container_name": name,
        "status": "running",
        "health": "healthy",
        "restart_count": 1,
        "cpu_percent": cpu,
        "memory_used_mb": memory,
        "memory_limit_mb": 100.0,
        "memory_percent": memory,
        "network_rx_bytes_per_sec": 1500.0,
        "network_tx_bytes_per_sec": 2.0,
        "block_read_bytes_per_sec": 0.0,
        "block_write_bytes_per_sec": None,
        "pids": 3,
        **more,
    }


TOP: dict[str, Any] = {
    "timestamp": "2026-11-29T23:00:00Z",
    "host": {"cpu_usage_percent": 12.5, "memory_used_mb": 512, "memory_available_mb": 512, "load": [0.5, 0.25, 0.125]},
    "services": [
        {
            "service_id": "svc_web",
            "service_name": "web",
            "project_name": "shop",
            "status": "running",
            "restarts": 2,
            "requests_per_sec": 4.25,
            "errors_per_sec": 0.5,
            "p95_ms": 20.0,
            "logs_per_sec": 7.0,
            "containers": [container("web-1", 10.0, 20.0), container("web-2", 5.5, 30.0)],
        },
        {
            "service_id": "svc_job",
            "service_name": "job\x1b[31m",
            "project_name": None,
            "status": "running",
            "restarts": 0,
            "requests_per_sec": None,
            "containers": [container("job-1", 90.0, 1.0, memory_limit_mb=None, memory_percent=None)],
        },
        {"service_id": "svc_old", "service_name": "old", "status": "stopped", "containers": [{"status": "stopped"}]},
    ],
}


def names(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines()[1:]]


def test_once_has_a_line_for_each_service_and_replica(cli: Cli) -> None:
    with FakeAgent(cli.path, top=answering(TOP)):
        code, out, err = cli("top", "--once")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert " ".join(lines[0]) == (
        "SERVICE CPU MEMORY OF LIMIT NET IN NET OUT DISK READ DISK WRITE RESTARTS REQ/S ERR/S P95 LOGS/S STATUS"
    )
    assert names(out) == ["job\\x1b[31m", "job-1", "shop/web", "web-1", "web-2", "old", "-"]
    assert " ".join(lines[3]) == ("shop/web 15.5% 50.0 MiB 25.0% 3.0 kB/s 4 B/s 0 B/s - 2 4.2 0.5 20.0 ms 7.0 running")
    assert " ".join(lines[4]) == "web-1 10.0% 20.0 MiB 20.0% 1.5 kB/s 2 B/s 0 B/s - 1 - - - - running"
    assert " ".join(lines[1]) == "job\\x1b[31m 90.0% 1.0 MiB - 1.5 kB/s 2 B/s 0 B/s - 0 - - - - running"
    assert " ".join(lines[6]) == "old - - - - - - - - - - - - stopped"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("--sort", "memory"), ["shop/web", "job\\x1b[31m", "old"]),
        (("--sort", "name"), ["job\\x1b[31m", "old", "shop/web"]),
        (("--sort", "logs"), ["shop/web", "job\\x1b[31m", "old"]),
        (("web",), ["shop/web"]),
        (("svc_old",), ["old"]),
        (("nothing",), []),
    ],
)
def test_services_are_sorted_and_filtered(cli: Cli, options: tuple[str, ...], shown: list[str]) -> None:
    with FakeAgent(cli.path, top=answering(TOP)):
        code, out, _ = cli("top", "--once", "--services", *options)
        found = json.loads(cli("top", "--once", "--json", *options)[1])["services"]
    assert code == 0
    assert names(out) == shown
    assert [one["service_name"] for one in found] == [
        name.rpartition("/")[2].encode().decode("unicode_escape") for name in shown
    ]


def test_what_contradicts_itself_is_refused(cli: Cli) -> None:
    for options in (("--json",), ("--interval", "0.1"), ("--interval", "nan")):
        code, _, err = cli("top", *options)
        assert code == ExitCode.USAGE and err.startswith("cannot ")


class Terminal:
    """The program in a terminal of 120 columns and 12 lines."""

    def __init__(self, socket: Path) -> None:
        pid, self._end = pty.fork()
        if pid == 0:
            command = [sys.executable, "-m", "syntra", "--socket", str(socket), "top", "--interval", "1"]
            os.execve(sys.executable, command, {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "12"})
        self.pid = pid
        self.text = ""

    def until(self, wanted: str) -> str:
        """Everything that is printed up to this."""
        deadline = time.monotonic() + 30
        while wanted not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._end], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self._end, 65536).decode()
                except OSError:  # how Linux tells the end of a terminal
                    break
        found, _, self.text = self.text.partition(wanted)
        return found

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def exit_code(self) -> int:
        self.until("\x1b[?1049l")
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._end)
        return code


def test_the_live_view_is_renewed_sorted_by_keys_and_leaves_the_terminal_as_it_was(cli: Cli) -> None:
    with FakeAgent(cli.path, top=answering(TOP)) as agent:
        terminal = Terminal(cli.path)
        assert "host: cpu 12.5%, memory 512.0 MiB of 1.0 GiB, load 0.50 0.25 0.12" in terminal.until("sorted by cpu")
        assert "\x1b[31m" not in terminal.text
        terminal.until("sorted by cpu")
        assert len(agent.requests) >= 2, "asked again by itself"
        terminal.press("m")
        terminal.until("sorted by memory")
        terminal.press("\t")
        screen = terminal.until("sorted by memory").rpartition("\x1b[H")[2]
        assert "shop/web" in screen and "web-1" not in screen
        terminal.press("q")
        assert terminal.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(cli: Cli, number: int) -> None:
    with FakeAgent(cli.path, top=answering(TOP)):
        terminal = Terminal(cli.path)
        terminal.until("sorted by cpu")
        os.kill(terminal.pid, number)
        assert terminal.exit_code() == 128 + number


def test_without_a_terminal_it_prints_one_view(cli: Cli) -> None:
    with FakeAgent(cli.path, top=answering(TOP)):
        command = [sys.executable, "-m", "syntra", "--socket", str(cli.path), "top"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "shop/web" in done.stdout and "\x1b" not in done.stdout
