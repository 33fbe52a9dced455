"""Forwards other names to the upstreams in order, over the transport of the query.

Every query has a random id and its own connected socket, so also a random port: other senders' packets do not arrive.
Answers are checked against the question (RFC 5452 §9.1). An upstream that did not answer is tried last for a while, so
that one dead resolver does not add its timeout to every query.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable, Collection, Sequence

import dns.message
import dns.rcode

from syntra.networking.dns.answer import Answered, Query, Transport, answers, failed, relayed, upstream_query
from syntra.networking.dns.resolv_conf import HOST_FILE, host_upstreams
from syntra.networking.dns.stream import read_message, write_message
from syntra.networking.dns.upstream import Upstream

log = logging.getLogger(__name__)

MOST_UPSTREAMS = 3
_TRY_LAST_SECS = 30.0
_REREAD_SECS = 2.0
_FILE_BYTES = 65_536
# A connected socket receives only from its upstream. This limits the guesses of an attacker who forges its address.
_WRONG_ANSWERS = 16
# Another upstream may have an answer (SERVFAIL) or be willing (REFUSED); NXDOMAIN is an answer.
_TRY_NEXT = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED})


class HostUpstreams:
    """The resolvers in the host's file, read again when it changes. If it cannot be read, the last ones stay."""

    def __init__(self, path: str = HOST_FILE) -> None:
        self._path = path
        self._upstreams = host_upstreams("")
        self._state: tuple[int, int, int] | None = None
        self._looked = float("-inf")

    def __call__(self) -> Sequence[Upstream]:
        """The current resolvers; checks the file at most every two seconds. Call it inside a running loop."""
        now = asyncio.get_running_loop().time()
        if now - self._looked >= _REREAD_SECS:
            self._looked = now
            try:
                self._read()
            except OSError as exc:
                log.warning("the host's resolvers cannot be read", extra={"path": self._path, "reason": exc.strerror})
        return self._upstreams

    def _read(self) -> None:
        found = os.stat(self._path)
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if state != self._state:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                self._upstreams = host_upstreams(file.read(_FILE_BYTES))
            self._state = state


class Forwarder:
    """Queries upstreams. Holds no sockets between queries; the caller limits the number of concurrent queries."""

    def __init__(
        self, upstreams: Callable[[], Sequence[Upstream]], *, rng: random.Random, timeout_secs: float = 3.0
    ) -> None:
        """`upstreams` is called for every query. `rng` chooses ids: pass random.SystemRandom()."""
        self._upstreams = upstreams
        self._rng = rng
        self._timeout = timeout_secs
        # Upstreams that did not answer, and until when they are tried last.
        self._try_last_until: dict[Upstream, float] = {}

    async def resolve(self, query: Query, *, skip: Collection[Upstream] = ()) -> Answered:
        """The answer of the first upstream that gives one; SERVFAIL when none does.

        Tries up to three upstreams, each for the timeout, but never one in `skip` (the server's own addresses, which
        the host's resolv.conf may name). Safe to cancel.
        """
        last = failed(query)
        for upstream in self._in_order(skip):
            asked = upstream_query(query, self._rng.getrandbits(16))
            ask = _ask_udp if query.transport is Transport.UDP else _ask_tcp
            try:
                async with asyncio.timeout(self._timeout):
                    wire, rcode = await ask(upstream, asked, self._timeout)
            except OSError as exc:  # TimeoutError is one
                self._try_last(upstream, exc)
                continue
            self._try_last_until.pop(upstream, None)
            last = relayed(query, wire)
            if rcode not in _TRY_NEXT:
                break
        return last

    def _in_order(self, skip: Collection[Upstream]) -> list[Upstream]:
        now = asyncio.get_running_loop().time()
        self._try_last_until = {upstream: until for upstream, until in self._try_last_until.items() if until > now}
        usable = [upstream for upstream in self._upstreams() if upstream not in skip]
        return sorted(usable, key=lambda upstream: upstream in self._try_last_until)[:MOST_UPSTREAMS]

    def _try_last(self, upstream: Upstream, exc: OSError) -> None:
        if upstream not in self._try_last_until:
            log.info("upstream does not answer", extra={"upstream": str(upstream), "reason": _describe(exc)})
        self._try_last_until[upstream] = asyncio.get_running_loop().time() + _TRY_LAST_SECS


async def _ask_udp(
    upstream: Upstream, asked: dns.message.QueryMessage, timeout_secs: float
) -> tuple[bytes, dns.rcode.Rcode]:
    loop = asyncio.get_running_loop()
    transport, waiting = await loop.create_datagram_endpoint(
        lambda: _Waiting(asked, loop.create_future()), remote_addr=(upstream.address, upstream.port)
    )
    try:
        transport.sendto(asked.to_wire())
        return await waiting.answer
    finally:
        transport.abort()


async def _ask_tcp(
    upstream: Upstream, asked: dns.message.QueryMessage, timeout_secs: float
) -> tuple[bytes, dns.rcode.Rcode]:
    reader, writer = await asyncio.open_connection(upstream.address, upstream.port)
    try:
        await write_message(writer, asked.to_wire(), message_secs=timeout_secs)
        wire = await read_message(reader, idle_secs=timeout_secs, message_secs=timeout_secs, limit=65_535)
    finally:
        # Abort instead of closing: an upstream that does not close must not delay the query.
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if wire is None or (rcode := answers(asked, wire)) is None:
        raise ConnectionAbortedError("closed without an answer to the question")
    return wire, rcode


class _Waiting(asyncio.DatagramProtocol):
    """The socket of one query: ends with the first valid answer, or with the kernel's error that the port is closed."""

    def __init__(self, asked: dns.message.QueryMessage, answer: asyncio.Future[tuple[bytes, dns.rcode.Rcode]]) -> None:
        self.answer = answer
        self._asked = asked
        self._wrong = 0

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.answer.done():
            return
        rcode = answers(self._asked, data)
        if rcode is not None:
            self.answer.set_result((data, rcode))
            return
        self._wrong += 1
        if self._wrong >= _WRONG_ANSWERS:
            self.error_received(ConnectionAbortedError("too many answers to other questions"))

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        # None after our own abort: no task awaits the future then, and the loop would report an unretrieved exception.
        if exc is not None:
            self.error_received(exc)


def _describe(exc: OSError) -> str:
    return "timeout" if isinstance(exc, TimeoutError) and not exc.errno else (exc.strerror or str(exc)).lower()
