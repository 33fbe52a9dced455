"""The OTLP/HTTP receiver: listeners on `http.server`, a thread for each connection, and the watch over both."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import socketserver
import ssl
import threading
from collections.abc import Mapping, Sequence
from http.server import HTTPServer
from time import monotonic
from typing import Any

from syntra.telemetry.intake import Intake, Overloaded
from syntra.telemetry.otlp.cors import Cors
from syntra.telemetry.otlp.failures import Failures
from syntra.telemetry.otlp.http_connection import Connection
from syntra.telemetry.otlp.http_handler import DecodeJson, OtlpHandler, Route
from syntra.telemetry.otlp.http_limits import HttpLimits
from syntra.telemetry.otlp.listening import SOCKET_MODE, CannotListen, clear_stale_socket, family_of, is_path
from syntra.telemetry.otlp.responses import overloaded
from syntra.utils.program_pages import return_freed_memory

logger = logging.getLogger(__name__)

WATCH_SECS = 0.5
"""How often deadlines are checked while there are connections."""
ACCEPT_PAUSE_SECS = 0.2
"""The pause after an accept failed because the process has no file descriptor left."""
END_SECS = 2.0
"""How long `close` waits for threads whose sockets it has ended."""
BACKLOG = 128


def _busy() -> bytes:
    answer = overloaded(Overloaded("too many connections; try again", 1.0), None)
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {answer.content_type}\r\nRetry-After: 1\r\n"
    return f"{head}Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n".encode() + answer.body


_BUSY = _busy()


class HttpReceiver:
    """Receives OTLP over HTTP. All methods may be called from any thread, except `close` from a connection's."""

    def __init__(
        self,
        intake: Intake,
        decode_json: DecodeJson,
        *,
        port: int = 4318,
        limits: HttpLimits | None = None,
        cors_origins: Sequence[str] = (),
        routes: Mapping[str, Route] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.intake = intake
        self.decode_json = decode_json
        self.port = port
        self.limits = limits or HttpLimits()
        self.cors = Cors(cors_origins)
        self.routes: Mapping[str, Route] = routes or {}
        self.failures = Failures()
        self.tls = tls
        self.is_closing = False
        self.had_large = False
        """Whether a large request came since the watch last returned freed memory."""
        self.connections_accepted = 0
        self.connections_refused = 0
        self.connections_timed_out = 0
        self._lock = threading.Condition()
        self._connections: set[Connection] = set()
        self._per_address: dict[str, int] = {}
        self._listeners: dict[str, _Listener] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._watch = threading.Thread(target=self._run, name="otlp-http", daemon=True)
        self._watch.start()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses that the receiver listens on."""
        with self._lock:
            return tuple(self._listeners)

    def listen(self, address: str) -> int:
        """Listen on an IP address or the path of a unix socket, in addition; returns the port (0 for a path).

        Listening twice on an address changes nothing. Raises CannotListen; the caller may try again.
        """
        with self._lock:
            if address in self._listeners:
                return self._listeners[address].port
            if self.is_closing:
                raise CannotListen(address, self.port, "the receiver is closing")
            try:
                listener = _Listener(address, self)
            except OSError as error:
                raise CannotListen(address, self.port, error.strerror or str(error)) from error
            self._listeners[address] = listener
            self._selector.register(listener.socket, selectors.EVENT_READ, listener)
        self._wake.send(b"\0")
        return listener.port

    def unlisten(self, address: str) -> None:
        """Stop listening on an address. Its connections stay until they end by themselves."""
        with self._lock:
            listener = self._listeners.pop(address, None)
            if listener is None:
                return
            self._selector.unregister(listener.socket)
            listener.server_close()

    def close(self, grace_secs: float = 5.0) -> None:
        """Stop listening, give running requests `grace_secs`, then end all connections."""
        with self._lock:
            self.is_closing = True
            addresses = tuple(self._listeners)
        for address in addresses:
            self.unlisten(address)
        deadline = monotonic() + grace_secs
        with self._lock:
            while self._connections and monotonic() < deadline:
                for connection in self._connections:
                    if connection.is_waiting:
                        connection.end()
                self._lock.wait(min(0.1, max(0.0, deadline - monotonic())))
            for connection in self._connections:
                connection.end()
            self._lock.wait_for(lambda: not self._connections, END_SECS)
        self._wake.send(b"\0")
        self._watch.join(END_SECS)
        if not self._watch.is_alive():
            self._selector.close()
            self._wake.close()
            self._woken.close()

    # The watch

    def _run(self) -> None:
        next_check = monotonic() + WATCH_SECS
        while True:
            ready = self._selector.select(WATCH_SECS if self._connections else None)
            for key, _ in ready:
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(4096)
                else:
                    self._accept(key.data)
            if self.is_closing and not self._listeners and not self._connections:
                return
            now = monotonic()
            if now >= next_check:
                next_check = now + WATCH_SECS
                self._expire(now)
                if self.had_large:
                    self.had_large = False
                    return_freed_memory()

    def _accept(self, listener: _Listener) -> None:
        try:
            request, address = listener.get_request()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of file descriptors, or the listener was closed by `unlisten`.
            logger.debug("accept failed", extra={"reason": str(error)})
            threading.Event().wait(ACCEPT_PAUSE_SECS)
            return
        listener.process_request(request, address)

    def _expire(self, now: float) -> None:
        with self._lock:
            overdue = [connection for connection in self._connections if connection.deadline < now]
        for connection in overdue:
            self.connections_timed_out += 1
            connection.expire(now)

    # Connections

    def admit(self, sock: socket.socket, address: str) -> Connection | None:
        """Count a connection in, or refuse it. Over a limit it first ends the longest waiting connection."""
        limits = self.limits
        with self._lock:
            count = self._per_address.get(address, 0)
            if count >= limits.max_connections_per_address:
                rivals = [known for known in self._connections if known.address == address]
            elif len(self._connections) >= limits.max_connections:
                rivals = list(self._connections)
            else:
                return self._add(sock, address)
            waiting = [known for known in rivals if known.is_waiting]
            if self.is_closing or not waiting or len(self._connections) >= 2 * limits.max_connections:
                self.connections_refused += 1
                return None
            oldest = min(waiting, key=lambda known: known.deadline)
            oldest.is_waiting = False
            oldest.end()
            return self._add(sock, address)

    def _add(self, sock: socket.socket, address: str) -> Connection:
        connection = Connection(sock, address, self.limits)
        self._connections.add(connection)
        self._per_address[address] = self._per_address.get(address, 0) + 1
        self.connections_accepted += 1
        return connection

    def remove(self, connection: Connection) -> None:
        """Count a connection out and close it."""
        connection.close()
        with self._lock:
            self._connections.discard(connection)
            left = self._per_address[connection.address] - 1
            if left:
                self._per_address[connection.address] = left
            else:
                del self._per_address[connection.address]
            self._lock.notify_all()


class _Listener(socketserver.ThreadingMixIn, HTTPServer):
    """One listening socket."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(self, address: str, receiver: HttpReceiver) -> None:
        self.service = receiver
        self.opened: dict[int, Connection] = {}
        self.address_family = family_of(address)
        self._path = address if is_path(address) else None
        if self._path is not None:
            clear_stale_socket(self._path)
        place: Any = address if self._path is not None else (address, receiver.port)
        super().__init__(place, OtlpHandler)
        self.socket.setblocking(False)

    @property
    def port(self) -> int:
        """The port; 0 for a unix socket."""
        return 0 if self._path is not None else int(self.server_address[1])

    def server_bind(self) -> None:
        """Bind, without the base class's DNS query for the host's name."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        socketserver.TCPServer.server_bind(self)
        if self._path is not None:
            os.chmod(self._path, SOCKET_MODE)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its TLS handshake comes later, in its own thread."""
        sock, address = self.socket.accept()
        sock.setblocking(True)
        if self._path is None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.service.tls is not None:
                sock = self.service.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return sock, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the connection's thread if the limits allow one more."""
        address = "" if self._path is not None else str(client_address[0])
        connection = self.service.admit(request, address)
        if connection is None:
            if not isinstance(request, ssl.SSLSocket):
                with contextlib.suppress(OSError):
                    request.send(_BUSY, socket.MSG_DONTWAIT)
            request.close()
            return
        self.opened[request.fileno()] = connection
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # The system has no thread left.
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection whose thread has finished."""
        connection = self.opened.pop(request.fileno(), None)
        if connection is not None:
            self.service.remove(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a connection. A failed handshake is the sender's affair."""
        logger.debug("http connection failed", exc_info=True)

    def server_close(self) -> None:
        """Stop listening, and remove the unix socket."""
        super().server_close()
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
