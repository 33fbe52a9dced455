"""The gRPC receiver against single frames: encodings, malformed calls, deadlines, and senders that stall."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard

from syntra.telemetry.intake import Outcome
from syntra.telemetry.otlp.grpc_call import METHODS
from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.grpc_server import GrpcReceiver
from syntra.telemetry.otlp.http2.frames import PREFACE
from syntra.telemetry.otlp.http2.limits import Http2Limits
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.http2_sender import Http2Sender
from tests.telemetry.otlp.running import running
from tests.telemetry.otlp.small_intake import SmallIntake

TRACES = next(iter(METHODS))
BODY = b"many bytes " * 50_000
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def message(data: bytes, *, is_compressed: bool = False) -> bytes:
    return bytes([is_compressed]) + struct.pack(">L", len(data)) + data


async def ask(port: int, body: bytes, encoding: str = "identity", path: str = TRACES, **headers: str) -> dict[str, str]:
    """Headers and trailers of the answer to one request."""

    def send() -> dict[str, str]:
        with Http2Sender(port) as sender:
            sender.headers(1, path, encoding, **headers)
            for at in range(0, len(body), 16_000):
                sender.data(1, body[at : at + 16_000])
            sender.data(1, b"", ends=True)
            return sender.answer(1)

    return await asyncio.to_thread(send)


@pytest.mark.parametrize("encoding", COMPRESS)
async def test_each_encoding(encoding: str) -> None:
    intake = SmallIntake()
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        port = await receiver.listen("127.0.0.1")
        for body in (b"", b"x", BODY, BODY * 10):
            answer = await ask(port, message(COMPRESS[encoding](body), is_compressed=True), encoding)
            assert answer["grpc-status"] == "0"
            assert intake.bodies[-1] == body
        # The sender decides for each message whether it compresses.
        assert (await ask(port, message(b"plain"), encoding))["grpc-status"] == "0"
        damaged = bytearray(COMPRESS[encoding](BODY))
        damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
        assert (await ask(port, message(bytes(damaged), is_compressed=True), encoding))["grpc-status"] == "3"
    assert intake.reserved == 0


@pytest.mark.parametrize("encoding", COMPRESS)
async def test_a_bomb_costs_no_more_than_the_limit(encoding: str) -> None:
    intake = SmallIntake()
    limits = GrpcLimits(max_request_bytes=3 << 20)
    async with running(GrpcReceiver(intake, port=0, limits=limits)) as receiver:
        port = await receiver.listen("127.0.0.1")
        bomb = COMPRESS[encoding](bytes(50 << 20))
        answer = await ask(port, message(bomb, is_compressed=True), encoding)
        assert answer["grpc-status"] == "8" and "grpc-status-details-bin" not in answer
        assert answer["grpc-message"] == "the message is longer than 3145728 bytes; send smaller requests"
    assert intake.peak < 5 << 20
    assert intake.refusals == {(Signal.TRACES, "too_large"): 1}


async def test_a_message_and_its_compressed_form_fit_into_the_memory_together() -> None:
    limits = GrpcLimits(max_memory_bytes=2 << 20)
    async with running(GrpcReceiver(SmallIntake(), port=0, limits=limits)) as receiver:
        port = await receiver.listen("127.0.0.1")
        noise = bytes(range(256)) * 4 * 1024
        stored = zlib.compress(noise, 0)
        assert (await ask(port, message(stored, is_compressed=True), "deflate"))["grpc-status"] == "8"
        assert (await ask(port, message(zlib.compress(noise), is_compressed=True), "deflate"))["grpc-status"] == "0"


async def test_an_unknown_encoding_is_unimplemented_and_names_the_known_ones() -> None:
    async with running(GrpcReceiver(SmallIntake(), port=0)) as receiver:
        answer = await ask(await receiver.listen("127.0.0.1"), message(b"x", is_compressed=True), "snappy")
    assert answer["grpc-status"] == "12"
    assert answer["grpc-accept-encoding"] == "identity, deflate, gzip, zstd"


MALFORMED = {
    "no message": (b"", "3"),
    "a part of a prefix": (b"\0\0\0", "3"),
    "a part of a message": (b"\0\0\0\0\x05abc", "3"),
    "two messages": (message(b"a") + message(b"b"), "3"),
    "an unknown flag": (b"\x02" + message(b"a")[1:], "3"),
    "compressed without an encoding": (message(b"a", is_compressed=True), "13"),
    "too long": (b"\0\xff\xff\xff\xff", "8"),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_message(case: str) -> None:
    body, status = MALFORMED[case]
    intake = SmallIntake()
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        port = await receiver.listen("127.0.0.1")
        assert (await ask(port, body))["grpc-status"] == status
        assert (await ask(port, message(b"good")))["grpc-status"] == "0"
    assert intake.bodies == [b"good"] and intake.reserved == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json"}, "415"),
        ({"content_type": "application/grpc-web"}, "415"),
        ({":method": "GET"}, "405"),
        ({"content_type": "application/grpc+proto"}, "200"),
        ({"content_type": "application/grpc;charset=utf-8"}, "200"),
    ],
)
async def test_what_is_no_grpc_has_a_status_of_http(headers: dict[str, str], status: str) -> None:
    async with running(GrpcReceiver(SmallIntake(), port=0)) as receiver:
        assert (await ask(await receiver.listen("127.0.0.1"), message(b"x"), **headers))[":status"] == status


async def test_a_message_in_single_bytes_and_cut_anywhere() -> None:
    intake = SmallIntake()
    data = message(b"a message")
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        port = await receiver.listen("127.0.0.1")

        def send() -> None:
            with Http2Sender(port) as sender:
                cuts = [[data[:at], data[at:]] for at in range(len(data) + 1)]
                for number, parts in enumerate([[data[at : at + 1] for at in range(len(data))], *cuts]):
                    stream = 1 + 2 * number
                    sender.headers(stream, TRACES)
                    for part in parts:
                        sender.data(stream, part)
                    sender.data(stream, b"", ends=True)
                    assert sender.answer(stream)["grpc-status"] == "0"

        await asyncio.to_thread(send)
    assert intake.bodies == [b"a message"] * (len(data) + 2)


async def test_a_text_for_the_sender_is_percent_encoded() -> None:
    intake = SmallIntake()
    intake.error = ValueError("x")
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        port = await receiver.listen("127.0.0.1")
        answer = await ask(port, message(b"x"))
        assert answer["grpc-message"] == "cannot process the request: internal error; try again"
        assert "=" not in answer["grpc-status-details-bin"]


async def test_a_request_past_the_deadline_of_its_sender_is_not_kept() -> None:
    intake = SmallIntake()
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        port = await receiver.listen("127.0.0.1")
        assert (await ask(port, message(b"late"), grpc_timeout="0n"))["grpc-status"] == "4"
        assert (await ask(port, message(b"in time"), grpc_timeout="20S"))["grpc-status"] == "0"
        assert (await ask(port, message(b"no time"), grpc_timeout="soon"))["grpc-status"] == "0"

        def stalls() -> dict[str, str]:
            with Http2Sender(port) as sender:
                sender.headers(1, TRACES, grpc_timeout="100m")
                sender.data(1, b"\0")
                return sender.answer(1)

        assert (await asyncio.to_thread(stalls))["grpc-status"] == "4"
        assert receiver.requests_timed_out == 2
    assert intake.bodies == [b"in time", b"no time"]


async def test_a_refused_request_is_read_to_its_end_and_the_connection_stays() -> None:
    intake = SmallIntake(budget=100)
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        port = await receiver.listen("127.0.0.1")

        def send() -> None:
            with Http2Sender(port) as sender:
                sender.headers(1, TRACES)
                for _ in range(60):
                    sender.data(1, b"\0\0\x10\0\0" + bytes(16_000))
                assert sender.answer(1)["grpc-status"] == "14"
                sender.headers(3, TRACES)
                sender.data(3, message(b"small"), ends=True)
                assert sender.answer(3)["grpc-status"] == "0"

        await asyncio.to_thread(send)
    assert intake.bodies == [b"small"] and intake.peak <= 100
    assert intake.refusals == {(Signal.TRACES, "overloaded"): 1}


async def test_a_reset_request_releases_its_memory() -> None:
    intake = SmallIntake()
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        with Http2Sender(await receiver.listen("127.0.0.1")) as sender:
            sender.headers(1, TRACES)
            sender.data(1, b"\0\0\x01\0\0 a part")
            while not intake.reserved:
                await asyncio.sleep(0.01)
            sender.frame(3, 0, 1, bytes(4))
            while intake.reserved or receiver.unread:
                await asyncio.sleep(0.01)


async def test_a_sender_that_leaves_releases_its_memory_and_what_is_complete_is_kept() -> None:
    intake = SmallIntake()
    intake.gate = threading.Event()
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        with Http2Sender(await receiver.listen("127.0.0.1")) as sender:
            sender.headers(1, TRACES)
            sender.data(1, message(b"complete"), ends=True)
            sender.headers(3, TRACES)
            sender.data(3, b"\0\0\x01\0\0 a part")
            while intake.reserved < 65_000:
                await asyncio.sleep(0.01)
        while receiver.connections or receiver.unread:
            await asyncio.sleep(0.01)
        intake.gate.set()
        while not intake.bodies:
            await asyncio.sleep(0.01)
    assert intake.bodies == [b"complete"] and intake.reserved == 0


async def test_stalled_senders_do_not_lock_out_others() -> None:
    intake = SmallIntake(budget=100_000)
    limits = GrpcLimits(pressed_secs=0.5)
    async with running(GrpcReceiver(intake, port=0, limits=limits)) as receiver:
        port = await receiver.listen("127.0.0.1")
        with Http2Sender(port) as sender:
            sender.headers(1, TRACES)
            sender.data(1, b"\0\0\x01\x80\0 a part of 98,304 bytes")
            while not intake.reserved:
                await asyncio.sleep(0.01)
            # Alone it would have its 60 seconds.
            await asyncio.sleep(2)
            assert receiver.unread == 1
            refused = 0
            while (await ask(port, message(bytes(10_000))))["grpc-status"] != "0":
                refused += 1
                await asyncio.sleep(0.05)
            assert refused
            assert (await asyncio.to_thread(sender.answer, 1))["grpc-status"] == "4"


async def test_connections_over_the_limit_are_closed() -> None:
    limits = GrpcLimits(max_connections=2)
    async with running(GrpcReceiver(SmallIntake(), port=0, limits=limits)) as receiver:
        port = await receiver.listen("127.0.0.1")
        with Http2Sender(port) as one, Http2Sender(port) as two, Http2Sender(port) as three:
            assert await asyncio.to_thread(three.is_closed)
            for sender in (one, two):
                sender.headers(1, TRACES)
                sender.data(1, message(b"x"), ends=True)
                assert (await asyncio.to_thread(sender.answer, 1))["grpc-status"] == "0"


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE])
async def test_a_connection_that_says_too_little_is_closed(said: bytes) -> None:
    limits = GrpcLimits(handshake_secs=0.5)
    async with running(GrpcReceiver(SmallIntake(), port=0, limits=limits)) as receiver:
        with socket.create_connection(("127.0.0.1", await receiver.listen("127.0.0.1")), timeout=20) as sock:
            sock.sendall(said)

            def reads_to_the_end() -> None:
                with suppress(ConnectionResetError):
                    while sock.recv(1000):
                        pass

            await asyncio.to_thread(reads_to_the_end)
            assert receiver.connections == 0


async def test_a_silent_sender_is_pinged_and_cut_off_unless_it_answers() -> None:
    limits = GrpcLimits(silence_secs=0.1, pong_secs=0.5)
    async with running(GrpcReceiver(SmallIntake(), port=0, limits=limits)) as receiver:
        port = await receiver.listen("127.0.0.1")

        def answers_one_ping() -> int:
            pings = 0
            with Http2Sender(port) as sender:
                while (frame := sender.receive()) is not None:
                    if frame[0] == 6 and not frame[1]:
                        pings += 1
                        if pings == 1:
                            sender.frame(6, 1, 0, frame[3])
            return pings

        assert await asyncio.to_thread(answers_one_ping) == 2


async def test_a_sender_that_does_not_read_is_cut_off() -> None:
    limits = GrpcLimits(write_secs=0.5, http2=Http2Limits(budget=10**9))
    async with running(GrpcReceiver(SmallIntake(), port=0, limits=limits)) as receiver:
        port = await receiver.listen("127.0.0.1")
        sender = Http2Sender(port)

        def flood() -> None:
            with pytest.raises(OSError):
                while True:
                    sender.sock.sendall(b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0" * 10_000)

        await asyncio.to_thread(flood)
        sender.sock.close()
        while receiver.connections:
            await asyncio.sleep(0.01)


async def test_an_answer_that_flow_control_holds_back_is_given_up() -> None:
    intake = SmallIntake()
    limits = GrpcLimits(write_secs=0.5)
    async with running(GrpcReceiver(intake, port=0, limits=limits)) as receiver:
        with Http2Sender(await receiver.listen("127.0.0.1")) as sender:
            # INITIAL_WINDOW_SIZE 0.
            sender.frame(4, 0, 0, b"\0\x04\0\0\0\0")
            sender.headers(1, TRACES)
            sender.data(1, message(b"x"), ends=True)

            def reset() -> bytes:
                while (frame := sender.receive()) is not None:
                    if frame[0] == 3:
                        return frame[3]
                raise AssertionError("closed")

            assert await asyncio.to_thread(reset) == b"\0\0\0\x08"
            sender.headers(3, TRACES)
            sender.data(3, message(b"y"), ends=True)
            sender.frame(8, 0, 3, b"\0\0\0\x64")
            assert (await asyncio.to_thread(sender.answer, 3))["grpc-status"] == "0"
    assert intake.bodies == [b"x", b"y"]


async def test_a_partial_success_follows_flow_control() -> None:
    intake = SmallIntake()
    intake.outcome = Outcome(rejected=1, message="x" * 500)
    async with running(GrpcReceiver(intake, port=0)) as receiver:
        with Http2Sender(await receiver.listen("127.0.0.1")) as sender:
            sender.frame(4, 0, 0, b"\0\x04\0\0\0\x0a")
            sender.headers(1, TRACES)
            sender.data(1, message(b"x"), ends=True)
            body = b""

            def read() -> bytes:
                while (frame := sender.receive()) is not None:
                    if frame[0] == 0:
                        return frame[3]
                raise AssertionError("closed")

            while len(body) < 5 or len(body) < 5 + int.from_bytes(body[1:5], "big"):
                body += await asyncio.to_thread(read)
                sender.frame(8, 0, 1, b"\0\0\0\x0a")
            assert b"x" * 500 in body
            assert (await asyncio.to_thread(sender.answer, 1))["grpc-status"] == "0"
