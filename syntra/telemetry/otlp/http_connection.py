"""One connection of the HTTP receiver: bytes of heads and bodies, each under a deadline.

Reads block without a timeout of their own, which saves a system call for each. Instead the connection has a deadline;
when it is over, the receiver's watch ends the reads, and later the writes.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import threading
from collections.abc import Iterator
from time import monotonic

from syntra.telemetry.otlp.chunked import ChunkedDecoder
from syntra.telemetry.otlp.http_limits import HttpLimits
from syntra.telemetry.otlp.request_head import HttpRefusal

RECEIVE_BYTES = 1 << 16
LARGE_BYTES = 1 << 20
ERROR_SECS = 5.0
"""How long the sender of a request that timed out may take to read the answer."""
TLS_POLL_SECS = 0.5


class SenderGone(Exception):
    """The connection ended inside a request, or its time is over and an answer is of no use."""


class Connection:
    """The socket of a connection, what was read from it too early, and its deadline."""

    def __init__(self, sock: socket.socket, address: str, limits: HttpLimits) -> None:
        self.sock = sock
        self.address = address
        self.limits = limits
        self.is_waiting = False
        """Between two requests: it may be closed without a loss."""
        self.deadline = monotonic() + limits.head_secs
        self.timed_out = False
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        # A TLS socket takes no flags.
        self._wait_all = 0 if self._is_tls else socket.MSG_WAITALL
        self._buffer = b""
        self._lock = threading.Lock()
        self._is_closed = False

    def allow(self, secs: float) -> None:
        """Set the deadline to `secs` from now."""
        self.deadline = monotonic() + secs

    def allow_forever(self) -> None:
        """The receiver itself is working; the sender waits."""
        self.deadline = math.inf

    def expire(self, now: float) -> None:
        """End the reads of an overdue connection, and its writes when it is overdue again. From any thread."""
        if self.timed_out or self.is_waiting:
            self.end()
            return
        self.timed_out = True
        self.deadline = now + ERROR_SECS
        if not self._is_tls:
            self._shutdown(socket.SHUT_RD)

    def end(self) -> None:
        """End reads and writes, from any thread; the thread of the connection then closes it."""
        self._shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. Only the thread of the connection calls this."""
        with self._lock:
            self._is_closed = True
            self.sock.close()

    def _shutdown(self, how: int) -> None:
        # Not SSLSocket.shutdown: that takes the TLS state from under the thread that reads.
        with self._lock, contextlib.suppress(OSError):
            if not self._is_closed:
                socket.socket.shutdown(self.sock, how)

    def handshake(self) -> None:
        """The TLS handshake, if the connection has one. Raises OSError."""
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.settimeout(self.limits.head_secs)
            self.sock.do_handshake()
            # After a shutdown of the socket OpenSSL could send no answer, so reads return by themselves.
            self.sock.settimeout(TLS_POLL_SECS)

    # Heads

    def read_head(self) -> bytes | None:
        """The next head without its empty line; None when the sender closed the connection. Raises HttpRefusal."""
        buffer = self._buffer
        self.is_waiting = not buffer
        self.allow(self.limits.idle_secs if self.is_waiting else self.limits.head_secs)
        if not buffer:
            buffer = self._receive(RECEIVE_BYTES)
        end = buffer.find(b"\r\n\r\n")
        if end <= 0 or end > self.limits.max_head_bytes or buffer[0] == 13:
            return self._read_slow_head(buffer)
        self.is_waiting = False
        self._buffer = buffer[end + 4 :]
        return buffer[:end]

    def _read_slow_head(self, buffer: bytes) -> bytes | None:
        """A head that comes in pieces, is too long, or follows an empty line (RFC 9112 §2.2 allows one)."""
        if buffer and self.is_waiting:
            self.is_waiting = False
            self.allow(self.limits.head_secs)
        has_skipped = False
        while True:
            if not has_skipped and buffer[:2] == b"\r\n":
                has_skipped = True
                buffer = buffer[2:]
            end = buffer.find(b"\r\n\r\n")
            if 0 <= end <= self.limits.max_head_bytes:
                self._buffer = buffer[end + 4 :]
                return buffer[:end]
            if end >= 0 or len(buffer) > self.limits.max_head_bytes:
                raise _too_long(buffer, self.limits.max_head_bytes)
            first = buffer.find(b"\n")
            if first >= 0 and (first == 0 or buffer[first - 1 : first] != b"\r"):
                raise HttpRefusal(400, "a line does not end with CR LF", "head", closes=True)
            piece = self._receive(RECEIVE_BYTES)
            if not piece:
                if self.timed_out and buffer:
                    raise HttpRefusal(408, "the head of the request came too slowly", "timeout", closes=True)
                return None
            if self.is_waiting:
                self.is_waiting = False
                self.allow(self.limits.head_secs)
            buffer += piece

    # Bodies

    @property
    def has_buffered(self) -> bool:
        """Whether bytes behind the head have come."""
        return bool(self._buffer)

    def read_body(self, length: int) -> bytes:
        """A body of at most a few MiB, in one piece. Raises HttpRefusal (timeout) and SenderGone."""
        buffer = self._buffer
        missing = length - len(buffer)
        if missing <= 0:
            self._buffer = buffer[length:] if missing else b""
            return buffer[:length] if missing else buffer
        self._buffer = b""
        self.allow(self.limits.body_secs)
        pieces = [buffer]
        while missing:
            piece = self._receive(missing, self._wait_all)
            if not piece:
                raise self._incomplete()
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def pieces(self, length: int) -> Iterator[bytes]:
        """A body of `length` bytes in pieces."""
        self.allow(self.limits.body_secs)
        return self._pieces(length)

    def _pieces(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self._buffer[:length]
            if piece:
                self._buffer = self._buffer[length:]
            else:
                piece = self._receive(min(length, LARGE_BYTES), self._wait_all)
                if not piece:
                    raise self._incomplete()
            length -= len(piece)
            yield piece

    def chunked_pieces(self) -> Iterator[bytes]:
        """A chunked body in pieces. Raises HttpRefusal when the chunks are malformed."""
        self.allow(self.limits.body_secs)
        return self._chunked_pieces()

    def _chunked_pieces(self) -> Iterator[bytes]:
        decoder = ChunkedDecoder()
        data = self._buffer
        self._buffer = b""
        while True:
            if data:
                yield from decoder.feed(data)
            if decoder.is_done:
                self._buffer = decoder.remainder
                return
            data = self._receive(RECEIVE_BYTES)
            if not data:
                raise self._incomplete()

    def drain(self, length: int) -> bool:
        """Read and forget a body. Returns whether it was read, so that the connection can stay open."""
        if length > self.limits.drain_bytes:
            return False
        self.allow(self.limits.drain_secs)
        try:
            for _ in self._pieces(length):
                continue
        except (HttpRefusal, SenderGone):
            return False
        return True

    def linger(self) -> None:
        """Close in the order that lets the sender read the answer: stop writing, then read what it still sends.

        A close with unread bytes resets the connection, and the sender's kernel may then discard the answer.
        """
        self._shutdown(socket.SHUT_WR)
        self._buffer = b""
        self.allow(self.limits.drain_secs)
        left = self.limits.drain_bytes * 4
        while left > 0:
            piece = self._receive(RECEIVE_BYTES)
            if not piece:
                return
            left -= len(piece)

    def send(self, data: bytes) -> None:
        """Send an answer. Raises SenderGone."""
        if not self.timed_out:
            self.allow(self.limits.write_secs)
        try:
            if self._is_tls:
                self.sock.settimeout(self.limits.write_secs)
                self.sock.sendall(data)
                self.sock.settimeout(TLS_POLL_SECS)
            else:
                self.sock.sendall(data)
        except OSError as error:
            raise SenderGone from error

    def _receive(self, size: int, flags: int = 0) -> bytes:
        while True:
            try:
                data = self.sock.recv(size, flags)
            except TimeoutError:
                # Only on a TLS socket. The watch sets `timed_out` at the deadline.
                if self.timed_out:
                    return b""
                continue
            except OSError:
                return b""
            return b"" if self.timed_out else data

    def _incomplete(self) -> Exception:
        if self.timed_out:
            return HttpRefusal(408, "the body of the request came too slowly", "timeout", closes=True)
        return SenderGone()


def _too_long(buffer: bytes, limit: int) -> HttpRefusal:
    if b"\r\n" not in buffer[:limit]:
        return HttpRefusal(414, f"the request line is longer than {limit} bytes", "too_large", closes=True)
    return HttpRefusal(431, f"the headers are longer than {limit} bytes", "too_large", closes=True)
