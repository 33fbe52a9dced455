"""Peers that use HTTP/2's rules to make a server work or remember: each known attack ends the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from syntra.telemetry.otlp.http2 import frames
from syntra.telemetry.otlp.http2.frames import ErrorCode, frame
from syntra.telemetry.otlp.http2.headers import encode_headers
from syntra.telemetry.otlp.http2.limits import SECOND_CREDIT, Http2Limits
from tests.telemetry.otlp.http2.peer import POST, Peer

LIMIT = 10_000
HEADERS = encode_headers([(":status", "200")])


def streams() -> Iterator[int]:
    return count(1, 2)


def rapid_reset(peer: Peer) -> Iterator[bytes]:
    """CVE-2023-44487."""
    for stream in streams():
        yield frame(frames.HEADERS, 5, stream, peer.block()) + frames.reset(stream, ErrorCode.CANCEL)


def made_you_reset(peer: Peer) -> Iterator[bytes]:
    """CVE-2025-8671: the server is made to reset the streams itself."""
    for stream in streams():
        yield frame(frames.HEADERS, 5, stream, peer.block()) + frames.window_update(stream, 0)


def pings(_: Peer) -> Iterator[bytes]:
    """CVE-2019-9512."""
    while True:
        yield frame(frames.PING, 0, 0, bytes(8))


def settings(_: Peer) -> Iterator[bytes]:
    """CVE-2019-9515."""
    while True:
        yield frames.settings({frames.INITIAL_WINDOW_SIZE: 1})


def empty_data(peer: Peer) -> Iterator[bytes]:
    """CVE-2019-9518."""
    yield frame(frames.HEADERS, 4, 1, peer.block())
    while True:
        yield frame(frames.DATA, 0, 1)


def single_bytes(peer: Peer) -> Iterator[bytes]:
    yield frame(frames.HEADERS, 4, 1, peer.block())
    while True:
        yield frame(frames.DATA, 0, 1, b"x")


def ends_of_a_closed_stream(peer: Peer) -> Iterator[bytes]:
    yield frame(frames.HEADERS, 5, 1, peer.block()) + frames.window_update(1, 0)
    while True:
        yield frame(frames.DATA, 1, 1)


def trailers_of_a_closed_stream(peer: Peer) -> Iterator[bytes]:
    yield frame(frames.HEADERS, 5, 1, peer.block()) + frames.window_update(1, 0)
    while True:
        yield frame(frames.HEADERS, 5, 1, b"\x82")


def priorities(_: Peer) -> Iterator[bytes]:
    """CVE-2019-9513."""
    for stream in streams():
        yield frame(frames.PRIORITY, 0, stream, bytes(5))


def window_updates(_: Peer) -> Iterator[bytes]:
    while True:
        yield frames.window_update(0, 1)


def unknown_frames(_: Peer) -> Iterator[bytes]:
    while True:
        yield frame(0x99, 0, 0)


def malformed(peer: Peer) -> Iterator[bytes]:
    for stream in streams():
        yield frame(frames.HEADERS, 5, stream, peer.block(POST[1:]))


def too_many_streams(peer: Peer) -> Iterator[bytes]:
    for stream in streams():
        yield frame(frames.HEADERS, 5, stream, peer.block())


Attack = Callable[[Peer], Iterator[bytes]]
ATTACKS: tuple[Attack, ...] = (
    rapid_reset,
    made_you_reset,
    pings,
    settings,
    empty_data,
    single_bytes,
    ends_of_a_closed_stream,
    trailers_of_a_closed_stream,
    priorities,
    window_updates,
    unknown_frames,
    malformed,
    too_many_streams,
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack.__name__))
def test_a_flood_ends_the_connection(attack: Attack) -> None:
    peer = Peer()
    for number, data in enumerate(attack(peer)):
        assert number < LIMIT, "the flood goes through"
        peer.send(data)
        if peer.server.fault is not None:
            break
    assert peer.goaway() is ErrorCode.ENHANCE_YOUR_CALM


def test_too_many_pings_has_the_name_that_grpc_clients_know() -> None:
    peer = Peer()
    while peer.server.fault is None:
        peer.send(frame(frames.PING, 0, 0, bytes(8)))
    assert [sent.payload[8:] for sent in peer.sent() if sent.kind == frames.GOAWAY] == [b"too_many_pings"]


def test_a_busy_sender_is_no_flood() -> None:
    peer = Peer()
    for stream in range(1, 20_001, 2):
        peer.request(stream)
        peer.data(stream, b"body", ends=True)
        peer.server.respond(stream, HEADERS)
        # gRPC clients probe the bandwidth, and return the window of each response.
        peer.send(frame(frames.PING, 0, 0, bytes(8)) + frames.window_update(0, 5) + frames.window_update(stream, 5))
        peer.sent()
    assert peer.server.fault is None


def test_a_sender_that_pings_in_measure_is_no_flood() -> None:
    peer = Peer()
    for _ in range(1000):
        for _ in range(SECOND_CREDIT):
            peer.send(frame(frames.PING, 0, 0, bytes(8)))
        peer.server.second_passed()
        peer.sent()
    assert peer.server.fault is None


@pytest.mark.parametrize("part", [b"", b"\x82", b"\x00\x01a\x01b" * 500])
def test_endless_continuations_end_the_connection(part: bytes) -> None:
    """CVE-2024-27316 and others: the block is never complete."""
    peer = Peer()
    peer.send(frame(frames.HEADERS, 0, 1, peer.block()))
    sent = 0
    while peer.server.fault is None:
        peer.send(frame(frames.CONTINUATION, 0, 1, part))
        sent += 1
        assert sent <= Http2Limits().max_continuations
    assert peer.goaway() is ErrorCode.ENHANCE_YOUR_CALM


def test_a_header_bomb_ends_the_connection() -> None:
    """A long value in the table, which each further byte repeats."""
    peer = Peer()
    bomb = peer.block((("x", "y" * 3000),)) + b"\xbe" * 10_000
    assert len(bomb) < 13_000
    peer.send(frame(frames.HEADERS, 5, 1, bomb))
    assert peer.goaway() is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.events == []


def test_a_long_list_of_settings_is_one_change() -> None:
    peer = Peer()
    for stream in range(1, 2000, 2):
        peer.request(stream)
    entries = b"".join(frames.SETTING.pack(frames.INITIAL_WINDOW_SIZE, 2**31 - 1 - number) for number in range(2700))
    peer.sent()
    peer.send(frame(frames.SETTINGS, 0, 0, entries))
    assert [sent.flags for sent in peer.sent()] == [frames.ACK]
    assert peer.server.fault is None


def test_what_is_remembered_of_ended_streams_is_limited() -> None:
    peer = Peer()
    for stream in range(1, 20_001, 2):
        peer.request(stream, ends=True)
        peer.server.respond(stream, HEADERS)
    assert len(peer.server._recent._streams) <= 1024
    peer.data(1, b"x")
    assert peer.goaway() is ErrorCode.PROTOCOL_ERROR
