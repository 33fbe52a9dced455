"""The user's whole story on one machine with the commands of README: install, deploy, update, bad release, remove."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import syntra
from tests.e2e.fleet import Fleet, inspect, states
from tests.e2e.installed_machine import BAD_VERSION, NEXT_VERSION, Stage, stage
from tests.e2e.machine import SYSTEMD, machine_root
from tests.e2e.served_images import served_images
from tests.engine import PORT, wait_until
from tests.update.release_site import stand_in

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300, func_only=True)]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def root() -> Path:
    """Built before a test's own time begins."""
    return machine_root(SYSTEMD)


def commands(section: str) -> list[str]:
    """The command lines in a section's first code block of README, without comments."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {section}\n.*?^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"README has no section {section} with commands"
    lines = [line.partition(" # ")[0].strip() for line in found[1].replace("\\\n", "").splitlines()]
    assert lines, section
    return [line for line in lines if line]


def on_this_stage(line: str, stage: Stage) -> str:
    """A command of README with its examples replaced by what the stage has."""
    for example, real in (
        ("https://releases.syntra.dev/agent", stage.site.url),
        ("wss://cp.example.com/agent/ws", stage.plane.endpoint),
        ("syn_agt_…", stage.token),
        ("srv_…", stage.server_id),
    ):
        line = line.replace(example, real)
    assert "example.com" not in line and "…" not in line, line
    return line


def test_the_story_of_readme(built_binary: Path, next_binary: Path, tmp_path: Path) -> None:
    """Install by the one line; deploy; update while requests are answered; a bad release is brought back; remove."""
    with stage(tmp_path, built_binary, engine=True) as there, served_images(tmp_path / "registry") as images:
        machine = there.machine
        fleet = Fleet(there.plane, cast("Any", None), images, there.server_id)

        (line,) = commands("Install")
        said = machine.sh(on_this_stage(line, there), env=there.environment, timeout=200)
        assert f"connected to {there.plane.endpoint}" in said
        settle_quickly(there)

        service = fleet.service()
        fleet.running(fleet.payload(service))
        before = life(service)
        assert images.token in machine.sh("syntra-agent ps")

        with served_throughout(service) as served:
            there.site.publish(NEXT_VERSION, next_binary.read_bytes())
            check, update = commands("Update")
            assert f"{syntra.__version__} → {NEXT_VERSION}" in machine.sh(check)
            assert f"updated to {NEXT_VERSION}" in machine.sh(update, timeout=150)
            wait_until(lambda: reported_version(there) == NEXT_VERSION, "the new version is connected", 30)

            there.site.publish(BAD_VERSION, stand_in(BAD_VERSION, "exit 1"))
            said = machine.sh(update, check=False, timeout=150)
            assert f"{BAD_VERSION}" in said
            assert "rolled back" in said
            wait_until(lambda: there.plane.is_connected(there.server_id), "the version before is connected", 30)
            assert reported_version(there) == NEXT_VERSION
        assert served.failures == []
        assert served.answers > 50
        assert life(service) == before

        fleet.running(fleet.payload(service, "v2"))
        keep, purge = commands("Remove")
        machine.sh(keep)
        assert states(service) == ["running"]
        machine.sh("test -e /etc/syntra/agent.toml && test ! -e /opt/syntra-agent")
        there.site.publish(NEXT_VERSION, next_binary.read_bytes())
        machine.sh(on_this_stage(line, there), env=there.environment, timeout=200)
        there.wait_connected()
        assert images.token in machine.sh("syntra-agent ps"), "the reinstalled agent knows its services"
        machine.sh(purge, timeout=150)
        assert states(service) == []
        left = machine.sh(
            "ls -d /etc/syntra /var/lib/syntra /opt/syntra-agent /usr/local/bin/syntra-agent", check=False
        )
        assert left.count("No such file") == 4


def settle_quickly(there: Stage) -> None:
    """A new version has to hold for a minute otherwise."""
    there.machine.sh("printf 'confirm_secs = 2\\nconfirm_timeout_secs = 30\\n' >>/etc/syntra/agent.toml")
    there.machine.sh("systemctl restart syntra-agent")
    there.wait_connected()


def reported_version(there: Stage) -> str:
    """What the agent has said of itself to the control plane."""
    return str(there.plane.client.server(there.server_id)["hello"]["version"])


def life(service: str) -> tuple[str, str, int]:
    """What a restart of the service's container would change."""
    found = inspect(service)
    return found["Id"], found["State"]["StartedAt"], found["RestartCount"]


class Served:
    """What a client of a service has seen."""

    def __init__(self) -> None:
        self.answers = 0
        self.failures: list[str] = []


@contextmanager
def served_throughout(service: str) -> Iterator[Served]:
    """Ask a service for a page again and again, as long as the block takes."""
    networks = inspect(service)["NetworkSettings"]["Networks"]
    address = next(network["IPAddress"] for network in networks.values() if network["IPAddress"])
    seen, over = Served(), threading.Event()

    def keep_asking() -> None:
        while not over.wait(0.05):
            client = http.client.HTTPConnection(address, PORT, timeout=5)
            try:
                client.request("GET", "/")
                status = client.getresponse().status
                seen.answers += status == 200
                seen.failures += [] if status == 200 else [f"status {status}"]
            except OSError as error:
                seen.failures.append(f"{time.strftime('%T')} {error}")
            finally:
                client.close()

    thread = threading.Thread(target=keep_asking, name="client")
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(10)
