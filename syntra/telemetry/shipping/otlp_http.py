"""Exports to an OTLP/HTTP endpoint with protobuf bodies.

What answers mean (OTLP specification, "OTLP/HTTP Response"): 2xx is taken, with a partial success inside; 429, 502,
503 and 504 are sent again, after Retry-After if there is one; 413 is halved; every other status is refused for good. A
redirect is not followed: it would send credentials to another address. The batch is kept, since only a person can
change the endpoint.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime

import h11

from syntra.telemetry.shipping.answers import error_message, partial_success, reason_of, retry_after
from syntra.telemetry.shipping.bodies import Compression, body_of
from syntra.telemetry.shipping.destination import Batch, Sent, later, refused, taken
from syntra.telemetry.shipping.endpoint import SIGNALS, Endpoint
from syntra.telemetry.shipping.headers import redactor_of
from syntra.telemetry.shipping.http_connection import Answer, ConnectionEnded, HttpConnection
from syntra.telemetry.shipping.pacing import WINDOW_MAX
from syntra.telemetry.shipping.parts import SizeLimit, send_in_parts

RETRYABLE = frozenset({429, 502, 503, 504})


class OtlpHttpExporter:
    """A destination; up to eight connections, kept open. `tls` is needed for `https` alone."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        compression: Compression = Compression.ZSTD,
        headers: tuple[tuple[str, str], ...] = (),
        tls: ssl.SSLContext | None = None,
        timeout_secs: float = 10.0,
    ) -> None:
        self._endpoint = endpoint
        self._compression = compression
        self._tls = tls
        self._timeout = timeout_secs
        self._limit = SizeLimit()
        self._idle: list[HttpConnection] = []
        self._redactor = redactor_of(headers)
        standard = [
            ("host", endpoint.host_header),
            ("user-agent", "syntra-agent"),
            ("content-type", "application/x-protobuf"),
        ]
        if compression is not Compression.NONE:
            standard.append(("content-encoding", compression.value))
        self._headers = (*standard, *(pair for pair in headers if pair[0] != "user-agent"))

    @property
    def name(self) -> str:
        """The address."""
        return self._endpoint.url

    async def send(self, batch: Batch) -> Sent:
        """See Destination."""
        if batch.signal not in SIGNALS:
            return refused(batch, f"OTLP has no signal {batch.signal.value}")
        return await send_in_parts(batch, self._limit, self._send_part)

    async def aclose(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _send_part(self, part: Batch) -> Sent | None:
        body = await body_of(part, self._compression)
        size = len(body)
        headers = [*self._headers, ("content-length", str(size))]
        target = self._endpoint.path(part.signal)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._exchange(target, headers, body)
        except TimeoutError:
            return later(part, f"no answer within {self._timeout:g} s", wire_bytes=size)
        except (OSError, h11.ProtocolError) as exc:
            return later(part, self._clean(reason_of(exc)), wire_bytes=size)
        return self._judge(part, answer, size)

    async def _exchange(self, target: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_usable:
                continue
            try:
                return await self._post(connection, target, headers, body)
            except ConnectionEnded as exc:
                if not exc.is_stale:
                    raise
                # The peer has closed an idle connection while the request was on its way; the next is tried, at last a
                # new one.
        return await self._post(await HttpConnection.open(self._endpoint, self._tls), target, headers, body)

    async def _post(
        self, connection: HttpConnection, target: str, headers: list[tuple[str, str]], body: bytes
    ) -> Answer:
        answer = await connection.post(target, headers, body)
        if connection.is_usable and len(self._idle) < WINDOW_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _judge(self, part: Batch, answer: Answer, size: int) -> Sent | None:
        status = answer.status
        if 200 <= status < 300:
            rejected, message = partial_success(answer.body)
            return taken(part, rejected=rejected, reason=self._clean(message), wire_bytes=size)
        if status == 413:
            return None
        message, delay = error_message(answer.header(b"content-type") or "", answer.body)
        reason = f"HTTP {status}" + (f" ({self._clean(message)})" if message else "")
        if status in RETRYABLE:
            asked = retry_after(answer.header(b"retry-after"), datetime.now(UTC))
            return later(part, reason, after_secs=delay if asked is None else asked, wire_bytes=size)
        if 300 <= status < 400:
            reason = f"{reason}: redirects are not followed; set telemetry.export.endpoint to the address meant"
            return later(part, reason, wire_bytes=size)
        return refused(part, reason, wire_bytes=size)

    def _clean(self, text: str) -> str:
        """Peers and libraries may repeat a header in their text."""
        return self._redactor.clean(text)
