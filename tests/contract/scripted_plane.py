"""A control plane that says exactly what a test gives it: a real WebSocket server in threads of its own.

Only heartbeats are answered unasked: an agent gives a silent control plane up.
Every frame that an agent sends is held against `shapes` the moment it arrives; `ScriptedPlane.problems` collects what
was wrong with any of them.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.contract import shapes

PATIENCE = 20.0
"""How long a test waits for what must happen; never how long something takes."""

SETTLE = "settle-"

ACK: Mapping[str, Any] = {
    "server_id": "srv_contract",
    "accepted": True,
    "server_name": "contract",
    "org_id": "org_contract",
    "config": {"heartbeat_interval_seconds": 30},
    "pending_deployments": [],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One frame of the agent and when it came (monotonic seconds)."""

    at: float
    message: Mapping[str, Any]

    @property
    def type(self) -> str:
        return str(self.message["type"])

    @property
    def payload(self) -> Mapping[str, Any]:
        payload: Mapping[str, Any] = self.message["payload"]
        return payload


class Link:
    """One connection of an agent."""

    def __init__(self, socket: ServerConnection, problems: list[str]) -> None:
        self._socket = socket
        self._problems = problems
        self._news = threading.Condition()
        self._frames: list[Arrived] = []
        self._closed = False
        request = socket.request
        assert request is not None
        self.path = request.path
        self.headers = request.headers

    def pump(self) -> None:
        """Take frames until the connection ends; runs in the server's thread of this connection."""
        try:
            for frame in self._socket:
                found = shapes.problems(frame)
                with self._news:
                    self._problems += found
                    if not found:
                        self._frames.append(Arrived(at=time.monotonic(), message=json.loads(frame)))
                    self._news.notify_all()
                if not found and (message := json.loads(frame))["type"] == "heartbeat":
                    self.send("pong", {}, id=message["id"])
        except ConnectionClosed:
            pass
        finally:
            with self._news:
                self._closed = True
                self._news.notify_all()

    @property
    def frames(self) -> list[Arrived]:
        """Everything so far, in order."""
        with self._news:
            return list(self._frames)

    def of(self, type: str, **fields: object) -> list[Arrived]:
        """What has come of this type whose payload has these values."""
        return [frame for frame in self.frames if frame.type == type and _has(frame, fields)]

    def expect(self, type: str, *, since: int = 0, timeout: float = PATIENCE, **fields: object) -> Arrived:
        """The first frame of this type with these payload values, waited for; `since` counts frames to pass over."""
        return self.first(
            lambda f: f.type == type and _has(f, fields), f"{type} {fields}", since=since, timeout=timeout
        )

    def first(
        self, wanted: Callable[[Arrived], bool], what: str, *, since: int = 0, timeout: float = PATIENCE
    ) -> Arrived:
        """The first frame that is wanted, waited for."""
        end = time.monotonic() + timeout
        with self._news:
            while True:
                for frame in self._frames[since:]:
                    if wanted(frame):
                        return frame
                left = end - time.monotonic()
                if self._closed or left <= 0:
                    state = "the connection closed" if self._closed else f"waited {timeout:g} s"
                    raise AssertionError(f"{state}: no {what}; {self._tail()} {self._problems}")
                self._news.wait(left)

    def _tail(self) -> str:
        return "; ".join(f"{frame.type} {json.dumps(frame.payload)[:300]}" for frame in self._frames[-6:])

    def send(self, type: str, payload: Mapping[str, Any], *, id: str | None = None) -> str:
        """Send one message; its id."""
        id = id or str(uuid.uuid4())
        self.send_frame(json.dumps({"id": id, "type": type, "timestamp": now(), "payload": dict(payload)}))
        return id

    def send_frame(self, frame: str | bytes) -> None:
        """Send a frame as it is."""
        self._socket.send(frame)

    def acknowledge(self, ack: Mapping[str, Any] = ACK) -> None:
        """Say hello_ack."""
        self.send("hello_ack", ack)

    def settle(self) -> int:
        """Return when the agent has dealt with all that was sent before; how many frames there are.

        A command that no agent knows is the barrier: messages are taken in order, and answers leave in order.
        """
        id = f"{SETTLE}{uuid.uuid4()}"
        self.send(SETTLE, {"request_id": id})
        self.expect("command_response", request_id=id)
        return len(self.frames)

    def said(self, since: int = 0) -> list[Arrived]:
        """What has come after so many frames, without heartbeats and the answers to `settle`."""
        return [
            frame
            for frame in self.frames[since:]
            if frame.type != "heartbeat" and not str(frame.payload.get("request_id", "")).startswith(SETTLE)
        ]

    def breathe(self) -> None:
        """Return when the agent's end has read everything so far, by a WebSocket ping that is no message."""
        assert self._socket.ping().wait(PATIENCE), "the agent's WebSocket does not answer a ping"

    def close(self, code: int = 1001, reason: str = "restarting") -> None:
        """Close the connection."""
        self._socket.close(code, reason)

    def wait_closed(self, timeout: float = PATIENCE) -> int | None:
        """The close code with which the agent ended the connection."""
        end = time.monotonic() + timeout
        with self._news:
            while not self._closed:
                left = end - time.monotonic()
                assert left > 0, "the agent does not close the connection"
                self._news.wait(left)
        return self._socket.close_code


class ScriptedPlane:
    """Listens on loopback; a context manager."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._links: queue.Queue[Link] = queue.Queue()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._server = serve(self._connected, "127.0.0.1", 0, compression=None, max_size=None)
        self._thread = threading.Thread(target=self._server.serve_forever, name="scripted control plane")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None and self._thread is not None
        self._server.shutdown()
        self._thread.join(PATIENCE)

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/agent/ws"

    def dialled(self, timeout: float = PATIENCE) -> Link:
        """The next connection; nothing was said on it yet by this side."""
        try:
            return self._links.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no agent dialled within {timeout:g} s") from None

    def accepted(self, ack: Mapping[str, Any] = ACK, timeout: float = PATIENCE) -> Link:
        """The next connection, with its hello acknowledged."""
        link = self.dialled(timeout)
        link.expect("agent_hello")
        link.acknowledge(ack)
        return link

    def _connected(self, socket: ServerConnection) -> None:
        link = Link(socket, self.problems)
        self._links.put(link)
        link.pump()


def now() -> str:
    """The time as envelopes carry it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _has(frame: Arrived, fields: Mapping[str, object]) -> bool:
    return all(frame.payload.get(key) == value for key, value in fields.items())
