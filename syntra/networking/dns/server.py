"""The name server: binds addresses and answers the configured networks only, from the zone or from an upstream.

It answers from the zone at once, inside the socket's callback. Forwarding is a task; their number is limited in total
and per source. Datagrams beyond a limit, too large or from other networks are dropped without an answer: the engine's
resolver would accept an error answer instead of asking another server.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol, cast

from syntra.networking.dns import answer, sockets
from syntra.networking.dns.answer import Answered, Dropped, Query, ToUpstream, Transport
from syntra.networking.dns.connections import Connections
from syntra.networking.dns.errors import BindFailed
from syntra.networking.dns.forward import Forwarder
from syntra.networking.dns.given import USE_SECS, LastGiven
from syntra.networking.dns.limits import RateLimit, Shares
from syntra.networking.dns.settings import DnsSettings
from syntra.networking.dns.upstream import Upstream
from syntra.networking.dns.zone import Address, Zone, build

log = logging.getLogger(__name__)

# The transport buffers what the kernel does not take at once; UDP may lose packets, so the buffer is limited.
_SEND_BUFFER = 256 * 1024


class _Sender(Protocol):
    """The methods of the loop's datagram transports; the abstract class lacks some."""

    def is_closing(self) -> bool: ...

    def get_write_buffer_size(self) -> int: ...

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None: ...


class NameServer:
    """Answers on the addresses of `listen` until `close`. Its tasks run in the given group and never fail it."""

    def __init__(
        self, group: asyncio.TaskGroup, settings: DnsSettings, forwarder: Forwarder, *, rng: random.Random
    ) -> None:
        """`rng` orders records and need not be secure. Before the first `publish` no source gets an answer."""
        self._group = group
        self._settings = settings
        self._forwarder = forwarder
        self._rng = rng
        self._zone = build({}, None)
        self._rate: RateLimit[Address] = RateLimit(rate=settings.rate, burst=settings.burst, capacity=settings.sources)
        self._given: LastGiven[Address] = LastGiven(capacity=settings.given)
        self._forwards: Shares[Address] = Shares(total=settings.forwards, each=settings.forwards_per_source)
        self._connections = Connections(settings, self._admits, self._answer_stream)
        self._listeners: dict[Address, _Listener] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._binding = asyncio.Lock()
        self._counts: Counter[str] = Counter()

    @property
    def endpoints(self) -> Mapping[Address, int]:
        """Address to port of all bound sockets."""
        return {address: listener.port for address, listener in self._listeners.items()}

    @property
    def counts(self) -> Mapping[str, int]:
        """Counts since the start: answers by response code, `forwarded`, and drops as `dropped.REASON`."""
        return dict(self._counts)

    def last_given(self, addresses: Iterable[Address]) -> float | None:
        """When one of these was last in an answer, on the loop's clock; None when no remembered answer had one."""
        return self._given.last(addresses)

    def publish(self, zone: Zone) -> None:
        """Use `zone` from the next query on."""
        self._zone = zone

    async def listen(self, addresses: Iterable[Address]) -> tuple[BindFailed, ...]:
        """Listen on exactly these addresses: bind new or lost ones, close the others.

        Each address is bound for UDP and TCP or not at all. Returns the failures; call it again to retry.
        """
        wanted = dict.fromkeys(addresses)
        failures: list[BindFailed] = []
        async with self._binding:
            for address in [address for address in self._listeners if address not in wanted]:
                listener = self._listeners.pop(address)
                listener.close()
                await listener.closed()
            for address in wanted:
                if address not in self._listeners:
                    try:
                        await self._open(address)
                    except BindFailed as failure:
                        failures.append(failure)
        return tuple(failures)

    def close(self) -> None:
        """Close all sockets and cancel all tasks of this server."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        for task in self._tasks:
            task.cancel()

    async def _open(self, address: Address) -> None:
        bound = await asyncio.to_thread(sockets.bind, address, self._settings.port)
        try:
            transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self, address), sock=bound.udp
            )
        except BaseException:
            bound.close()
            raise
        name = f"dns tcp {address}"
        accepting = self._start(functools.partial(self._connections.accept, bound.tcp, self._start), name)
        accepting.add_done_callback(lambda _: bound.tcp.close())
        self._listeners[address] = _Listener(transport, protocol, accepting, bound.port)
        log.info("dns listens", extra={"address": str(address), "port": bound.port})

    def _start(self, work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
        task = self._group.create_task(self._guarded(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        try:
            await work()
        except Exception:  # the edge of a task: a bug in one answer must not end the agent
            log.exception("dns task failed", extra={"task": name})

    def _lost(self, address: Address, exc: Exception | None) -> None:
        listener = self._listeners.get(address)
        if exc is not None and listener is not None:
            log.error("dns socket failed", extra={"address": str(address), "reason": str(exc)})
            self._listeners.pop(address).close()

    def _admits(self, source: Address) -> bool:
        admitted = self._zone.project_of(source) is not None
        if not admitted:
            self._counts["dropped.source"] += 1
        return admitted

    def _decide(self, data: bytes, source: Address, transport: Transport) -> Answered | ToUpstream | Dropped:
        project = self._zone.project_of(source)
        if project is None:
            return self._drop("source")
        if not self._rate.allow(source, asyncio.get_running_loop().time()):
            return self._drop("rate")
        if len(data) > self._settings.query_bytes:
            return self._drop("size")
        done = answer.decide(data, self._zone, project, transport=transport, rng=self._rng)
        if isinstance(done, Dropped):
            return self._drop("malformed")
        if isinstance(done, ToUpstream) and not self._forwards.acquire(source):
            done = answer.failed(done.query)
        if isinstance(done, Answered):
            self._counts[done.rcode] += 1
            if done.addresses:
                self._given.note(done.addresses, asyncio.get_running_loop().time(), keep_secs=self._zone.ttl + USE_SECS)
        return done

    def _drop(self, reason: str) -> Dropped:
        self._counts[f"dropped.{reason}"] += 1
        return Dropped()

    async def _forward(self, query: Query, source: Address) -> bytes:
        """Query the upstreams; release the source's share afterwards."""
        try:
            own = [Upstream(address=str(address), port=port) for address, port in self.endpoints.items()]
            done = await self._forwarder.resolve(query, skip=own)
        finally:
            self._forwards.release(source)
        self._counts["forwarded"] += 1
        self._counts[done.rcode] += 1
        return done.wire

    async def _answer_stream(self, data: bytes, source: Address) -> bytes | None:
        match self._decide(data, source, Transport.TCP):
            case Answered(wire=wire):
                return wire
            case ToUpstream(query=query):
                return await self._forward(query, source)
        return None

    def _answer_datagram(self, data: bytes, peer: tuple[str, int], transport: _Sender) -> None:
        source = ipaddress.ip_address(peer[0].partition("%")[0])
        match self._decide(data, source, Transport.UDP):
            case Answered(wire=wire):
                self._send(wire, peer, transport)
            case ToUpstream(query=query):
                work = functools.partial(self._forward_datagram, query, source, peer, transport)
                self._start(work, "dns forward")

    async def _forward_datagram(self, query: Query, source: Address, peer: tuple[str, int], transport: _Sender) -> None:
        self._send(await self._forward(query, source), peer, transport)

    def _send(self, wire: bytes, peer: tuple[str, int], transport: _Sender) -> None:
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > _SEND_BUFFER:
            self._drop("send_buffer")
            return
        transport.sendto(wire, peer)


class _Listener:
    """The sockets of one address."""

    def __init__(
        self, transport: asyncio.DatagramTransport, protocol: _Datagrams, accepting: asyncio.Task[None], port: int
    ) -> None:
        self.port = port
        self._transport = transport
        self._protocol = protocol
        self._accepting = accepting

    def close(self) -> None:
        self._transport.abort()
        self._accepting.cancel()

    async def closed(self) -> None:
        """Return when the port is free again: the loop closes sockets one iteration later."""
        await self._protocol.closed.wait()
        await asyncio.wait({self._accepting})


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP socket of one address."""

    def __init__(self, server: NameServer, address: Address) -> None:
        self._server = server
        self._address = address
        self._transport: _Sender | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(_Sender, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None, "cannot happen before connection_made"
        try:
            self._server._answer_datagram(data, addr, self._transport)
        except Exception:  # the edge of the loop: no packet may stop the socket
            log.exception("dns query failed", extra={"source": addr[0]})

    def error_received(self, exc: Exception) -> None:
        # The kernel's error about an earlier datagram: its client is gone.
        log.debug("dns answer not delivered", extra={"reason": str(exc)})

    def connection_lost(self, exc: Exception | None) -> None:
        # The loop closes the socket right after this call, before any waiting task resumes.
        self.closed.set()
        self._server._lost(self._address, exc)
