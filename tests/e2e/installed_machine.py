"""A booted machine, a release server and a control plane: what an install needs, all real and on loopback."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import syntra
from tests.e2e.agent_process import LocalClient
from tests.e2e.fleet import ControlPlaneProcess
from tests.e2e.machine import SYSTEMD, Machine, Recipe
from tests.engine import wait_until
from tests.update.release_site import ReleaseSite, public

ROOT = Path(__file__).resolve().parents[2]
ROOT_KEYS_FILE = "/mnt/release-root-keys"
_MAJOR, _MINOR = map(int, syntra.__version__.split(".")[:2])
NEXT_VERSION = f"{_MAJOR}.{_MINOR + 1}.0"
"""The version of the fixture `next_binary`."""
BAD_VERSION = f"{_MAJOR}.{_MINOR + 2}.0"
"""A release that does not hold."""


class Stage:
    """Everything that takes part. `environment` points the installer at the local release server."""

    def __init__(self, machine: Machine, site: ReleaseSite, plane: ControlPlaneProcess) -> None:
        self.machine = machine
        self.site = site
        self.plane = plane
        self.server_id = f"srv_{uuid.uuid4().hex[:8]}"
        self.token = str(plane.client.create_token(self.server_id)["token"])
        machine.run("tee", ROOT_KEYS_FILE, input=f"{public(site.root_key).text}\n")

    @property
    def environment(self) -> dict[str, str]:
        return {"SYNTRA_BASE_URL": self.site.url, "SYNTRA_ROOT_KEYS_FILE": ROOT_KEYS_FILE}

    @property
    def wish(self) -> str:
        """The options of an agent for the control plane."""
        return f"--endpoint={self.plane.endpoint} --token={self.token} --server-id={self.server_id}"

    def install(self, options: str | None = None, *, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        """The one line; its output."""
        line = f"curl -fsSL {self.site.url}/install.sh | sh -s -- {self.wish if options is None else options}"
        return self.machine.sh(line, check=check, env={**self.environment, **(env or {})}, timeout=200)

    def wait_connected(self) -> None:
        wait_until(lambda: self.plane.is_connected(self.server_id), "the agent is connected", 30)

    def main_pid(self) -> int:
        """The agent, as the machine numbers it."""
        return int(self.machine.service("MainPID"))

    def ask(self, kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """One request to the agent's socket, from the host."""
        pid = self.machine.host_pid(self.main_pid())
        # A unix socket's path may have 107 bytes only.
        with LocalClient(Path("/proc", str(pid), "root", "run/syntra/agent.sock"), 30) as client:
            return client.ask(kind, payload)


@contextmanager
def stage(folder: Path, binary: Path, *, recipe: Recipe = SYSTEMD, engine: bool = False) -> Iterator[Stage]:
    """A machine without an agent; the release server has the binary under its own version."""
    with (
        ReleaseSite() as site,
        ControlPlaneProcess(folder / "plane") as plane,
        Machine(recipe, engine=engine) as machine,
    ):
        site.files["/install.sh"] = (ROOT / "scripts/install.sh").read_bytes()
        site.publish(syntra.__version__, binary.read_bytes())
        yield Stage(machine, site, plane)


def listing(machine: Machine, *folders: str) -> list[str]:
    """Every path below the folders, with kind, mode and size."""
    found = machine.sh(
        f"find {' '.join(folders)} -xdev -not -path '*/__pycache__*' -printf '%p %y %m %l %s\\n' 2>/dev/null",
        check=False,
    )
    # Sizes of directories depend on what they once held.
    return sorted(" ".join(line.split()[:-1]) if line.split()[1] == "d" else line for line in found.splitlines())
