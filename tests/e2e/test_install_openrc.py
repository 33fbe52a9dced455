"""The compiled agent under OpenRC, the service manager of Alpine: installed, supervised, removed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installed_machine import Stage, stage
from tests.e2e.machine import OPENRC, machine_root
from tests.engine import wait_until

pytestmark = pytest.mark.timeout(300, func_only=True)


@pytest.fixture(scope="session", autouse=True)
def root() -> Path:
    """Built before a test's own time begins."""
    return machine_root(OPENRC)


@pytest.fixture
def there(built_binary: Path, tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path, built_binary, recipe=OPENRC) as made:
        yield made


def agent_pid(there: Stage) -> int:
    """The agent, as the machine numbers it; 0 while there is none."""
    ended = there.machine.run("syntra-agent", "status", "--json", "--exit-zero", check=False)
    return int(json.loads(ended.stdout)["agent"]["pid"]) if ended.returncode == 0 else 0


def test_the_one_line_installs_a_supervised_agent_and_uninstall_removes_it(there: Stage) -> None:
    machine = there.machine
    said = there.install()
    assert ", OpenRC" in said.splitlines()[0]
    assert "write /etc/init.d/syntra-agent (mode 0755): the OpenRC script" in said
    assert f"connected to {there.plane.endpoint}" in said
    assert "status: started" in machine.sh("rc-service syntra-agent status")
    assert "syntra-agent" in machine.sh("rc-update show default")
    assert "nothing to do" in there.install()
    assert there.token not in machine.sh("cat /var/log/syntra-agent.log /proc/[0-9]*/cmdline /proc/[0-9]*/environ")

    machine.sh("rc-service syntra-agent reload")
    wait_until(lambda: "configuration reloaded" in machine.sh("cat /var/log/syntra-agent.log"), "the reload", 10)

    before = agent_pid(there)
    assert before
    os.kill(machine.host_pid(before), signal.SIGKILL)
    wait_until(lambda: agent_pid(there) not in (0, before), "another process", 40)
    there.wait_connected()

    assert "removed; the services keep running" in machine.sh("syntra-agent uninstall --purge")
    assert "supervise-daemon" not in machine.sh("cat /proc/[0-9]*/cmdline")
    left = "/etc/init.d/syntra-agent /etc/runlevels/default/syntra-agent /etc/syntra /var/lib/syntra /opt/syntra-agent"
    assert machine.sh(f"ls -d {left}", check=False).count("No such file") == 5
