"""Probes a service: one HTTP request, one TCP connection, or one command, each with one deadline.

A failed probe is a result, not an error: every function returns a ProbeResult that explains what happened. Only
cancellation propagates, and it leaves no connection open. Addresses are IP literals from the runtime: no name is
resolved, and link-local addresses (cloud metadata) are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from syntra import __version__
from syntra.health.checks import Check, ExecCheck, HttpCheck, Scheme, TcpCheck
from syntra.health.http_response import HttpResponse, MalformedResponse
from syntra.health.result import ProbeResult
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

__all__ = ["ExecCapability", "ExecOutcome", "ProbeResult", "probe", "probe_exec", "probe_http", "probe_tcp"]

_USER_AGENT = f"syntra-agent-health/{__version__}"
_READ = 16 * 1024
# After a good status the probe also reads the body, so that the service sees no reset; but for no longer than this.
_DRAIN_SECS = 0.25
_EXEC_OUTPUT = 2048
_EXIT_WORDS = {126: " (the command cannot be executed)", 127: " (the command was not found)", 137: " (killed)"}


@frozen
class ExecOutcome:
    """The result of a command."""

    exit_code: int
    output: bytes
    """The start of stdout and stderr combined."""


class ExecCapability(Protocol):
    """Runs a command inside the probed container. The implementation owns the process."""

    async def run(self, argv: Sequence[str], *, timeout_secs: float, output_limit: int) -> ExecOutcome:
        """Run `argv` without a shell; keep at most `output_limit` bytes of output.

        Raises TimeoutError after `timeout_secs`, AgentError when the command cannot run. It kills the process on
        timeout and on cancellation: an engine does not do that when the connection closes.
        """
        ...


class Prober(Protocol):
    """`probe`, or a prober that probes from elsewhere, such as another network namespace."""

    async def __call__(
        self, address: str, check: Check, timeout_secs: float, executor: ExecCapability | None = None
    ) -> ProbeResult: ...


async def probe(address: str, check: Check, timeout_secs: float, executor: ExecCapability | None = None) -> ProbeResult:
    """Run `check` against `address`; an ExecCheck needs `executor`."""
    match check:
        case HttpCheck():
            return await probe_http(address, check, timeout_secs)
        case TcpCheck():
            return await probe_tcp(address, check, timeout_secs)
        case ExecCheck():
            if executor is None:
                return ProbeResult(ok=False, detail="no way to run commands in this runtime", duration_secs=0.0)
            return await probe_exec(executor, check, timeout_secs)


async def probe_http(address: str, check: HttpCheck, timeout_secs: float) -> ProbeResult:
    """GET the check's path at `address`: 2xx and 3xx are healthy; redirects are not followed.

    `timeout_secs` covers connecting, sending and the response head. A slow body does not fail the probe. At most 64 KiB
    of the body are read; the detail of a failure contains its first lines.
    """
    began = _now()
    place = _place(address, check.port)
    response = HttpResponse()
    phase = "cannot connect to"
    failure = _refusal(address)
    try:
        if not failure:
            async with asyncio.timeout_at(began + timeout_secs), _connection(address, check) as peer:
                phase = "no response from"
                await peer.send(_request(place, check))
                while response.status is None:
                    _feed(response, await peer.read())
                answered = _now()
                await _read_body(peer, response, None if response.status >= 400 else _DRAIN_SECS)
    except (OSError, MalformedResponse) as exc:  # TimeoutError is an OSError
        failure = _describe(exc, place, phase, timeout_secs)
    if response.status is None:
        return ProbeResult(ok=False, detail=failure, duration_secs=_now() - began)
    ok = 200 <= response.status < 400
    detail = f"HTTP {response.status} from {check.scheme.value}://{place}{check.path[:120]}"
    if not ok and response.excerpt.strip():
        detail += f": {response.excerpt.strip()}"
    return ProbeResult(ok=ok, detail=detail, status_code=response.status, duration_secs=answered - began)


async def probe_tcp(address: str, check: TcpCheck, timeout_secs: float) -> ProbeResult:
    """Connect to the check's port at `address` and close again."""
    began = _now()
    place = _place(address, check.port)
    failure = _refusal(address)
    try:
        if not failure:
            async with asyncio.timeout_at(began + timeout_secs), _connection(address, check):
                pass
    except OSError as exc:
        failure = _describe(exc, place, "cannot connect to", timeout_secs)
    return ProbeResult(ok=not failure, detail=failure or f"connected to {place}", duration_secs=_now() - began)


async def probe_exec(executor: ExecCapability, check: ExecCheck, timeout_secs: float) -> ProbeResult:
    """Run the check's command with `executor`; the detail of a failure contains its output."""
    began = _now()
    try:
        # The executor has its own deadline and cleans up; this one is for an executor that hangs.
        async with asyncio.timeout_at(began + timeout_secs + 1.0):
            outcome = await executor.run(check.argv, timeout_secs=timeout_secs, output_limit=_EXEC_OUTPUT)
    except TimeoutError:
        detail = f"the command did not end within {timeout_secs:g} s"
        return ProbeResult(ok=False, detail=detail, duration_secs=_now() - began)
    except (AgentError, OSError) as exc:
        return ProbeResult(ok=False, detail=f"the command could not run: {exc}", duration_secs=_now() - began)
    detail = f"exit code {outcome.exit_code}"
    if outcome.exit_code != 0:
        detail += _EXIT_WORDS.get(outcome.exit_code, "")
        output = outcome.output[:_EXEC_OUTPUT].decode(errors="replace").strip()
        detail += f": {output}" if output else ""
    return ProbeResult(ok=outcome.exit_code == 0, detail=detail, duration_secs=_now() - began)


class _Peer(Protocol):
    """A connection to a service."""

    async def send(self, data: bytes) -> None: ...

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        ...


class _Plain:
    """Without TLS: the socket itself. A reader and a writer of asyncio cost a third more CPU time for each probe."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def read(self) -> bytes:
        return await self._loop.sock_recv(self._sock, _READ)


class _Secure:
    """With TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read(self) -> bytes:
        return await self._reader.read(_READ)


@contextlib.asynccontextmanager
async def _connection(address: str, check: HttpCheck | TcpCheck) -> AsyncIterator[_Peer]:
    """Connect; in the end the connection is closed at once, whatever the peer does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, check.port))
        if sock.getsockname() == sock.getpeername():
            # On loopback the kernel may choose the probed port as source port, and connect the socket to itself.
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if not isinstance(check, HttpCheck) or check.scheme is Scheme.HTTP:
            yield _Plain(sock)
            return
        # The limit bounds the read buffer: a quarter of the body that is read.
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=_unverified_tls(), server_hostname="", limit=_READ
        )
        try:
            yield _Secure(reader, writer)
        finally:
            # Abort instead of closing: a peer that neither reads nor closes must not delay the probe.
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_body(peer: _Peer, response: HttpResponse, limit_secs: float | None) -> None:
    with contextlib.suppress(OSError):  # TimeoutError or a reset: the status is already known
        async with asyncio.timeout(limit_secs):
            while not response.finished:
                _feed(response, await peer.read())


def _feed(response: HttpResponse, data: bytes) -> None:
    if data:
        response.feed(data)
    else:
        response.close()


def _request(place: str, check: HttpCheck) -> bytes:
    headers = {"host": ("Host", place), "user-agent": ("User-Agent", _USER_AGENT), "accept": ("Accept", "*/*")}
    for name, _ in check.headers:
        headers.pop(name.lower(), None)
    lines = [f"GET {check.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in (*headers.values(), *check.headers, ("Connection", "close"))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _refusal(address: str) -> str:
    """Why `address` must not be probed; "" when it may."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"cannot probe {address[:64]!r}: it is not an IP address; the container may have no network"
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    if mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
        return f"cannot probe {address}: link-local, multicast and unspecified addresses are not allowed"
    return ""


def _describe(exc: OSError | MalformedResponse, place: str, phase: str, timeout_secs: float) -> str:
    match exc:
        case MalformedResponse():
            return f"{exc} ({place})"
        case ConnectionRefusedError():
            return f"connection refused at {place}"
        case ConnectionResetError() | BrokenPipeError():
            return f"connection reset by {place} before it answered"
        case TimeoutError() if exc.errno is None:
            return f"{phase} {place} within {timeout_secs:g} s"
        case ssl.SSLError():
            return f"TLS failed with {place}: {exc.reason or 'the peer does not speak TLS'}"
    return f"cannot reach {place}: {(os.strerror(exc.errno) if exc.errno else str(exc)).lower()}"


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _now() -> float:
    return asyncio.get_running_loop().time()
