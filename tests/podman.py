"""A Podman service of the tests' own: its folders, its socket and its address ranges are nobody else's.

Podman has no daemon. `podman system service` answers Docker's API on a socket; the containers are children of `conmon`
and run on without it. The settings are those that Podman needs on a machine with the cgroups of both versions and
without the right to raise limits.
"""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.engine import EngineRefused, api, engine_at, missing, wait_until

_SETTINGS = """[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
default_subnet_pools = [{{"base" = "10.{block}.0.0/16", "size" = 24}}]
"""
# Docker takes plain HTTP on the loopback network; Podman has to be told.
_REGISTRIES = """[[registry]]
location = "127.0.0.1"
insecure = true
# No machine of the tests reaches it, and Podman would try for seconds.
[[registry]]
location = "docker.io"
blocked = true
"""


def podman_problem() -> str | None:
    """Why no Podman can be started here, or None."""
    if os.geteuid() != 0:
        return "only root can start a Podman service with networks of its own"
    needed = {"podman": "podman", "runc": "runc", "busybox": "busybox-static"}
    lacks = [package for program, package in needed.items() if shutil.which(program) is None]
    lacks += [] if Path("/usr/lib/podman/netavark").exists() else ["netavark"]
    return f"no Podman to test with; install {' '.join(lacks)}" if lacks else None


class PodmanStore:
    """Images, containers and settings of one Podman service, all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "podman.sock"
        self.environment = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        }

    def write_settings(self) -> None:
        """Write the settings; the folder is made."""
        self.folder.mkdir(exist_ok=True)
        block = 128 + secrets.randbelow(64)
        (self.folder / "containers.conf").write_text(_SETTINGS.format(folder=self.folder, block=block))
        (self.folder / "registries.conf").write_text(_REGISTRIES)

    @property
    def service(self) -> list[str]:
        """The command of the service, which runs until it is ended."""
        return [*self._podman(), "system", "service", "--time=0", f"unix://{self.socket}"]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line on the same containers."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            [*self._podman(), *words], capture_output=True, text=True, check=False, timeout=120, env=environment
        )

    def remove(self) -> None:
        """Remove the folder, and unmount what is mounted below it."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _podman(self) -> list[str]:
        return ["podman", *(f"--{name}={self.folder}/{name}" for name in ("root", "runroot", "tmpdir"))]


class PodmanService(PodmanStore):
    """A context manager; `start` again after `stop` keeps images and containers, which run on meanwhile."""

    def __init__(self) -> None:
        # Sockets below it may have 107 bytes; pytest's own folders are longer than that at times.
        super().__init__(Path(tempfile.mkdtemp(prefix="pod-", dir="/tmp")))
        self.log = self.folder / "podman.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.write_settings()

    def __enter__(self) -> Self:
        if reason := podman_problem():
            missing(reason)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run("system", "reset", "--force")
            self.stop()
        finally:
            self.remove()

    def start(self) -> None:
        """Start and wait until it answers."""
        environment = {**os.environ, **self.environment}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.service, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        wait_until(self._answers, f"the Podman service, see {self.log}")

    def stop(self) -> None:
        """End the service; containers run on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            with engine_at(str(self.socket)):
                api("GET", "/version", timeout=5)
        except (OSError, http.client.HTTPException, EngineRefused):
            return False
        return True


@pytest.fixture(scope="module")
def podman_service() -> Iterator[PodmanService]:
    """One service for the tests of a file."""
    with PodmanService() as service:
        yield service


@pytest.fixture
def on_podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """The helpers of `tests.engine` speak to the Podman service during one test."""
    with speaking_to_podman(podman_service):
        yield podman_service


@contextmanager
def speaking_to_podman(service: PodmanService) -> Iterator[None]:
    """The helpers of `tests.engine` speak to the Podman service."""
    with engine_at(str(service.socket)):
        yield
