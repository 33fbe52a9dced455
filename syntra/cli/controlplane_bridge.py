"""The agent of a server behind a control plane, as a local socket: what a verb asks there goes over the API.

So every verb that asks the local agent can ask one elsewhere, and shows the same. Each connection is served by a
thread of its own. The socket is in a directory that only this user may enter, and exists as long as the verb runs.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from syntra.cli.controlplane_client import ANSWER_SECS, Api, CallRefused, quoted
from syntra.cli.exit_codes import CliError
from syntra.cli.reading import Json, number, rows, section, text
from syntra.model.exec_frames import MAX_PAYLOAD_BYTES, FrameKind, encoded

WAIT_SECS = 30.0
"""How long one call waits for an answer of the agent; a longer wait is several calls."""
POLL_SECS = 1.0
"""How long one call waits for the next report or line: so late a new one may be shown."""
FIRST_REPORT_SECS = 60.0
"""An operation that was accepted reports within this time."""
REQUEST_MAX = 16 * 1024 * 1024

_OPERATIONS = frozenset({"deploy", "scale", "rollback"})
_ENDED = frozenset({"running", "failed", "rolled_back"})


class Bridge:
    """A context manager; `path` is the socket, `failed` why the control plane could not be asked."""

    def __init__(self, api: Api, server: str) -> None:
        self._api = api
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix="syntra-")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._followed: set[str] = set()
        self.path = Path(self._folder.name) / "agent.sock"
        self.failed: CliError | None = None

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen()
        # Daemons: a call that waits must not keep an interrupted verb from ending.
        threading.Thread(target=self._accept, name="bridge", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._folder.cleanup()
        for service in list(self._followed):
            # The agent would send the lines for ever.
            with suppress(CliError):
                self._post("logs_unsubscribe", {"service_id": service}, wait=0)

    def _accept(self) -> None:
        # Closing the listener ends this.
        with suppress(OSError):
            while True:
                opened, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(opened,), name="bridge request", daemon=True).start()

    def _serve(self, opened: socket.socket) -> None:
        with opened, suppress(OSError):
            opened.settimeout(WAIT_SECS)
            with opened.makefile("rb") as lines:
                request = json.loads(lines.readline(REQUEST_MAX))
            try:
                self._carry_out(opened, text(request, "type"), text(request, "id"), section(request, "payload"))
            except CallRefused as refused:
                error = {"code": refused.code, "message": refused.message}
                _respond(opened, {"request_id": text(request, "id"), "success": False, "error": error})
            except CliError as failed:
                # The connection closes; the verb then says this instead.
                self.failed = failed

    def _carry_out(self, opened: socket.socket, kind: str, request_id: str, payload: Json) -> None:
        is_attached = kind == "exec" and payload.get("stream") is True
        answer = self._answered(kind, request_id, _bounded(payload) if is_attached else payload)
        if answer.get("success") is not True:
            _respond(opened, answer)
        elif is_attached:
            _respond(opened, {**answer, "data": {"attached": True}})
            _give_output(opened, section(answer, "data"))
        else:
            _respond(opened, answer)
            if kind in _OPERATIONS:
                self._follow_reports(opened, request_id, text(section(answer, "data"), "deployment_id"))
            elif kind == "logs_subscribe":
                self._follow_lines(opened, request_id, payload)

    def _answered(self, kind: str, request_id: str, payload: Json) -> Json:
        """The agent's `command_response`."""
        limit = number(payload, "timeout_seconds") if kind == "exec" else None
        until = time.monotonic() + ANSWER_SECS + WAIT_SECS + (limit or 0.0)
        view = self._post(kind, payload, wait=WAIT_SECS)
        while text(view, "state") == "sent" and time.monotonic() < until:
            view = self._api.call("GET", f"/api/v1/commands/{quoted(request_id)}", wait=WAIT_SECS)
        match text(view, "state"):
            case "answered":
                return {**section(view, "response"), "request_id": request_id}
            case "queued":
                data = {"accepted": True, "deployment_id": text(view, "deployment_id")}
                return {"request_id": request_id, "success": True, "data": data}
            case _:
                error = {
                    "code": "TIMEOUT",
                    "message": f"server {self._server} did not answer; see `controlplane servers`",
                }
                return {"request_id": request_id, "success": False, "error": error}

    def _post(self, kind: str, payload: Json, *, wait: float) -> Json:
        body = {"type": kind, "payload": payload}
        return self._api.call("POST", f"/api/v1/servers/{quoted(self._server)}/commands", body, wait=wait)

    def _follow_reports(self, opened: socket.socket, request_id: str, deployment: str) -> None:
        after = "0"
        until = time.monotonic() + FIRST_REPORT_SECS
        while not _is_closed(opened):
            try:
                page = self._api.call(
                    "GET", f"/api/v1/deployments/{quoted(deployment)}", query={"after": after}, wait=POLL_SECS
                )
            except CallRefused as refused:
                # A rollback or scale is known from its first report on.
                if refused.code != "NOT_FOUND" or time.monotonic() > until:
                    raise
                page = {}
            for event in rows(page, "events"):
                # A deployment that was scaled or rolled back to has the reports of earlier operations, too.
                if text(event, "request_id", request_id) == request_id:
                    _send(opened, "deploy_status", event)
                    if text(event, "status") in _ENDED:
                        return
            if after == (after := text(page, "next", after)):
                # The API has no way to wait for the next report of a deploy.
                time.sleep(POLL_SECS / 4)

    def _follow_lines(self, opened: socket.socket, request_id: str, payload: Json) -> None:
        service, after = text(payload, "service_id"), "0"
        if is_following := payload.get("follow") is True:
            self._followed.add(service)
        while not _is_closed(opened):
            page = self._api.call("GET", f"/api/v1/logs/{quoted(request_id)}", query={"after": after}, wait=POLL_SECS)
            after = text(page, "next", after)
            is_done = page.get("done") is True
            _send(opened, "log_stream", {"request_id": request_id, "logs": rows(page, "lines"), "done": is_done})
            if is_done:
                break
        if is_following:
            self._followed.discard(service)
            self._post("logs_unsubscribe", {"service_id": service}, wait=0)


def _bounded(payload: Json) -> dict[str, object]:
    """An attached exec as the control plane can pass it on: no input, and the output at the end."""
    left_out = ("stream", "stdin", "tty", "rows", "columns")
    return {name: value for name, value in payload.items() if name not in left_out}


def _give_output(opened: socket.socket, data: Json) -> None:
    for name, kind in (("stdout", FrameKind.STDOUT), ("stderr", FrameKind.STDERR)):
        said = text(data, name, "")
        output = base64.b64decode(said) if data.get("encoding") == "base64" else said.encode()
        for start in range(0, len(output), MAX_PAYLOAD_BYTES):
            opened.sendall(encoded(kind, output[start : start + MAX_PAYLOAD_BYTES]))
    if data.get("truncated") is True:
        opened.sendall(encoded(FrameKind.STDERR, b"the rest of the output was left out; run it on the server\n"))
    opened.sendall(encoded(FrameKind.EXIT, json.dumps({"exit_code": data.get("exit_code")}).encode()))


def _is_closed(opened: socket.socket) -> bool:
    """Whether the verb has left; it sends nothing after its request."""
    return bool(select.select([opened], [], [], 0)[0])


def _respond(opened: socket.socket, payload: Json) -> None:
    _send(opened, "command_response", payload)


def _send(opened: socket.socket, kind: str, payload: Mapping[str, object]) -> None:
    envelope = {"id": str(uuid.uuid4()), "type": kind, "timestamp": "", "payload": payload}
    opened.sendall(json.dumps(envelope).encode() + b"\n")
