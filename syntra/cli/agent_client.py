"""The client of the local socket: one request per connection, newline-delimited JSON envelopes.

    {"id": "<uuid>", "type": "<message type>", "timestamp": "<ISO 8601 UTC>", "payload": {…}}

It uses blocking sockets on purpose: a verb waits for one answer, Ctrl-C interrupts a blocking read at once, and no
event loop has to start. A connection that ends before the answer is complete is an error, never an empty answer.
"""

from __future__ import annotations

import json
import select
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from syntra.cli.exit_codes import CliError, CommandFailed, ExitCode
from syntra.cli.reading import Json, section, text
from syntra.utils.frozen import frozen

TAKEN_SECS = 30
"""Longest wait for an agent that takes no input; it always reads, whether a command does or not."""
LINE_MAX = 16 * 1024 * 1024
"""The longest envelope in either direction, including the line end; the agent has the same limit."""

CONNECT_SECS = 5.0
ANSWER_SECS = 30.0
"""The contract's time limit for an answer to a command."""

EARLY_MAX = 100
"""The most statuses kept that arrive before the acceptance; the last ones matter."""

TERMINAL = frozenset({"running", "failed", "rolled_back"})


@frozen
class Envelope:
    """A message of the agent; only the fields that all messages have are parsed."""

    type: str
    payload: Json


class AgentConnection:
    """One connection to the agent. Use as a context manager; closing it ends subscriptions."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._searched = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Connect within CONNECT_SECS; raises CliError with reason and next step."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(CONNECT_SECS)
            sock.connect(str(path))
        except OSError as exc:
            sock.close()
            raise _unreachable(path, exc) from exc
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, kind: str, payload: Mapping[str, object]) -> str:
        """Send one request; returns its id. `request_id` is set to the envelope's id."""
        request_id = str(uuid.uuid4())
        envelope = {
            "id": request_id,
            "type": kind,
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "payload": {"request_id": request_id, **payload},
        }
        line = json.dumps(envelope).encode() + b"\n"
        if len(line) > LINE_MAX:
            raise CliError(f"cannot send {kind}: the request is larger than {LINE_MAX // 2**20} MiB", ExitCode.USAGE)
        try:
            self._socket.settimeout(ANSWER_SECS)
            self._socket.sendall(line)
        except TimeoutError as exc:
            raise broken(f"it took nothing within {ANSWER_SECS:.0f} s") from exc
        except OSError as exc:
            # The agent may have sent the reason before it closed; receive() finds it, or the end of the stream.
            if not isinstance(exc, BrokenPipeError | ConnectionResetError):
                raise broken(exc.strerror or "the connection failed") from exc
        return request_id

    def receive(
        self, timeout: float | None, *, tick: Callable[[], object] | None = None, tick_secs: float = 1.0
    ) -> Envelope:
        """The next envelope. `timeout` in seconds limits the whole of it, however slowly it arrives; None: no limit.

        `tick` is called every `tick_secs` while nothing arrives.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (line := self._line()) is None:
            if len(self._buffer) > LINE_MAX:
                raise broken(f"it sent a line longer than {LINE_MAX // 2**20} MiB")
            remaining = None if deadline is None else deadline - time.monotonic()
            try:
                if remaining is not None and remaining <= 0:
                    raise TimeoutError
                if tick is not None:
                    tick()
                    if not select.select([self._socket], [], [], tick_secs)[0]:
                        continue
                self._socket.settimeout(remaining)
                data = self._socket.recv(256 * 1024)
            except TimeoutError as exc:
                raise _late(timeout) from exc
            except OSError as exc:
                raise broken(f"the connection failed ({exc.strerror})") from exc
            if not data:
                raise broken("it closed the connection before it was done")
            self._buffer += data
        return _opened(line)

    def arrived(self) -> list[Envelope]:
        """The envelopes that one read completes. Call it when the socket is readable; raises CliError at its end."""
        self._buffer += self.receive_bytes()
        if len(self._buffer) > LINE_MAX and b"\n" not in self._buffer:
            raise broken(f"it sent a line longer than {LINE_MAX // 2**20} MiB")
        found = []
        while (line := self._line()) is not None:
            found.append(_opened(line))
        return found

    def fileno(self) -> int:
        """The socket, to wait for it."""
        return self._socket.fileno()

    def rest(self) -> bytes:
        """What was received behind the last envelope, when the connection carries no more of them."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def send_some(self, data: memoryview) -> int:
        """Send what the socket takes at once of bytes that are no envelope; returns how much.

        Without an agent all of it counts as sent: that is noticed by receiving, as it may have said why.
        """
        self._socket.settimeout(0)
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return len(data)
        except OSError as exc:
            raise broken(exc.strerror or "the connection failed") from exc

    def receive_bytes(self) -> bytes:
        """What has arrived, at least one byte; raises CliError when the agent closed the connection."""
        try:
            self._socket.settimeout(ANSWER_SECS)
            data = self._socket.recv(256 * 1024)
        except ConnectionResetError:
            # It closed while input was on its way to it.
            data = b""
        except OSError as exc:
            raise broken(f"the connection failed ({exc.strerror})") from exc
        if not data:
            raise broken("it closed the connection before it was done")
        return data

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0 or end > LINE_MAX:
            # Searched bytes are not searched again: a long line would cost quadratic time.
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


def ask(path: Path, kind: str, payload: Mapping[str, object], *, timeout: float = ANSWER_SECS) -> Json:
    """Send a request that has one answer; return its data. Raises CommandFailed for a refusal, CliError otherwise."""
    with AgentConnection.open(path) as connection:
        return await_response(connection, connection.send(kind, payload), timeout=timeout)


def operate(
    path: Path,
    kind: str,
    payload: Mapping[str, object],
    *,
    idle: float,
    tick: Callable[[], object] | None = None,
    tick_secs: float = 1.0,
) -> Iterator[Json]:
    """Start a deploy, scale or rollback; yields its acceptance data, then every `deploy_status` up to the last one.

    `idle` limits the wait for each, with `tick` as in `AgentConnection.receive`.

    Raises CommandFailed for a refusal, CliError when the agent disconnects.
    """
    early: deque[Envelope] = deque(maxlen=EARLY_MAX)
    with AgentConnection.open(path) as connection:
        accepted = await_response(connection, connection.send(kind, payload), on_other=early.append)
        yield accepted
        deployment_id = text(accepted, "deployment_id", "")
        while True:
            envelope = early.popleft() if early else connection.receive(idle, tick=tick, tick_secs=tick_secs)
            if envelope.type != "deploy_status":
                continue
            status = envelope.payload
            if deployment_id and text(status, "deployment_id", deployment_id) != deployment_id:
                continue
            yield status
            if text(status, "status") in TERMINAL:
                return


def subscribe(
    path: Path,
    payload: Mapping[str, object],
    *,
    idle: float | None,
    on_accepted: Callable[[Json], object] = lambda _: None,
) -> Iterator[Json]:
    """Subscribe to logs; yields each `log_stream` payload up to the one that is done. `on_accepted` gets the answer."""
    with AgentConnection.open(path) as connection:
        request_id = connection.send("logs_subscribe", payload)
        while True:
            envelope = connection.receive(idle)
            if envelope.type == "command_response" and _is_for(envelope.payload, request_id):
                raise_for_error(envelope.payload)
                on_accepted(section(envelope.payload, "data"))
            elif envelope.type == "log_stream" and _is_for(envelope.payload, request_id):
                yield envelope.payload
                if envelope.payload.get("done") is True:
                    return


def await_response(
    connection: AgentConnection,
    request_id: str,
    *,
    timeout: float = ANSWER_SECS,
    on_other: Callable[[Envelope], object] = lambda _: None,
) -> Json:
    """The data of the `command_response` to a request; messages before it are passed to `on_other`.

    `timeout` in seconds limits the total time.
    """
    deadline = time.monotonic() + timeout
    while (remaining := deadline - time.monotonic()) > 0:
        envelope = connection.receive(remaining)
        if envelope.type == "command_response" and _is_for(envelope.payload, request_id):
            raise_for_error(envelope.payload)
            return section(envelope.payload, "data")
        on_other(envelope)
    raise _late(timeout)


def raise_for_error(response: Json) -> None:
    """Raise CommandFailed unless the response says success."""
    if response.get("success") is True:
        return
    error = section(response, "error")
    details = error.get("details")
    raise CommandFailed(
        text(error, "code", "UNKNOWN"),
        text(error, "message", "the agent refused without a reason"),
        details if isinstance(details, str) else json.dumps(details) if details else "",
        data=section(error, "details"),
    )


def _is_for(payload: Json, request_id: str) -> bool:
    # If the agent could not parse the envelope, its refusal has no request id; the connection has only one request.
    return payload.get("request_id") in (request_id, "", None)


def _opened(line: bytes) -> Envelope:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise broken("it sent something that is not JSON") from exc
    if isinstance(message, dict):
        kind, payload = message.get("type"), message.get("payload", {})
        if isinstance(kind, str) and isinstance(payload, dict):
            return Envelope(type=kind, payload=payload)
    raise broken("it sent something that is not an envelope")


def broken(reason: str) -> CliError:
    """An agent that does not keep to the protocol, or went away."""
    return CliError(
        f"cannot get an answer from the agent: {reason}; see the agent's log (journalctl -u syntra-agent)",
        ExitCode.UNAVAILABLE,
    )


def _late(timeout: float | None) -> CliError:
    return broken(f"it did not answer within {timeout or 0:.3g} s")


def _unreachable(path: Path, exc: OSError) -> CliError:
    start = "start it with `syntra-agent start`"
    if isinstance(exc, PermissionError):
        return CliError(
            f"cannot reach the agent at {path}: permission denied; run this as root or as the agent's user",
            ExitCode.REFUSED,
        )
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        reason = f"no socket there, so it is not running or listens elsewhere; {start}, or give --socket"
    elif isinstance(exc, ConnectionRefusedError):
        reason = f"the agent is not running; {start}"
    elif isinstance(exc, TimeoutError | BlockingIOError):
        reason = "it takes no connections at the moment; try again, then see the agent's log"
        return CliError(f"cannot reach the agent at {path}: {reason}", ExitCode.TEMPORARY)
    else:
        reason = f"{exc.strerror or exc}; check --socket"
    return CliError(f"cannot reach the agent at {path}: {reason}", ExitCode.UNAVAILABLE)
