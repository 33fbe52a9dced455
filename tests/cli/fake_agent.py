"""A scripted agent on a real unix socket: answers what it is told to, or goes wrong as it is told to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from syntra.cli.main import main
from syntra.model.exec_frames import ExecFrame, ExecFrames

DEADLINE = 10.0

SERVICE: dict[str, Any] = {
    "service_id": "svc_shop_api",
    "service_name": "api",
    "project_name": "shop",
    "deployment_id": "dep_1",
    "image": "registry.example/api:1",
    "status": "running",
    "health": "healthy",
    "replicas": {"desired": 2, "running": 1},
    "status_detail": "",
    "restarts": 3,
    "containers": [],
    "domains": ["api.example", "www.example"],
}


class Peer:
    """One connection of the command line, its request read."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._file = sock.makefile("rb")
        line = self._file.readline()
        self.request: dict[str, Any] = json.loads(line) if line else {}

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = self.request["payload"]
        return payload

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, kind: str, payload: Mapping[str, object]) -> None:
        envelope = {"id": "e1", "type": kind, "timestamp": "2026-01-01T00:00:00Z", "payload": payload}
        self.raw(json.dumps(envelope).encode() + b"\n")

    def respond(self, data: Mapping[str, object]) -> None:
        self.send("command_response", {"request_id": self.request["id"], "success": True, "data": data})

    def refuse(self, code: str, message: str, **more: object) -> None:
        error = {"code": code, "message": message, **more}
        self.send("command_response", {"request_id": self.request["id"], "success": False, "error": error})

    def status(self, status: str, **more: object) -> None:
        self.send("deploy_status", {"deployment_id": "dep_1", "service_id": "svc_shop_api", "status": status, **more})

    def frames(self) -> Iterator[ExecFrame]:
        """The client's frames of an attached exec, up to its end."""
        decoder = ExecFrames()
        while data := self._file.read1():
            yield from decoder.feed(data)

    def wait_for_end(self) -> None:
        """Until the other side closes."""
        self._file.read()


Script = Callable[[Peer], None]


class FakeAgent:
    """Context manager. `scripts` by message type; unless scripted, `list_services` knows one service, and `plan` finds
    something to deploy.

    Connections are served one after another in a thread; each is closed when its script returns.
    """

    def __init__(self, path: Path, **scripts: Script) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self._scripts = {"list_services": list_services, "plan": plan, "list_deployments": no_deployments, **scripts}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, name="fake agent")
        self._failures: list[BaseException] = []

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A connection that says nothing is the word to stop; it wakes a blocking accept.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.settimeout(DEADLINE)
            last.connect(str(self.path))
        self._thread.join(DEADLINE)
        self._listener.close()
        assert not self._thread.is_alive()
        assert not self._failures, self._failures

    def last(self, kind: str) -> dict[str, Any]:
        """The payload of the last request of a type."""
        payload: dict[str, Any] = [each for each in self.requests if each["type"] == kind][-1]["payload"]
        return payload

    def _serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with sock:
                sock.settimeout(DEADLINE)
                peer = Peer(sock)
                if not peer.request:
                    return
                self.requests.append(peer.request)
                try:
                    self._scripts[peer.request["type"]](peer)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                except Exception as exc:  # noqa: BLE001 - a script's mistake shows in the test, not in a thread
                    self._failures.append(exc)
                peer._file.close()


class Cli:
    """Runs verbs against the agent at `path`, after the words that all of them begin with."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        self.path = path
        self._capsys = capsys
        self._words = words

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        code = main(["--socket", str(self.path), *self._words, *argv])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


def list_services(peer: Peer) -> None:
    """The one service."""
    peer.respond({"services": [SERVICE]})


def plan(peer: Peer) -> None:
    """Something is to be deployed."""
    peer.respond({"service_id": peer.payload["service_id"], "action": "deploy", "changes": [], "steps": []})


def no_deployments(peer: Peer) -> None:
    """Nothing is recorded."""
    peer.respond({"deployments": [], "rollback_to": None})


def answering(data: Mapping[str, object]) -> Script:
    """A script that answers every request alike."""
    return lambda peer: peer.respond(data)


def deploying(*statuses: Mapping[str, object]) -> Script:
    """A script that accepts and then reports."""

    def script(peer: Peer) -> None:
        peer.respond({"accepted": True, "deployment_id": "dep_1"})
        for status in statuses:
            peer.send("deploy_status", {"deployment_id": "dep_1", "service_id": "svc_shop_api", **status})

    return script


def attaching(*frames: bytes) -> Script:
    """A script that accepts an exec with its streams and then sends frames."""

    def script(peer: Peer) -> None:
        peer.respond({"attached": True, "container_id": "c1", "replica": 1})
        for frame in frames:
            peer.raw(frame)

    return script
