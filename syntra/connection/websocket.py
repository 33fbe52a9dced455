"""The adapter to the websockets library; no other module of this package imports it.

It translates the library's errors: a failed dial to `DialFailure`, a broken socket to `SocketEnded` or NotConnected.
Proxies come from the environment (HTTPS_PROXY, NO_PROXY and so on, in upper or lower case, read at every dial). It
dials loopback directly.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.protocol import State

from syntra.connection.errors import NotConnected
from syntra.connection.messages import readable
from syntra.connection.retry import CLIENT_CERTIFICATE_REFUSED, DialFailure, FailureKind
from syntra.connection.settings import ConnectionSettings

_log = logging.getLogger(__name__)

# At DEBUG the library logs the headers that it sends, with the token. No logging configuration can change the level of
# a logger outside the hierarchy; its warnings reach the handlers through its parent.
_wire_log = logging.Logger("syntra.connection.websocket", level=logging.WARNING)
_wire_log.parent = _log


def _plain(record: logging.LogRecord) -> bool:
    # The library adds a weak reference to its connection, which may be dead when a formatter renders the record.
    record.__dict__.pop("websocket", None)
    return True


_wire_log.addFilter(_plain)

_CLIENT_CERTIFICATE_ALERTS = (
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
_NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")

_VERIFY_NOT_YET_VALID = 9  # X509_V_ERR_*, x509_vfy.h
_VERIFY_EXPIRED = 10
_VERIFY_WRONG_NAME = (62, 64)


class _Connect(connect):
    """The library's connect without redirects: it would send the token along within one origin."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class SocketEnded(Exception):
    """The socket is closed. `code` and `reason` come from the side that closed first; 1006 when neither did."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"close code {code}: {reason}")
        self.code = code
        self.reason = reason


class Socket:
    """An open WebSocket. At most one task receives and one sends."""

    def __init__(self, connection: ClientConnection, *, send_timeout_secs: float, close_timeout_secs: float) -> None:
        self._connection = connection
        self._send_timeout = send_timeout_secs
        self._close_timeout = close_timeout_secs

    async def receive(self) -> bytes:
        """Return the next frame, text or binary. No deadline: the session detects silence. Raises SocketEnded."""
        try:
            # As bytes: the library would close the connection for invalid UTF-8; here that is only a malformed frame.
            return await self._connection.recv(decode=False)
        except ConnectionClosed as exc:
            raise SocketEnded(*_ending(exc)) from exc
        except Exception as exc:  # a fault inside the library ends this connection, not the agent
            self._fault(exc)
            raise SocketEnded(1006, "the connection broke") from exc

    async def send(self, frame: str | bytes) -> None:
        """Send a text or a binary frame; return when the operating system has it, except for at most 32 KiB.

        Raises NotConnected otherwise. Aborts the socket first when the peer reads nothing within the send timeout.
        """
        connection = self._connection
        is_text = isinstance(frame, str)
        data = frame.encode(errors="replace") if isinstance(frame, str) else frame
        try:
            async with asyncio.timeout(self._send_timeout):
                await connection.send(data, text=is_text)
        except TimeoutError as exc:
            self.abort()
            raise NotConnected("cannot send to the control plane: it takes nothing; it is dialled again") from exc
        except ConnectionClosed as exc:
            raise _broken() from exc
        except Exception as exc:  # a fault inside the library ends this connection, not the agent
            self._fault(exc)
            raise _broken() from exc
        if connection.state is not State.OPEN:
            # The library accepts a frame even while the socket breaks.
            raise _broken()

    async def probe(self) -> None:
        """Return when the peer's pong shows that it has read everything sent before. Raises NotConnected.

        No deadline: keepalive and the session's silence timeout end a connection without pongs.
        """
        try:
            await (await self._connection.ping())
        except ConnectionClosed as exc:
            raise _broken() from exc
        except Exception as exc:  # a fault inside the library ends this connection, not the agent
            self._fault(exc)
            raise _broken() from exc

    async def close(self, code: int, reason: str) -> tuple[int, str]:
        """Close fully (handshake and TCP), or abort the socket after the close timeout; return code and reason.

        Idempotent. When cancelled, it aborts the socket at once.
        """
        connection = self._connection
        try:
            async with asyncio.timeout(self._close_timeout):
                await connection.close(code, reason)
        except TimeoutError:
            _log.info("the peer did not close in time")
        except Exception as exc:  # noqa: BLE001 - a fault inside the library ends this connection, not the agent
            self._fault(exc)
        finally:
            self.abort()
        try:
            async with asyncio.timeout(self._close_timeout):  # one iteration of the loop: nothing is left to wait for
                await connection.wait_closed()
        except TimeoutError:
            _log.error("an aborted socket did not close")
        return connection.close_code or 1006, connection.close_reason or ""

    def abort(self) -> None:
        """Abort the TCP connection. Pending and later calls of `receive` and `send` raise. Idempotent."""
        try:
            self._connection.transport.abort()
        except Exception as exc:  # noqa: BLE001 - asyncio raises AttributeError when the transport is already closed
            _log.debug("socket is closed already", extra={"reason": f"{type(exc).__name__}: {exc}"})

    def _fault(self, exc: Exception) -> None:
        """Abort the connection after an error that the library does not document.

        Known case: `send` on a socket that the peer closed with 1009 during a large frame. The library aborts the
        transport, which asyncio has already closed, and AttributeError is raised.
        """
        _log.warning("websocket failed unexpectedly", extra={"reason": f"{type(exc).__name__}: {exc}"})
        self.abort()


def _broken() -> NotConnected:
    return NotConnected("cannot send to the control plane: the connection broke; it is dialled again")


async def dial(settings: ConnectionSettings, context: ssl.SSLContext | None) -> Socket | DialFailure:
    """Open a WebSocket, which the caller then owns, or return why that failed. Cancelling aborts the dial."""
    broken_by: list[Exception] = []

    class Recording(ClientConnection):
        """Records why the TCP connection broke: the library reports only that the answer was cut short."""

        def connection_lost(self, exc: Exception | None) -> None:
            if exc is not None:
                broken_by.append(exc)
            super().connection_lost(exc)

    timings = settings.timings
    tls: dict[str, Any] = {} if context is None else {"ssl": context}
    try:
        connection = await _Connect(
            settings.endpoint,
            additional_headers={"Authorization": f"Bearer {settings.token}", "X-Agent-Version": settings.version},
            compression=None,  # large payloads are already compressed
            proxy=None if settings.loopback else True,
            open_timeout=timings.open_timeout_secs,
            ping_interval=timings.ping_interval_secs,
            ping_timeout=timings.ping_timeout_secs,
            close_timeout=timings.close_timeout_secs,
            max_size=settings.max_frame_bytes,
            logger=_wire_log,
            create_connection=Recording,
            **tls,
        )
    except (OSError, WebSocketException, ValueError, ImportError) as exc:
        return _failure(exc, broken_by, settings)
    return Socket(
        connection, send_timeout_secs=timings.send_timeout_secs, close_timeout_secs=timings.close_timeout_secs
    )


def _failure(exc: Exception, broken_by: list[Exception], settings: ConnectionSettings) -> DialFailure:
    for error in (exc, *broken_by):
        if isinstance(error, ssl.SSLError):
            return _tls_failure(error)
    match exc:
        case InvalidStatus():
            response = exc.response
            detail = readable(response.reason_phrase or "")
            if "Location" in response.headers:
                detail = f"redirect to {readable(response.headers['Location'])}, not followed"
            return DialFailure(
                kind=FailureKind.HTTP,
                code=response.status_code,
                detail=detail,
                retry_after_secs=_retry_after(response.headers),
            )
        case InvalidProxyStatus():
            return _proxy_failure(f"it answered HTTP {exc.response.status_code}")
        case ProxyError():
            return _proxy_failure("it does not speak HTTP")
        case InvalidProxy():
            return _proxy_failure(exc.msg)  # not str(exc): it contains the proxy's address, which may hold a password
        case ImportError():
            return _proxy_failure("SOCKS is not supported, an HTTP proxy is")
        case InvalidMessage():
            if not isinstance(exc.__cause__, EOFError):
                return _network("what answers is no HTTP server")
            return _network(_cut_short(broken_by[0] if broken_by else None, settings))
        case InvalidHandshake() | WebSocketException():
            return _network(f"what answers is no WebSocket server: {readable(str(exc))}")
        case TimeoutError():
            return _network(f"no answer within {settings.timings.open_timeout_secs:g} s")
        case socket.gaierror():
            return _network("its host name cannot be resolved")
        case ConnectionResetError() | ConnectionAbortedError():
            return _network(_cut_short(exc, settings))
        case OSError():
            return _network(readable((exc.strerror or str(exc)).lower()))
        case UnicodeError():
            return _network("its host name is not valid")
        case _:  # ValueError: the port is not a number
            return _proxy_failure("its address is not valid")


def _cut_short(cause: Exception | None, settings: ConnectionSettings) -> str:
    text = "the connection broke before it answered"
    if cause is not None and str(cause):
        text += f" ({readable(str(cause))})"
    if settings.secure:
        # A reset can overtake the server's alert that rejects the client certificate.
        text += "; if it asks for a client certificate, check tls.cert_path"
    return text


def _tls_failure(exc: ssl.SSLError) -> DialFailure:
    reason = exc.reason or ""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _tls(f"its certificate is not accepted: {exc.verify_message}; {_verification_hint(exc.verify_code)}")
    if reason.endswith(_CLIENT_CERTIFICATE_ALERTS):
        said = reason.partition("ALERT_")[2].lower().replace("_", " ")
        return _tls(f"{CLIENT_CERTIFICATE_REFUSED} ({said}); check tls.cert_path")
    if reason in _NO_TLS_THERE:
        return _tls("what answers there does not speak TLS; check the endpoint")
    if "ALERT" in reason or "PROTOCOL" in reason:
        return _tls(reason.lower().replace("_", " "))
    return _network(f"TLS broke off: {reason.lower().replace('_', ' ') or readable(str(exc))}")


def _verification_hint(code: int) -> str:
    if code == _VERIFY_NOT_YET_VALID:
        return "check this machine's clock"
    if code == _VERIFY_EXPIRED:
        return "the control plane needs a new certificate, or this machine's clock is wrong"
    if code in _VERIFY_WRONG_NAME:
        return "check the endpoint"
    return "set tls.ca_path if it has an authority of its own"


def _retry_after(headers: Headers) -> float | None:
    """Seconds of a Retry-After header in either form (RFC 9110 §10.2.3)."""
    value = next(iter(headers.get_all("Retry-After")), "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    from email.utils import parsedate_to_datetime  # imported only when needed

    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _tls(detail: str) -> DialFailure:
    return DialFailure(kind=FailureKind.TLS, detail=detail)


def _network(detail: str) -> DialFailure:
    return DialFailure(kind=FailureKind.NETWORK, detail=detail)


def _proxy_failure(detail: str) -> DialFailure:
    return DialFailure(kind=FailureKind.PROXY, detail=detail)


def _ending(exc: ConnectionClosed) -> tuple[int, str]:
    """Close code and reason of the side that closed first; 1006 when neither did."""
    first = exc.sent if exc.rcvd is None or exc.rcvd_then_sent is False else exc.rcvd
    if first is not None:
        return first.code, first.reason
    cause = exc.__cause__
    return 1006, f"the connection broke: {cause}" if cause is not None and str(cause) else "the connection broke"
