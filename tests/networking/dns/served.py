"""A name server on loopback, and a resolver that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import dns.message
import dns.rrset

from syntra.networking.dns.forward import Forwarder
from syntra.networking.dns.server import NameServer
from syntra.networking.dns.settings import DnsSettings
from syntra.networking.dns.stream import read_message, write_message
from syntra.networking.dns.upstream import Upstream
from syntra.networking.dns.zone import Address, Network, Replica, Service, Zone, build

LOOPBACK: dict[Network, str] = {ipaddress.ip_network("127.0.0.0/8"): "shop", ipaddress.ip_network("::1"): "shop"}
ADDRESS = ipaddress.ip_address("127.0.0.72")


def loopback_zone(*services: Service, loaded: bool = True) -> Zone:
    """A zone that everything on loopback sees as project `shop`."""
    return build(LOOPBACK, services if loaded else None)


def web(*hosts: int) -> Service:
    """Service `web` with a replica at 127.1.0.HOST for each host."""
    replicas = tuple(Replica(label=str(host), addresses=(ipaddress.ip_address(f"127.1.0.{host}"),)) for host in hosts)
    return Service(project="shop", name="web", ports=(8080,), replicas=replicas)


@contextlib.asynccontextmanager
async def serving(
    zone: Zone | None,
    *,
    upstreams: Sequence[Upstream] = (),
    settings: DnsSettings | None = None,
    address: Address = ADDRESS,
    timeout_secs: float = 3.0,
) -> AsyncIterator[tuple[NameServer, int]]:
    """A server on a free port of `address`, and the port."""
    async with asyncio.TaskGroup() as group:
        forwarder = Forwarder(lambda: upstreams, rng=random.SystemRandom(), timeout_secs=timeout_secs)
        server = NameServer(group, settings or DnsSettings(port=0), forwarder, rng=random.Random(1))
        try:
            assert await server.listen([address]) == ()
            if zone is not None:
                server.publish(zone)
            yield server, server.endpoints[address]
        finally:
            server.close()


Reply = Callable[[dns.message.Message], Sequence[bytes]]
"""From what was asked to the datagrams sent back; over TCP the first is, and none closes."""


def with_record(asked: dns.message.Message, text: str = "192.0.2.7") -> dns.message.Message:
    """An answer to `asked` with one record."""
    reply = dns.message.make_response(asked, recursion_available=True)
    question = asked.question[0]
    reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", question.rdtype, text))
    return reply


@dataclass(kw_only=True)
class Resolver:
    """A tiny upstream; remembers what it was asked, and from where."""

    reply: Reply
    asked: list[tuple[str, dns.message.Message, int]] = field(default_factory=list)
    upstream: Upstream = field(default_factory=lambda: Upstream(address="127.0.0.1"))
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, transport: str, data: bytes, port: int) -> Sequence[bytes]:
        message = dns.message.from_wire(data)
        self.asked.append((transport, message, port))
        self.heard.set()
        return self.reply(message)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for wire in self._resolver.answer("udp", data, addr[1]):
            self._transport.sendto(wire, addr)  # type: ignore[attr-defined]  # BaseTransport says nothing of it


@contextlib.asynccontextmanager
async def resolving(reply: Reply, address: str = "127.0.0.1") -> AsyncIterator[Resolver]:
    """A resolver on UDP and TCP of a free port."""
    resolver = Resolver(reply=reply)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await read_message(reader, idle_secs=5, message_secs=5, limit=65_535)
        if data is not None:
            for wire in resolver.answer("tcp", data, writer.get_extra_info("peername")[1])[:1]:
                await write_message(writer, wire, message_secs=5)
        writer.close()

    tcp = await asyncio.start_server(serve, address, 0)
    port = tcp.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(resolver), local_addr=(address, port)
    )
    resolver.upstream = Upstream(address=address, port=port)
    try:
        yield resolver
    finally:
        udp.close()
        tcp.close()
        await tcp.wait_closed()


async def ask_udp(
    address: Address, port: int, wire: bytes, *, source: str = "127.0.0.1", timeout_secs: float = 5.0
) -> bytes:
    """One datagram out, one back. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        if address.version == 4:
            asking.bind((source, 0))
        asking.connect((str(address), port))
        await loop.sock_sendall(asking, wire)
        async with asyncio.timeout(timeout_secs):
            return await loop.sock_recv(asking, 65_535)


async def ask_tcp(address: Address, port: int, *wires: bytes) -> list[bytes]:
    """Several messages on one connection, one after the other; fewer answers than questions when it was closed."""
    reader, writer = await asyncio.open_connection(str(address), port)
    answers = []
    try:
        for wire in wires:
            await write_message(writer, wire, message_secs=5)
            answer = await read_message(reader, idle_secs=5, message_secs=5, limit=65_535)
            if answer is None:
                break
            answers.append(answer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return answers
