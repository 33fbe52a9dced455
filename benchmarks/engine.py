"""A private Docker engine that works for the benchmark alone. Needs root."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import subprocess
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.processes import tree
from tests.engine import API, PORT, UnixConnection, busybox_tar

START_SECS = 30.0
_CLONE_NEWNET = 0x40000000  # linux/sched.h


def enter_own_network() -> None:
    """Move this process and its future children to a new network namespace that has only loopback.

    Two engines in one namespace interfere: the second removes the first one's docker0. Call it before any thread
    starts.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise PermissionError(number, f"cannot make a network of one's own: {os.strerror(number)}; run as root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class PrivateEngine:
    """dockerd and containerd with their own data, without firewall rules. A context manager.

    Start it in its own namespace, see `enter_own_network`. Remove all containers before it ends.
    """

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "engine.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def processes(self) -> list[int]:
        """The pids of dockerd and containerd; not those of containers' shims, which they do not own."""
        assert self._process is not None, "only a started engine has processes"
        return tree(self._process.pid)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "engine.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    *("--host", f"unix://{self.socket}", "--pidfile", str(self._folder / "engine.pid")),
                    *("--data-root", str(self._folder / "data"), "--exec-root", str(self._folder / "exec")),
                    *("--iptables=false", "--ip6tables=false"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"the engine did not start, see {self._folder / 'engine.log'}")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECS)

    def _answers(self) -> bool:
        try:
            self._call("GET", "/_ping")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def import_image(self, repository: str, tag: str) -> None:
        """The tests' image: a service that answers on PORT."""
        changes = ['CMD ["/bin/service"]', "ENV PATH=/bin", "ENV VERSION=1", f"EXPOSE {PORT}"]
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": changes}
        self._call("POST", "/images/create", busybox_tar(), query=query)

    def run(
        self, name: str, image: str, command: Sequence[str], *, log: Mapping[str, object], binds: Sequence[str] = ()
    ) -> str:
        """Create and start a container without a network; its id."""
        host = {"LogConfig": log, "NetworkMode": "none", "Binds": list(binds)}
        body = json.dumps({"Image": image, "Cmd": list(command), "HostConfig": host}).encode()
        made = self._call("POST", "/containers/create", body, query={"name": name}, kind="application/json")
        container: str = json.loads(made)["Id"]
        self._call("POST", f"/containers/{container}/start")
        return container

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine says of a container."""
        found: dict[str, Any] = json.loads(self._call("GET", f"/containers/{container}/json"))
        return found

    def remove_all(self) -> None:
        """Remove all containers."""
        for one in json.loads(self._call("GET", "/containers/json", query={"all": "1"})):
            self._call("DELETE", f"/containers/{one['Id']}", query={"force": "1"})

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: Mapping[str, str | Sequence[str]] | None = None,
        kind: str = "application/x-tar",
    ) -> bytes:
        connection = UnixConnection(str(self.socket))
        try:
            target = API + path + ("?" + urllib.parse.urlencode(query, doseq=True) if query else "")
            connection.request(method, target, body, {} if body is None else {"Content-Type": kind})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status < 400, f"{method} {path}: {answer.status} {content.decode(errors='replace')}"
            return content
        finally:
            connection.close()
