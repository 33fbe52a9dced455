"""Where the receivers listen, and what happens when they cannot."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from syntra.agent.config.settings import ReceiverTlsSettings
from syntra.telemetry.otlp.grpc_server import GrpcReceiver
from syntra.telemetry.otlp.http_server import HttpReceiver
from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.otlp.listening import CannotListen
from syntra.telemetry.process.listeners import Listeners, Place, Receiver, loopback_addresses, places
from syntra.telemetry.process.settings import ProcessSettings
from tests.telemetry.otlp.running import running
from tests.telemetry.otlp.small_intake import SmallIntake
from tests.telemetry.process.rigs import process_settings

LOOPBACK = ("127.0.0.1", "::1")
TLS = {"cert_path": Path("/c.pem"), "key_path": Path("/k.pem")}
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def with_tls(**telemetry: Any) -> ProcessSettings:

    return process_settings(tls=ReceiverTlsSettings(**TLS), **telemetry)


def urls(settings: ProcessSettings, local: Sequence[str], protocol: str) -> list[str]:
    return sorted(place.url for place in places(settings, local) if place.protocol == protocol)


def test_loopback_and_gateways_are_plain_on_both_ports() -> None:
    found = places(process_settings(), [*LOOPBACK, "172.18.0.1"])
    assert {(place.protocol, place.url) for place in found} == {
        ("grpc", "http://127.0.0.1:4317"),
        ("grpc", "http://[::1]:4317"),
        ("grpc", "http://172.18.0.1:4317"),
        ("http", "http://127.0.0.1:4318"),
        ("http", "http://[::1]:4318"),
        ("http", "http://172.18.0.1:4318"),
    }


def test_only_configured_addresses_have_tls() -> None:
    settings = with_tls(listen=("192.0.2.1", "127.0.0.1"))
    assert urls(settings, ["127.0.0.1", "172.18.0.1"], "http") == [
        "http://172.18.0.1:4318",
        "https://127.0.0.1:4318",
        "https://192.0.2.1:4318",
    ]


def test_without_certificates_configured_addresses_are_plain() -> None:
    assert urls(process_settings(listen=("192.0.2.1",)), [], "http") == ["http://192.0.2.1:4318"]


def test_unix_sockets_are_plain_and_beside_the_ports() -> None:
    settings = with_tls(listen=(), otlp_grpc_socket="/run/g.sock", otlp_http_socket="/run/h.sock")
    assert urls(settings, ["127.0.0.1"], "grpc") == ["http://127.0.0.1:4317", "unix:/run/g.sock"]
    assert urls(settings, ["127.0.0.1"], "http") == ["http://127.0.0.1:4318", "unix:/run/h.sock"]


@pytest.mark.parametrize(("protocol", "port"), [("grpc", 4317), ("http", 4318)])
def test_a_wildcard_includes_the_addresses_of_its_family(protocol: str, port: int) -> None:
    local = [*LOOPBACK, "172.18.0.1", "fd00::1"]
    four = process_settings(listen=("0.0.0.0", "192.0.2.1"))
    assert urls(four, local, protocol) == [f"http://{host}:{port}" for host in ("0.0.0.0", "[::1]", "[fd00::1]")]
    six = process_settings(listen=("::",))
    assert urls(six, local, protocol) == [f"http://{host}:{port}" for host in ("127.0.0.1", "172.18.0.1", "[::]")]
    both = process_settings(listen=("0.0.0.0", "::"))
    assert urls(both, local, protocol) == [f"http://{host}:{port}" for host in ("0.0.0.0", "[::]")]


def test_the_same_address_is_one_place() -> None:
    assert len(places(process_settings(listen=("172.18.0.1",)), ["172.18.0.1", "172.18.0.1"])) == 2


def test_loopback_is_there() -> None:
    assert loopback_addresses()[0] == "127.0.0.1"


class Played:
    """Receivers that listen on nothing, and refuse what a test says."""

    def __init__(self) -> None:
        self.open: set[tuple[str, str]] = set()
        self.refused: dict[str, str] = {}
        self.tries: list[tuple[str, str]] = []

    def of(self, protocol: str, with_tls: bool) -> Receiver:
        played = self

        class One:
            async def listen(self, address: str) -> int:
                played.tries.append((protocol, address))
                if address in played.refused:
                    raise CannotListen(address, 1, played.refused[address])
                played.open.add((protocol, address))
                return 1

            async def unlisten(self, address: str) -> None:
                played.open.remove((protocol, address))

        return One()


@asynccontextmanager
async def retrying(listeners: Listeners) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(listeners.run())
        yield
        task.cancel()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_gateways_come_and_go() -> None:
    played = Played()
    listeners = Listeners(process_settings(), played.of, loopback=("127.0.0.1",))
    await listeners.open()
    await listeners.open(["172.18.0.1", "172.19.0.1"])
    await listeners.open(["172.19.0.1"])
    assert played.open == {(p, a) for p in ("grpc", "http") for a in ("127.0.0.1", "172.19.0.1")}
    # What is open already is left alone.
    assert len(played.tries) == 6
    await listeners.open([])
    assert {address for _, address in played.open} == {"127.0.0.1"}


async def test_an_address_that_is_taken_is_said_tried_again_and_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    played = Played()
    played.refused["172.18.0.1"] = "Address already in use"
    listeners = Listeners(process_settings(), played.of, loopback=("127.0.0.1",), retry_secs=0.01)
    with caplog.at_level(logging.WARNING):
        await listeners.open(["172.18.0.1", "172.19.0.1"])
        assert len(played.open) == 4
        assert listeners.problem is not None
        assert listeners.problem.startswith("cannot listen on 172.18.0.1 port 1: Address already in use; ")
        with_problem = [row for row in listeners.view() if isinstance(row, dict) and "problem" in row]
        assert [row["url"] for row in with_problem] == ["http://172.18.0.1:4317", "http://172.18.0.1:4318"]
        async with retrying(listeners):
            before = len(played.tries)
            await until(lambda: len(played.tries) >= before + 4)
            # Tried again only where it failed, and logged once for each.
            assert {address for _, address in played.tries[before:]} == {"172.18.0.1"}
            assert len(caplog.records) == 2
            played.refused.clear()
            await until(lambda: listeners.problem is None)
    assert len(played.open) == 6
    assert not [row for row in listeners.view() if isinstance(row, dict) and "problem" in row]


async def test_a_network_that_is_gone_is_no_problem_any_more() -> None:
    played = Played()
    played.refused["172.18.0.1"] = "Cannot assign requested address"
    listeners = Listeners(process_settings(), played.of, loopback=("127.0.0.1",))
    await listeners.open(["172.18.0.1"])
    before = listeners.problem
    assert before is not None
    await listeners.open([])
    assert listeners.problem is None
    assert len(listeners.view()) == 2


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def real(settings: ProcessSettings, *, loopback: Sequence[str] = ("127.0.0.1",)) -> AsyncIterator[Listeners]:
    """Listeners with real receivers."""
    intake = SmallIntake()
    rpc = GrpcReceiver(intake, port=settings.grpc_port)
    web = HttpReceiver(intake, decode_json, port=settings.http_port)

    class Web:
        async def listen(self, address: str) -> int:
            return web.listen(address)

        async def unlisten(self, address: str) -> None:
            web.unlisten(address)

    receivers: dict[str, Receiver] = {"grpc": rpc, "http": Web()}
    async with running(rpc, 0.0):
        try:
            yield Listeners(settings, lambda protocol, _: receivers[protocol], loopback=loopback, retry_secs=0.05)
        finally:
            await asyncio.to_thread(web.close, 0)


async def is_answered(protocol: str, address: str, port: int) -> bool:
    if protocol == "grpc":
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        async with grpc.aio.insecure_channel(place) as channel:
            try:
                await channel.unary_unary(EXPORT, bytes, bytes)(b"", timeout=5)
            except grpc.aio.AioRpcError:
                return False
            return True
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200 ")


async def test_real_receivers_follow_the_gateways() -> None:
    settings = process_settings(otlp_grpc_port=free_port(), otlp_http_port=free_port())
    ports = {"grpc": settings.grpc_port, "http": settings.http_port}
    async with real(settings) as listeners:
        await listeners.open(["127.0.0.5"])
        for protocol, port in ports.items():
            assert await is_answered(protocol, "127.0.0.1", port)
            assert await is_answered(protocol, "127.0.0.5", port)
        await listeners.open([])
        for protocol, port in ports.items():
            assert await is_answered(protocol, "127.0.0.1", port)
            assert not await is_answered(protocol, "127.0.0.5", port)


async def test_real_receivers_get_a_port_that_another_program_leaves() -> None:
    settings = process_settings(otlp_grpc_port=free_port(), otlp_http_port=free_port())
    others = [socket.create_server(("127.0.0.1", port)) for port in (settings.grpc_port, settings.http_port)]
    async with real(settings) as listeners:
        await listeners.open()
        assert listeners.problem is not None and "Address already in use" in listeners.problem
        async with retrying(listeners):
            for one in others:
                one.close()
            await until(lambda: listeners.problem is None)
        assert await is_answered("grpc", "127.0.0.1", settings.grpc_port)
        assert await is_answered("http", "127.0.0.1", settings.http_port)


@pytest.mark.skipif("::1" not in loopback_addresses(), reason="the host has no IPv6")
@pytest.mark.parametrize("listen", [("::",), ("0.0.0.0", "::"), ("0.0.0.0", "127.0.0.1")])
async def test_real_receivers_on_a_wildcard_answer_on_loopback_too(listen: tuple[str, ...]) -> None:
    settings = process_settings(otlp_grpc_port=free_port(), otlp_http_port=free_port(), listen=listen)
    async with real(settings, loopback=LOOPBACK) as listeners:
        await listeners.open(["127.0.0.5"])
        assert listeners.problem is None
        for address in (*LOOPBACK, "127.0.0.5"):
            assert await is_answered("grpc", address, settings.grpc_port), address
            assert await is_answered("http", address, settings.http_port), address


async def test_real_receivers_on_unix_sockets(tmp_path: Path) -> None:
    settings = process_settings(
        otlp_grpc_port=free_port(),
        otlp_http_port=free_port(),
        otlp_grpc_socket=str(tmp_path / "g"),
        otlp_http_socket=str(tmp_path / "h"),
    )
    async with real(settings, loopback=()) as listeners:
        await listeners.open()
        assert listeners.view() == [
            {"protocol": "grpc", "url": f"unix:{tmp_path}/g"},
            {"protocol": "http", "url": f"unix:{tmp_path}/h"},
        ]
        assert {path.name for path in tmp_path.iterdir()} == {"g", "h"}


def test_a_place_is_written_as_a_sender_writes_it() -> None:
    assert Place(protocol="http", address="fd00::1", port=4318, with_tls=True).url == "https://[fd00::1]:4318"
