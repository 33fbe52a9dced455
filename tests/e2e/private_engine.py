"""A Docker engine of one test's own, which may be stopped, killed and started again without touching anybody else's.

It runs beside the shared one on folders, a socket and a network namespace of its own: two engines in one network take
each other's bridges, and a second one removes docker0. Who wants to reach its containers is started `inside`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from tests.engine import API, EngineRefused, UnixConnection, busybox_tar, missing, progress, wait_until


class PrivateEngine:
    """A context manager; `start` again after `stop` or `kill` keeps images and containers.

    With `live_restore` the containers run on while it is stopped, too.
    """

    def __init__(self, *, live_restore: bool = False) -> None:
        self._live_restore = live_restore
        # Sockets below it may have 107 bytes; pytest's own folders are longer than that at times.
        self.folder = Path(tempfile.mkdtemp(prefix="syn-", dir="/tmp"))
        self.socket = self.folder / "docker.sock"
        self.log = self.folder / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._network = f"syn-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("dockerd") is None:
            missing("no right to start a Docker engine; run as root with dockerd installed")
        subprocess.run(["ip", "netns", "add", self._network], check=True)
        subprocess.run(["ip", "-n", self._network, "link", "set", "lo", "up"], check=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(OSError, EngineRefused):
                self._clear()
            self.stop()
        finally:
            self._end_leftovers()
            subprocess.run(["ip", "netns", "delete", self._network], check=False)
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [*self.inside, "dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command += ["--pidfile", f"{self.folder}/pid", "--host", f"unix://{self.socket}"]
        command += ["--iptables=false", "--ip6tables=false"]
        command += ["--live-restore"] if self._live_restore else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, f"the private engine, see {self.log}")

    @property
    def inside(self) -> tuple[str, ...]:
        """What starts a program inside this engine's network, in its own process and with the same files."""
        return ("nsenter", f"--net={self.namespace}")

    @property
    def namespace(self) -> Path:
        """What stands for this engine's network."""
        return Path("/run/netns") / self._network

    @property
    def runs(self) -> bool:
        """Whether it was started and not ended by this side."""
        return self._process is not None

    def stop(self) -> None:
        """The orderly end, as a package update does it: containers are stopped with it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """The end without a word; containers run on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None
        # Its containerd dies with it; where nobody reaps orphans it stays a zombie that the next engine would wait for.
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def api(self, method: str, path: str, body: bytes | None = None, *, query: Mapping[str, str] | None = None) -> Any:
        """One request; the parsed answer, None when it is empty."""
        content = self._raw(method, path + ("?" + urlencode(query) if query else ""), body, "application/json")
        return json.loads(content) if content.strip() else None

    def image(self, reference: str, version: str) -> None:
        """The test service, as `tests.engine.busybox_image` makes it on the shared engine."""
        changes = ['CMD ["/bin/service"]', "ENV PATH=/bin", f"ENV VERSION={version}"]
        self.import_image(reference, busybox_tar(), changes)

    def import_image(self, reference: str, content: bytes, changes: Sequence[str]) -> None:
        """An image of this root file system and these instructions."""
        repository, _, tag = reference.rpartition(":")
        query = urlencode({"fromSrc": "-", "repo": repository, "tag": tag, "changes": changes}, doseq=True)
        progress(self._raw("POST", f"/images/create?{query}", content))

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What it lists of a service, in any state."""
        filters = json.dumps({"label": [f"syntra.service_id={service}"]})
        listed: list[dict[str, Any]] = self.api("GET", "/containers/json", query={"all": "1", "filters": filters})
        return listed

    def running(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        return sorted(item["Id"] for item in self.containers(service) if item["State"] == "running")

    def _raw(self, method: str, target: str, body: bytes | None = None, kind: str = "application/x-tar") -> bytes:
        connection = UnixConnection(str(self.socket), timeout=60)
        try:
            connection.request(method, API + target, body, {"Content-Type": kind} if body else {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise EngineRefused(answer.status, content.decode(errors="replace")[:200])
        return content

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            self._raw("GET", "/_ping")
        except OSError:
            return False
        return True

    def _clear(self) -> None:
        """Containers and networks go first: their bridges would outlive the engine."""
        for item in self.api("GET", "/containers/json", query={"all": "1"}):
            self.api("DELETE", f"/containers/{item['Id']}", query={"force": "1"})
        for item in self.api("GET", "/networks"):
            if item["Name"] not in {"bridge", "host", "none"}:
                self.api("DELETE", f"/networks/{item['Id']}")

    def _end_leftovers(self) -> None:
        # A killed engine leaves the keepers of its containers, and mounts below its folder.
        for proc in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(self.folder).encode() in (proc / "cmdline").read_bytes():
                    for child in (proc / f"task/{proc.name}/children").read_text().split():
                        os.kill(int(child), signal.SIGKILL)
                    os.kill(int(proc.name), signal.SIGKILL)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(str(self.folder))), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
