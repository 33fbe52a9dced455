"""Scrapes one target on its interval; every failure is `up 0`, a reason for `status`, and the end of its series."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

from syntra.model.fields import Json
from syntra.telemetry.collect.prometheus.answer import Answer, BadAnswer
from syntra.telemetry.collect.prometheus.connection import Connection, Stale
from syntra.telemetry.collect.prometheus.exposition import Limits
from syntra.telemetry.collect.prometheus.lines import BadExposition
from syntra.telemetry.collect.prometheus.own_series import OWN_POINTS, OwnSeries
from syntra.telemetry.collect.prometheus.pages import Pages, Scraped
from syntra.telemetry.collect.prometheus.target import (
    Target,
    address_of,
    is_open_metrics,
    is_protobuf,
    name_filter,
    offset_secs,
    request_of,
)
from syntra.telemetry.intake import Overloaded
from syntra.telemetry.signals import Record, Signal
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

_THREAD_BYTES = 256 * 1024
"""Larger pages are read in a thread, so that the loop serves others meanwhile."""
_FIRST_BYTES = 64 * 1024
_HEADERS_FILE_MAX = 8 * 1024


class Sink(Protocol):
    """Takes what was scraped; see `process.pipeline`."""

    def reserve(self, size: int) -> AbstractContextManager[None]:
        """See `Intake.reserve`."""
        ...

    async def collected(self, records: Sequence[Record], resource: bytes) -> None:
        """Keep records of this encoded resource. Raises Overloaded, and another AgentError when nothing can be kept."""
        ...


@frozen
class Surroundings:
    """What all scrapers share. `now_ns` is wall-clock time, `parse_headers` reads the content of a headers file."""

    sink: Sink
    limits: Limits
    max_body_bytes: int
    agent: str
    """The User-Agent header."""
    clock: Callable[[], float]
    now_ns: Callable[[], int]
    parse_headers: Callable[[str], tuple[tuple[str, str], ...]]


class Scraper:
    """One target; `run` it until it is cancelled, then `end` it."""

    def __init__(self, target: Target, around: Surroundings) -> None:
        self.target = target
        self._around = around
        self._address, _ = address_of(target.url)
        self._pages = Pages(target.attributes, name_filter(target.metric_names), around.limits)
        self._own = OwnSeries()
        self._connection: Connection | None = None
        self._request = b""
        self._body_bytes = 0
        self._problem = "it has not been scraped yet"
        self._last_at: float | None = None
        self._secs = 0.0
        self._samples = self._kept = 0
        self._scrapes = self._failures = self._lost = 0

    async def run(self) -> None:
        """Scrape when it is due, until cancelled. A scrape that takes too long makes no other late."""
        loop = asyncio.get_running_loop()
        interval, offset = self.target.interval_secs, offset_secs(self.target)
        try:
            while True:
                now = loop.time()
                await asyncio.sleep((offset - now) % interval or interval)
                await self.scrape()
        finally:
            self._disconnect()

    async def scrape(self) -> None:
        """Scrape once, and keep the outcome."""
        around = self._around
        time_ns, began = around.now_ns(), around.clock()
        page = Scraped(data=(), points=0, samples=0, kept=0, stale=(b"", 0))
        try:
            page = await self._scraped(time_ns)
            problem = ""
        except (BadAnswer, BadExposition, Overloaded, AgentError, OSError) as failed:
            problem = self._reason(failed)
        except Exception:  # a bug in reading one page must not end the scrapes of all targets
            log.exception("cannot scrape a target", extra={"target": self.target.url})
            problem = "the agent failed to read the page; its log has the reason"
        self._secs = around.clock() - began
        self._last_at = around.clock()
        self._scrapes += 1
        if problem:
            self._failures += 1
            self._disconnect()
            page = Scraped(data=(), points=0, samples=0, kept=0, stale=self._pages.end(time_ns))
        if problem != self._problem:
            level = logging.WARNING if problem else logging.INFO
            log.log(level, "scrape target", extra={"target": self.target.url, "problem": problem or None})
        self._problem, self._samples, self._kept = problem, page.samples, page.kept
        await self._keep(page, is_up=not problem, time_ns=time_ns)

    async def end(self) -> None:
        """The target is gone: end its series."""
        data, points = self._pages.end(self._around.now_ns())
        if points:
            await self._send([Record(signal=Signal.METRICS, items=points, data=data)])

    def view(self) -> dict[str, Json]:
        """The row of `telemetry status`."""
        last = self._last_at
        return {
            "url": self.target.url,
            "service": self.target.name,
            "problem": self._problem,
            "last_scrape_seconds": round(self._around.clock() - last, 3) if last is not None else None,
            "duration_seconds": round(self._secs, 6),
            "samples": self._samples,
            "kept": self._kept,
            "scrapes": self._scrapes,
            "failures": self._failures,
            "lost": self._lost,
        }

    async def _keep(self, page: Scraped, *, is_up: bool, time_ns: int) -> None:
        own = self._own.encode(
            self._pages.resource, up=is_up, secs=self._secs, samples=page.samples, kept=page.kept, time_ns=time_ns
        )
        stale, stale_points = page.stale
        first, *more = [*page.data, (b"", 0)]
        records = [
            Record(signal=Signal.METRICS, items=first[1] + stale_points + OWN_POINTS, data=first[0] + stale + own)
        ]
        records += [Record(signal=Signal.METRICS, items=points, data=data) for data, points in more if points]
        await self._send(records)

    async def _send(self, records: list[Record]) -> None:
        try:
            await self._around.sink.collected(records, self._pages.resource)
        except (Overloaded, AgentError) as refused:
            self._lost += sum(record.items for record in records)
            log.warning("scraped metrics are lost", extra={"target": self.target.url, "reason": str(refused)})

    async def _scraped(self, time_ns: int) -> Scraped:
        around = self._around
        with around.sink.reserve(max(_FIRST_BYTES, 2 * self._body_bytes)):
            async with asyncio.timeout(self.target.timeout_secs):
                answer = await self._fetch()
            if answer.status != 200:
                raise BadAnswer(f"it answers with HTTP status {answer.status}")
            body = answer.body()
            self._body_bytes = len(body)
            read = partial(self._read, body, answer.headers.get("content-type", ""), time_ns)
            return await asyncio.to_thread(read) if len(body) > _THREAD_BYTES else read()

    def _read(self, body: bytes, content_type: str, time_ns: int) -> Scraped:
        if is_protobuf(content_type):
            return self._pages.read_protobuf(body, time_ns=time_ns)
        return self._pages.read(body, is_open=is_open_metrics(content_type), time_ns=time_ns)

    async def _fetch(self) -> Answer:
        connection = self._connection
        if connection is not None and connection.is_open:
            try:
                return await connection.get(self._request, self._around.max_body_bytes)
            except Stale:
                # It was closed while it was idle; GET is safe to send again (RFC 9110 section 9.2.2).
                self._disconnect()
        target = self.target
        headers = await asyncio.to_thread(self._headers) if target.headers_file else ()
        tls = await asyncio.to_thread(_context, target) if self._address.is_tls else None
        self._request = request_of(target, headers, self._around.agent)
        connection = self._connection = await Connection.open(self._address, tls)
        return await connection.get(self._request, self._around.max_body_bytes)

    def _headers(self) -> tuple[tuple[str, str], ...]:
        path = Path(self.target.headers_file)
        with path.open("rb") as file:
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                raise AgentError(f"{path} may be read or written by others (mode {mode:04o}); run chmod 600 {path}")
            text = file.read(_HEADERS_FILE_MAX)
        return self._around.parse_headers(text.decode("ascii", errors="replace").strip())

    def _reason(self, failed: Exception) -> str:
        if isinstance(failed, TimeoutError):
            return f"it did not answer within {self.target.timeout_secs:g} s"
        if isinstance(failed, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {failed.verify_message}"
        if isinstance(failed, Stale):
            return str(failed)
        if isinstance(failed, OSError):
            return f"it cannot be reached: {failed.strerror or failed}"
        return str(failed)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _context(target: Target) -> ssl.SSLContext:
    """A client's TLS settings, with the files as they are now. Raises OSError and AgentError."""
    files = target.tls
    context = ssl.create_default_context(cafile=files.ca_path or None)
    if files.cert_path:
        try:
            context.load_cert_chain(files.cert_path, files.key_path or None)
        except (OSError, ssl.SSLError) as failed:
            raise AgentError(f"cannot use its client certificate: {failed.strerror or failed}") from failed
    return context
