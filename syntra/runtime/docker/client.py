"""The Engine API client: requests, streams and hijacked connections to one endpoint, with a negotiated version.

There are four kinds of calls, with different connections and deadlines:

- `request`: short; one total deadline; uses a small pool of idle connections.
- `stream`: a body that arrives over time (logs, events, pull, wait); a deadline for the head, then one per read.
- `upload`: a request whose own body is sent over time (an archive); no deadline once the head is sent.
- `hijack`: the connection becomes a raw two-way stream (exec, attach).

Every path has the API version as prefix, because the engine answers unversioned paths with its newest version. The
client learns the version from `HEAD /_ping`, and again after a lost connection or a refused version: the engine may
have been replaced.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import field
from types import TracebackType
from typing import Self

import syntra
from syntra.runtime.docker.connection import EngineConnection
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import (
    DockerError,
    EngineError,
    EngineProtocolError,
    EngineTimeout,
    EngineUnreachable,
    EngineUnsupported,
    engine_error,
)
from syntra.runtime.docker.paths import Query, encode_query
from syntra.runtime.docker.pool import ConnectionPool
from syntra.runtime.docker.product import Product, product_of
from syntra.runtime.docker.streams import EngineStream, HijackedStream
from syntra.runtime.docker.uploads import EngineUpload
from syntra.runtime.docker.versions import OLDEST, agree, dotted, is_refusal, parse_version
from syntra.utils.frozen import frozen
from syntra.utils.http1 import Head, encode_request

DEADLINE_SECS = 30.0
"""Default deadline of a short call. The engine usually answers in milliseconds, unless its disk is very busy."""
MAX_BODY_BYTES = 32 * 1024 * 1024
"""Limit for the body of a short call; a list of thousands of containers takes a few MiB."""
MAX_ERROR_BYTES = 64 * 1024

_IDEMPOTENT = ("GET", "HEAD")


@frozen
class Response:
    """A complete response with a status below 400."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    what: str = "the response"

    def json(self) -> object:
        """The decoded body; raises EngineProtocolError when it is not JSON."""
        try:
            value: object = json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise EngineProtocolError(self.what, "the body is not JSON") from exc
        return value


@frozen
class _Call:
    method: str
    path: str
    query: Query | None
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)

    @property
    def what(self) -> str:
        return f"{self.method} {self.path}"


class EngineClient:
    """Use as `async with EngineClient(endpoint) as client`; it connects at the first call.

    `pool_size` limits the idle connections, not the concurrent calls. Cancelling a call closes its connection; whether
    the engine performed the call is then unknown.
    """

    def __init__(self, endpoint: Endpoint, *, pool_size: int = 4) -> None:
        self.endpoint = endpoint
        self._pool = ConnectionPool(endpoint, size=pool_size)
        self._version: tuple[int, int] | None = None
        self._engine_version: tuple[int, int] | None = None
        self._product: Product | None = None
        self._doubted = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    @property
    def api_version(self) -> tuple[int, int]:
        """The version of the last call; raises DockerError before the first call or `negotiate`."""
        if self._version is None:
            raise DockerError("cannot tell the API version: none is negotiated; call the engine first")
        return self._version

    @property
    def engine_api_version(self) -> tuple[int, int]:
        """The newest version that the engine supports."""
        if self._engine_version is None:
            raise DockerError("cannot tell the engine's API version: it was not asked; call the engine first")
        return self._engine_version

    @property
    def last_product(self) -> Product:
        """What answered last; Docker before the first answer."""
        return self._product or Product.DOCKER

    async def product(self) -> Product:
        """What answers, as it said when the version was negotiated. Asks the engine if that was not yet."""
        if self._product is None:
            async with _deadline("HEAD /_ping", DEADLINE_SECS):
                connection, _ = await self._pool.acquire(own=True)
                try:
                    await self._negotiate_on(connection)
                except BaseException:
                    connection.abort()
                    raise
            self._pool.release(connection)
        return self.last_product

    async def negotiate(self, *, deadline: float = DEADLINE_SECS) -> tuple[int, int]:
        """Ask the engine for its version, even if it is known. Also serves as a liveness check."""
        self._doubted = True
        await self.request("GET", "/_ping", deadline=deadline)
        return self.api_version

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        deadline: float = DEADLINE_SECS,
    ) -> Response:
        """Make a short call. `body` is sent as JSON, or unchanged if it is bytes.

        Raises EngineError for a status of 400 or above, EngineTimeout when the call takes longer than `deadline`
        seconds, EngineUnreachable when no response arrived. Only GET and HEAD are retried, once, and only when a pooled
        connection turned out to be closed.
        """
        call = _call(method, path, query, body, headers)
        try:
            async with _deadline(call.what, deadline):
                connection, head = await self._open(call, own=False)
                payload = await self._finish(connection, MAX_BODY_BYTES, call.what)
        except EngineUnreachable:
            self._doubted = True
            raise
        return Response(status=head.status, headers=head.headers, body=payload, what=call.what)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        connect_deadline: float = DEADLINE_SECS,
        idle_deadline: float | None = None,
    ) -> AsyncIterator[EngineStream]:
        """Make a call whose body arrives over time, on its own connection, which is closed when the block ends.

        `connect_deadline` covers the time until the response head; `idle_deadline` limits each read, None does not.
        Iteration raises StreamBroken when the connection drops: it ends normally only after a complete body.
        """
        call = _call(method, path, query, body, headers)
        async with _deadline(call.what, connect_deadline):
            connection, head = await self._open(call, own=True)
        try:
            yield EngineStream(connection, head, idle_deadline)
        finally:
            await connection.close()

    @asynccontextmanager
    async def hijack(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        connect_deadline: float = DEADLINE_SECS,
    ) -> AsyncIterator[HijackedStream]:
        """Make a call that turns its connection into a raw two-way stream, which is closed when the block ends.

        Closing does not end the process on the other side.
        """
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp", **(headers or {})}
        call = _call(method, path, query, {} if body is None else body, upgrade)
        async with _deadline(call.what, connect_deadline):
            connection, _ = await self._open(call, own=True)
        try:
            stream = HijackedStream(connection, await connection.leave_transport())
        except BaseException:
            connection.abort()
            raise
        try:
            yield stream
        finally:
            await stream.close()

    @asynccontextmanager
    async def upload(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        connect_deadline: float = DEADLINE_SECS,
        idle_deadline: float,
    ) -> AsyncIterator[EngineUpload]:
        """Make a call whose own body is sent over time, on its own connection, which is closed when the block ends.

        `idle_deadline`: seconds that the engine may take nothing of the body, or give no response after its end.

        Leaving the block before the response ends the call on the engine, too, in the middle of the body.
        """
        await self.product()  # also negotiates the version
        call = _call(method, path, query, None, headers)
        async with _deadline(call.what, connect_deadline):
            connection, _ = await self._pool.acquire(own=True)
        try:
            connection.begin(self._encode(call, self._version, chunked=True), method=method, what=call.what)
            upload = EngineUpload(
                connection,
                lambda head, body: _error(body, head, call),
                what=call.what,
                idle_deadline=idle_deadline,
            )
            async with upload.open():
                yield upload
        finally:
            await connection.close()

    async def _open(self, call: _Call, *, own: bool) -> tuple[EngineConnection, Head]:
        """Send the call and read its head. Renegotiates once, and replaces a stale pooled connection once."""
        refusals = 0
        while True:
            connection, pooled = await self._pool.acquire(own=own)
            self._doubted = self._pool.met_closed() or self._doubted
            sent = False
            try:
                if self._doubted or self._version is None:
                    await self._negotiate_on(connection)
                    if not connection.reusable:  # a proxy in between closes after every answer
                        await connection.close()
                        own = True
                        continue
                sent = True
                encoded = self._encode(call, self._version)
                head = await connection.request(encoded, method=call.method, what=call.what)
                if head.status < 300 or head.status in (101, 304):
                    return connection, head
                error = await self._read_error(connection, head, call)
            except EngineUnreachable as exc:
                stale = pooled and not connection.response_started
                await connection.close()
                self._doubted = True
                if stale and (not sent or call.method in _IDEMPOTENT):
                    own = True  # use a new connection: the others in the pool are as old
                    continue
                exc.sent = exc.sent and sent  # a lost ping has no side effects
                raise
            except BaseException:
                connection.abort()
                raise
            if not is_refusal(error):
                raise error
            if refusals:
                raise _unsupported(error, self.endpoint)
            refusals += 1
            self._doubted = True

    async def _negotiate_on(self, connection: EngineConnection) -> None:
        ping = _call("HEAD", "/_ping", None, None, None)
        head = await connection.request(self._encode(ping, None), method="HEAD", what=ping.what)
        await connection.read_body()
        engine = parse_version(head.headers.get("api-version", ""))
        if engine is None:
            raise EngineProtocolError(ping.what, f"status {head.status} without an API version")
        version = agree(engine)
        if version is None:
            raise EngineUnsupported(
                f"cannot use the engine at {self.endpoint.address}: its API {dotted(engine)} is older than "
                f"{dotted(OLDEST)}; upgrade to Docker 20.10 or later"
            )
        self._engine_version = engine
        self._product = product_of(head.headers)
        self._version = version
        self._doubted = False

    def _encode(self, call: _Call, version: tuple[int, int] | None, *, chunked: bool = False) -> bytes:
        prefix = f"/v{dotted(version)}" if version is not None else ""
        headers = {
            "Host": self.endpoint.authority,
            "User-Agent": f"syntra-agent/{syntra.__version__}",
            "Accept": "application/json",
            **call.headers,
        }
        target = prefix + call.path + encode_query(call.query)
        return encode_request(call.method, target, headers, call.body, chunked=chunked)

    async def _read_error(self, connection: EngineConnection, head: Head, call: _Call) -> EngineError:
        return _error(await self._finish(connection, MAX_ERROR_BYTES, call.what), head, call)

    async def _finish(self, connection: EngineConnection, limit: int, what: str) -> bytes:
        """Read the rest of the body, then return the connection to the pool; on any failure close it."""
        body = bytearray()
        try:
            while chunk := await connection.read_body():
                body += chunk
                if len(body) > limit:
                    raise EngineProtocolError(what, f"the body is longer than {limit} bytes")
        except BaseException:
            connection.abort()
            raise
        self._pool.release(connection)
        return bytes(body)


def _call(method: str, path: str, query: Query | None, body: object, headers: Mapping[str, str] | None) -> _Call:
    headers = dict(headers or {})
    encoded: bytes | None = None
    if isinstance(body, bytes):
        encoded = body
    elif body is not None:
        encoded = json.dumps(body, separators=(",", ":")).encode()
        headers.setdefault("Content-Type", "application/json")
    elif method in ("POST", "PUT"):
        encoded = b""
    return _Call(method=method, path=path, query=query, headers=headers, body=encoded)


def _error(body: bytes, head: Head, call: _Call) -> EngineError:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = body.decode("utf-8", "replace") or head.headers.get("location", "")
    return engine_error(head.status, message, method=call.method, path=call.path)


def _unsupported(error: EngineError, endpoint: Endpoint) -> EngineUnsupported:
    return EngineUnsupported(f"cannot use the engine at {endpoint.address}: {error.message}; upgrade the older of both")


@asynccontextmanager
async def _deadline(what: str, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise EngineTimeout(what, seconds) from exc
