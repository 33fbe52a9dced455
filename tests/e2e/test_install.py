"""The compiled agent, installed, supervised and removed on a machine with systemd 252 as init."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installed_machine import Stage, listing, stage
from tests.e2e.machine import SYSTEMD, machine_root, wait_stable
from tests.engine import wait_until

pytestmark = pytest.mark.timeout(300, func_only=True)

PLACES = ("/etc", "/opt", "/usr/local", "/var/lib", "/var/cache", "/run/syntra", "/tmp", "/var/tmp")


@pytest.fixture(scope="session", autouse=True)
def root() -> Path:
    """Built before a test's own time begins."""
    return machine_root(SYSTEMD)


@pytest.fixture
def bare(built_binary: Path, tmp_path: Path) -> Iterator[Stage]:
    """A machine without an agent."""
    with stage(tmp_path, built_binary) as made:
        yield made


@pytest.fixture(scope="module")
def ready(built_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A machine with a connected agent, for tests that leave it so."""
    with stage(tmp_path_factory.mktemp("ready"), built_binary) as made:
        made.install()
        made.wait_connected()
        yield made


def test_the_one_line_installs_upgrades_and_uninstall_removes(bare: Stage) -> None:
    machine = bare.machine
    before = listing(machine, *PLACES)

    shown = bare.install(f"{bare.wish} --dry-run")
    assert "write /etc/systemd/system/syntra-agent.service (mode 0644): the systemd unit" in shown
    assert listing(machine, *PLACES) == before

    said = bare.install()
    assert f"connected to {bare.plane.endpoint}" in said
    assert [line for line in shown.splitlines() if line.startswith("  ")] == [
        line for line in said.splitlines() if line.startswith("  ")
    ]
    assert bare.plane.is_connected(bare.server_id)
    assert machine.service("ActiveState") == "active"
    assert machine.run("systemctl", "is-enabled", "syntra-agent").stdout == "enabled\n"
    modes = machine.sh("stat -c '%a %U %n' /etc/syntra/* /var/lib/syntra /var/cache/syntra /run/syntra /run/syntra/*")
    assert modes.splitlines() == [
        "600 root /etc/syntra/agent.toml",
        "644 root /etc/syntra/release-root-keys",
        "600 root /etc/syntra/token",
        "700 root /var/lib/syntra",
        "700 root /var/cache/syntra",
        "750 root /run/syntra",
        "600 root /run/syntra/agent.sock",
    ]
    assert "connected to" in machine.sh("syntra-agent status --exit-zero")
    assert "configuration is valid" in machine.sh("syntra-agent config check")

    pid, configuration = bare.main_pid(), machine.sh("cat /etc/syntra/agent.toml")
    assert "nothing to do" in bare.install()
    assert "nothing to do" in bare.install("")
    assert (bare.main_pid(), machine.sh("cat /etc/syntra/agent.toml")) == (pid, configuration)

    everywhere = machine.sh(
        "journalctl --no-pager; systemctl cat syntra-agent; systemctl show syntra-agent; cat /etc/syntra/agent.toml;"
        " cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; ls -R /run/systemd"
    )
    assert bare.token not in everywhere
    assert bare.token not in said
    holders = machine.sh(
        f"grep -rlF {bare.token} /etc /var /opt /run /root /tmp --exclude-dir=credentials", check=False
    )
    assert holders.split() == ["/etc/syntra/token"]

    removed = machine.sh("syntra-agent uninstall")
    assert "removed; the services keep running" in removed
    left = [line for line in listing(machine, *PLACES) if line not in before]
    assert {line.split()[0].split("/")[1:3][-1] for line in left} <= {"syntra", "lib"} | {"etc"}, left
    assert all("/etc/syntra" in line or "/var/lib/syntra" in line for line in left), left
    assert machine.service("LoadState") == "not-found"

    bare.install("--no-start")
    assert machine.sh("cat /etc/syntra/agent.toml") == configuration
    assert machine.service("ActiveState") == "inactive"
    bare.install("--uninstall --purge")
    assert listing(machine, *PLACES) == before
    assert machine.sh("find ~/.cache -type f 2>/dev/null", check=False).splitlines() == []


def test_an_install_that_cannot_start_leaves_the_machine_as_it_was(bare: Stage) -> None:
    machine = bare.machine
    machine.sh("mkdir /etc/syntra && echo 'data_dir = \"/proc/none\"' >/etc/syntra/agent.toml")
    before = listing(machine, *PLACES)
    said = bare.install("", check=False)
    assert "cannot start the service syntra-agent: " in said
    assert "data_dir" in said
    assert listing(machine, *PLACES) == before
    assert machine.service("LoadState") == "not-found"


def test_without_a_connection_the_agent_stays_installed_and_says_why(bare: Stage) -> None:
    wish = f"--endpoint={bare.plane.endpoint} --token=syn_agt_not-the-one --server-id={bare.server_id}"
    machine = bare.machine
    machine.sh("printf syn_agt_wrong >/mnt/token")
    line = f"curl -fsSL {bare.site.url}/install.sh | sh -s -- {wish} --no-start"
    machine.sh(line, env=bare.environment)
    ended = machine.run("syntra-agent", "install", "--wait=2", check=False)
    assert ended.returncode == 69
    assert "is not connected yet: " in ended.stderr
    assert machine.service("ActiveState") == "active"


def test_a_killed_agent_is_started_again(ready: Stage) -> None:
    restarts = int(ready.machine.service("NRestarts"))
    ready.machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", "syntra-agent")
    wait_until(lambda: int(ready.machine.service("NRestarts")) == restarts + 1, "a restart", 30)
    wait_stable(ready.machine)
    ready.wait_connected()


def test_a_reload_keeps_the_process(ready: Stage) -> None:
    pid = ready.main_pid()
    ready.machine.run("systemctl", "reload", "syntra-agent")
    wait_until(lambda: "configuration reloaded" in ready.machine.journal(), "the reload", 10)
    assert ready.main_pid() == pid


@pytest.fixture
def watched(ready: Stage) -> Iterator[Stage]:
    """With a watchdog of three seconds."""
    machine = ready.machine
    folder = "/run/systemd/system/syntra-agent.service.d"
    machine.sh(f"mkdir -p {folder}; printf '[Service]\\nWatchdogSec=3\\nRestartSec=1\\n' >{folder}/test.conf")
    machine.sh("systemctl daemon-reload; systemctl restart syntra-agent")
    yield ready
    machine.sh(f"rm -r {folder}; systemctl daemon-reload; systemctl restart syntra-agent")


def test_a_stuck_agent_is_killed_and_started_again(watched: Stage) -> None:
    pid = watched.main_pid()
    os.kill(watched.machine.host_pid(pid), signal.SIGSTOP)
    wait_until(lambda: watched.main_pid() not in (0, pid), "another process", 40)
    said = watched.machine.sh("journalctl --no-pager --unit=syntra-agent")
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said
    wait_stable(watched.machine)


def test_a_busy_agent_is_not_killed(watched: Stage) -> None:
    """Four clients keep the event loop at work for three times the watchdog's period."""
    pid, restarts = watched.main_pid(), watched.machine.service("NRestarts")
    answers = [0, 0, 0, 0]
    end = time.monotonic() + 9

    def keep_asking(number: int) -> None:
        while time.monotonic() < end:
            watched.ask("status", {})
            answers[number] += 1

    threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert min(answers) > 5
    assert (watched.main_pid(), watched.machine.service("NRestarts")) == (pid, restarts)


def test_the_exposure_is_the_one_in_the_documentation(ready: Stage) -> None:
    last = ready.machine.sh("systemd-analyze security --no-pager syntra-agent").splitlines()[-1]
    score = next(word for word in last.split() if word[0].isdigit())
    documented = (Path(__file__).resolve().parents[2] / "docs/install.md").read_text()
    assert f"`systemd-analyze security syntra-agent` prints {score} " in documented
