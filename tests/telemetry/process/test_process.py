"""The telemetry process itself, started as the agent starts it; the test has the agent's end of the link."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from syntra.agent.config.settings import (
    ExportSettings,
    LoggingSettings,
    ReceiverTlsSettings,
    Settings,
    TelemetrySettings,
)
from syntra.agent.telemetry.child import ChildProgram
from syntra.agent.telemetry.configuration import configuration
from syntra.networking.prometheus_text import samples
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.link import Link, Message
from syntra.telemetry.signals import Signal
from syntra.telemetry.wire import telemetry_pb2 as wire
from tests.e2e.canaries import Canaries, ProcessWatch, new_canary
from tests.networking.own_certificates import self_signed
from tests.telemetry.process.rigs import IDENTITY, one_span

SOON_SECS = 20.0
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CONNECTED = {"is_connected": True, "is_binary": True, "has_ack": True, "is_hub": False, "interval_secs": 0.1}


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Process:
    """A running process."""

    child: ChildProgram
    link: Link
    folder: Path
    grpc_port: int
    http_port: int
    said: list[Message] = field(default_factory=list)

    @property
    def pid(self) -> int:
        assert self.child._process is not None
        return self.child._process.pid

    async def next(self, kind: str) -> Message:
        """The next message of a kind; others are kept in `said`."""
        async with asyncio.timeout(SOON_SECS):
            while (message := await self.link.receive()) is not None:
                self.said.append(message)
                if message.kind == kind:
                    return message
        raise AssertionError(f"the process has ended without {kind}")

    async def ended(self) -> int:
        """The exit code."""
        async with asyncio.timeout(SOON_SECS):
            while await self.link.receive() is not None:
                continue
            return await self.child.ended()

    async def status(self) -> Mapping[str, Any]:
        await self.link.send("status", {"number": 1})
        return (await self.next("answer")).fields

    def post(self, body: bytes, path: str = "/v1/traces") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/x-protobuf"})
            return connection.getresponse().status
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]


def settings(folder: Path, ports: list[int], *, has_control_plane: bool = False, **telemetry: Any) -> dict[str, Any]:
    """The fields of `configure`."""
    made = configuration(
        Settings(
            data_dir=folder / "data",
            telemetry=TelemetrySettings(otlp_grpc_port=ports[0], otlp_http_port=ports[1], **telemetry),
            logging=LoggingSettings(level="debug", file=folder / "log"),
        ),
        agent_id="agt_1",
        server_id="srv_1",
    )
    return {**made, "has_control_plane": has_control_plane}


@asynccontextmanager
async def process(folder: Path, *, ports: list[int] | None = None, **given: Any) -> AsyncIterator[Process]:
    """A process that was told its configuration."""
    ports = ports or free_ports(2)
    (folder / "data").mkdir(exist_ok=True)
    child = ChildProgram()
    link = await Link.over(await child.spawn())
    made = Process(child=child, link=link, folder=folder, grpc_port=ports[0], http_port=ports[1])
    try:
        await link.send("configure", settings(folder, ports, **given))
        yield made
    finally:
        link.close()
        await child.close()
        await asyncio.sleep(0.01)  # the transports close


def test_a_process_that_exports_nothing_over_grpc_loads_neither_its_http2_nor_grpcio() -> None:
    modules = "import sys, syntra.telemetry.process.main, syntra.telemetry.shipping.export; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", modules], capture_output=True, text=True, check=True, timeout=30)
    assert not {"h2", "hyperframe", "grpc"} & set(loaded.stdout.split())


async def test_both_receivers_keep_count_and_answer_status(tmp_path: Path) -> None:
    async with process(tmp_path) as made:
        await made.next("ready")
        assert await asyncio.to_thread(made.post, one_span(count=3)) == 200
        async with grpc.aio.insecure_channel(f"127.0.0.1:{made.grpc_port}") as channel:
            await channel.unary_unary(EXPORT, bytes, bytes)(one_span("other", count=2), timeout=10)
        assert await asyncio.to_thread(made.post, b"\xff\xff") == 400
        view = await made.status()
        assert view["problem"] is None
        assert view["destinations"] == []
        [row] = view["signals"]
        assert (row["signal"], row["received"], row["kept"], row["refused_requests"]) == ("traces", 5, 5, 1)
        assert {one["service"] for one in view["services"]} == {"web"}
        assert {f"http://127.0.0.1:{made.http_port}", f"http://127.0.0.1:{made.grpc_port}"} <= {
            one["url"] for one in view["receivers"]
        }


async def test_its_own_counters_are_prometheus_text(tmp_path: Path) -> None:
    async with process(tmp_path, has_control_plane=True) as made:
        await made.next("ready")
        await asyncio.to_thread(made.post, one_span(count=3))
        await asyncio.to_thread(made.post, b"\xff\xff")
        status, text = await asyncio.to_thread(made.get, "/metrics")
        assert status == 200

        def value(metric: str, **labels: str) -> float:
            [found] = [one.value for one in samples(text, metric) if one.labels == labels]
            return found

        assert value("otelcol_receiver_accepted_spans_total") == 3
        assert value("otelcol_receiver_refused_requests_total", signal="traces", reason="bad_data") == 1
        assert value("otelcol_exporter_sent_spans_total", exporter="control-plane") == 0
        assert value("otelcol_exporter_queue_size", exporter="control-plane") == 3
        assert value("syntra_telemetry_buffer_bytes") > 0
        assert 1e6 < value("process_resident_memory_bytes") < 1e9
        assert value("process_open_fds") > 5
        names = set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert kind in ("counter", "gauge") and name.endswith("_total") == (kind == "counter")
                assert name not in names
                assert samples(text, name), f"{name} has no sample"
                names.add(name)
            else:
                assert line.partition("{")[0].partition(" ")[0] in names


async def test_it_ends_when_the_agent_is_gone(tmp_path: Path) -> None:
    async with process(tmp_path) as made:
        await made.next("ready")
        made.link.close()
        async with asyncio.timeout(SOON_SECS):
            assert await made.child.ended() == 0


async def test_it_ends_when_the_agent_is_gone_while_a_view_is_open(tmp_path: Path) -> None:
    async with process(tmp_path) as made:
        await made.next("ready")
        await made.link.send("tail", {"number": 1, "service": "", "signal": ""})
        await made.status()
        await asyncio.to_thread(made.post, one_span())
        made.link.close()
        async with asyncio.timeout(SOON_SECS):
            assert await made.child.ended() == 0


async def test_it_ends_when_the_agent_is_gone_before_it_said_anything(tmp_path: Path) -> None:
    child = ChildProgram()
    link = await Link.over(await child.spawn())
    link.close()
    async with asyncio.timeout(SOON_SECS):
        assert await child.ended() == 0


async def test_only_the_agent_ends_it(tmp_path: Path) -> None:
    async with process(tmp_path) as made:
        await made.next("ready")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(made.pid, number)
        assert await asyncio.to_thread(made.post, one_span()) == 200
        assert (await made.status())["signals"][0]["kept"] == 1
        await made.link.send("stop")
        assert await made.ended() == 0


async def test_the_log_file_is_opened_again_when_the_agent_asks(tmp_path: Path) -> None:
    async with process(tmp_path) as made:
        await made.next("ready")
        await made.link.send("first_unknown", {})
        await made.status()
        (tmp_path / "log").rename(tmp_path / "log.1")
        made.child.reopen_log()
        async with asyncio.timeout(SOON_SECS):
            while not (tmp_path / "log").exists():
                await asyncio.sleep(0.02)
        await made.link.send("second_unknown", {})
        await made.status()
        assert "second_unknown" in {row.get("kind") for row in made.log()}
        assert "first_unknown" in (tmp_path / "log.1").read_text()
        assert "second_unknown" not in (tmp_path / "log.1").read_text()


async def test_a_bug_ends_it_with_a_traceback_in_the_log(tmp_path: Path) -> None:
    async with process(tmp_path) as made:
        await made.next("ready")
        # The agent sends no such thing: fields are missing.
        await made.link.send("gateways", {})
        assert await made.ended() == 1
        [row] = [row for row in made.log() if row["level"] == "error"]
        assert row["message"] == "telemetry process failed"
        assert "KeyError" in row["exception"]


async def test_stop_ships_what_is_left_and_red_metrics_with_it(tmp_path: Path) -> None:
    async with process(tmp_path, has_control_plane=True, batch_interval_secs=3600) as made:
        await made.next("ready")
        await made.link.send("control_plane", {**CONNECTED, "interval_secs": 3600.0})
        await asyncio.to_thread(made.post, one_span(count=4))
        await made.link.send("stop")
        shipped: dict[int, int] = {}
        async with asyncio.timeout(SOON_SECS):
            while (message := await made.link.receive()) is not None:
                if message.kind == "batch":
                    frame = wire.TelemetryFrame.FromString(message.body)
                    shipped[frame.signal] = shipped.get(frame.signal, 0) + frame.items
                    told = {"batch_id": frame.batch_id, "accepted": True, "error": ""}
                    with suppress(OSError):
                        await made.link.send("acknowledged", told)
        assert await made.child.ended() == 0
    assert shipped[wire.SIGNAL_TRACES] == 4
    assert shipped[wire.SIGNAL_METRICS] >= 2


async def test_without_a_control_plane_that_answers_the_ring_keeps_what_is_left(tmp_path: Path) -> None:
    async with process(tmp_path, has_control_plane=True) as made:
        await made.next("ready")
        await asyncio.to_thread(made.post, one_span(count=4))
        made.link.close()
        async with asyncio.timeout(SOON_SECS):
            assert await made.child.ended() == 0
    ring = Buffer.open(tmp_path / "data" / "telemetry", max_bytes=1 << 20)
    try:
        assert ring.stats().signals[Signal.TRACES].stored_items == 4
    finally:
        ring.close()


async def test_a_stop_does_not_wait_for_a_connection_that_is_not_there(tmp_path: Path) -> None:
    async with process(tmp_path, has_control_plane=True) as made:
        await made.next("ready")
        await asyncio.to_thread(made.post, one_span(count=4))
        await made.link.send("stop")
        assert await made.ended() == 0
        assert "telemetry was not shipped before the shutdown; the ring keeps it" not in {
            row["message"] for row in made.log()
        }


async def test_the_control_plane_says_how_often_it_wants_batches(tmp_path: Path) -> None:
    async with process(tmp_path, has_control_plane=True, batch_interval_secs=3600) as made:
        await made.next("ready")
        await made.link.send("control_plane", CONNECTED)
        await asyncio.to_thread(made.post, one_span(count=2))
        batch = await made.next("batch")
        assert wire.TelemetryFrame.FromString(batch.body).items == 2


async def test_a_container_is_known_by_its_address_and_shown(tmp_path: Path) -> None:
    async with process(tmp_path) as made:
        await made.next("ready")
        await made.link.send("gateways", {"gateways": ["127.0.0.5"], "subnets": ["127.0.0.0/8"], "is_shared": False})
        await made.link.send("senders", {"senders": {"127.0.0.1": IDENTITY}})
        await made.link.send("tail", {"number": 7, "service": "svc_web", "signal": "traces"})
        view = await made.status()
        assert f"http://127.0.0.5:{made.http_port}" in {one["url"] for one in view["receivers"]}
        await asyncio.to_thread(made.post, one_span("GET /cart", service="liar"))
        shown: Mapping[str, Any] = (await made.next("tail")).fields
        assert shown["number"] == 7
        [item] = shown["items"]
        assert item["operation_name"] == "GET /cart" and item["service_id"] == "svc_web"
        await made.link.send("end_tail", {"number": 7})
        await made.link.send("something_new", {})
        await made.status()
        assert "unknown message of the agent" in {row["message"] for row in made.log()}


async def test_a_port_in_use_is_a_problem_and_the_other_receiver_works(tmp_path: Path) -> None:
    ports = free_ports(2)
    with socket.create_server(("127.0.0.1", ports[0])):
        async with process(tmp_path, ports=ports) as made:
            await made.next("ready")
            sentence = str((await made.next("problem")).fields["sentence"])
            assert sentence.startswith(f"cannot listen on 127.0.0.1 port {ports[0]}: Address already in use; ")
            assert await asyncio.to_thread(made.post, one_span()) == 200
            view = await made.status()
            assert view["problem"] == sentence
            assert [one.get("problem") for one in view["receivers"] if one["url"].endswith(f"127.0.0.1:{ports[0]}")]


@pytest.mark.parametrize("broken", ["missing", "certificate", "key", "authority"])
async def test_a_bad_certificate_ends_it_with_one_sentence_in_the_log(tmp_path: Path, broken: str) -> None:
    certificate, key = self_signed("localhost")
    files = {"cert_path": tmp_path / "c.pem", "key_path": tmp_path / "k.pem", "client_ca_path": tmp_path / "a.pem"}
    files["cert_path"].write_text("no certificate" if broken == "certificate" else certificate)
    files["key_path"].write_text(self_signed("other")[1] if broken == "key" else key)
    files["client_ca_path"].write_text("no certificate" if broken == "authority" else certificate)
    if broken == "missing":
        files["cert_path"].unlink()
    tls = ReceiverTlsSettings(**files)
    async with process(tmp_path, listen=("127.0.0.6",), tls=tls) as made:
        assert await made.ended() == 1
        [row] = [row for row in made.log() if row["level"] in ("error", "fatal")]
        assert row["message"] == "telemetry process cannot run"
        assert row["reason"].startswith("cannot use telemetry.tls: ")
        assert "exception" not in row


async def test_tls_is_spoken_where_it_is_configured(tmp_path: Path) -> None:
    certificate, key = self_signed("localhost")
    (tmp_path / "c.pem").write_text(certificate)
    (tmp_path / "k.pem").write_text(key)
    tls = ReceiverTlsSettings(cert_path=tmp_path / "c.pem", key_path=tmp_path / "k.pem")
    async with process(tmp_path, listen=("127.0.0.6",), tls=tls) as made:
        await made.next("ready")
        trusted = grpc.ssl_channel_credentials(certificate.encode())
        options = (("grpc.ssl_target_name_override", "localhost"),)
        async with grpc.aio.secure_channel(f"127.0.0.6:{made.grpc_port}", trusted, options) as channel:
            await channel.unary_unary(EXPORT, bytes, bytes)(one_span(), timeout=10)
        # Loopback stays plain, and has the figures that the other address has not.
        assert await asyncio.to_thread(made.post, one_span()) == 200
        assert (await asyncio.to_thread(made.get, "/metrics"))[0] == 200


async def test_headers_of_the_export_show_nowhere(tmp_path: Path) -> None:
    secret = new_canary("header").replace(" ", "")
    word = new_canary("word")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        export = ExportSettings(
            endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            protocol="http/protobuf",
            headers=f"x-key={secret.replace('+', '%2B')},authorization=Bearer%20{word.replace('+', '%2B')}",
            timeout_secs=0.2,
        )
        canaries = Canaries({"header": secret, "word": word})
        with ProcessWatch(canaries) as watch:
            async with process(tmp_path, export=export, batch_interval_secs=1) as made:
                await made.next("ready")
                watch.pid = made.pid
                await asyncio.to_thread(made.post, one_span())
                view: Mapping[str, Any] = {}
                async with asyncio.timeout(SOON_SECS):
                    while not (view and view["destinations"][0]["last_error"]):
                        view = await made.status()
                        await asyncio.sleep(0.1)
                text = (await asyncio.to_thread(made.get, "/metrics"))[1]
                await made.link.send("stop")
                assert await made.ended() == 0
        (tmp_path / "seen").write_text(json.dumps(view) + text)
        (tmp_path / "messages").write_bytes(b"".join(json.dumps(dict(one.fields)).encode() for one in made.said))
    assert watch.looks > 0
    assert canaries.found_below(tmp_path) == []
    assert watch.found == set()
    # The test would see them: they were given to the process.
    assert canaries.found_in(json.dumps(settings(tmp_path, [1, 2], export=export)).encode(), "configure")
