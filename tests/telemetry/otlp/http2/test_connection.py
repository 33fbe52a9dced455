"""The server's half of HTTP/2 against single frames: what is accepted, what is refused, and with which code."""

from __future__ import annotations

import pytest

from syntra.telemetry.otlp.http2 import frames
from syntra.telemetry.otlp.http2.connection import Http2Connection
from syntra.telemetry.otlp.http2.events import DataReceived, PongReceived, RequestStarted, StreamReset
from syntra.telemetry.otlp.http2.frames import PREFACE, ErrorCode, frame
from syntra.telemetry.otlp.http2.headers import NO_TABLE, encode_headers
from syntra.telemetry.otlp.http2.limits import Http2Limits
from tests.telemetry.otlp.http2.peer import POST, Peer, bodies, copied

HEADERS = encode_headers([(":status", "200")])
TRAILERS = encode_headers([("grpc-status", "0")])


def conversation() -> bytes:
    """Preface, settings, requests in every form, pings and a goodbye."""
    peer = Peer(greets=False)
    padded = bytes([3]) + b"body" + bytes(3)
    prioritized = bytes([2]) + bytes(4) + b"\x10" + peer.block() + bytes(2)
    first = peer.block((*POST, ("x", "y" * 100)))
    return b"".join(
        (
            PREFACE,
            frames.settings({frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: 100_000}),
            frame(frames.HEADERS, frames.PADDED | frames.WITH_PRIORITY | frames.END_HEADERS, 1, prioritized),
            frame(frames.DATA, frames.PADDED, 1, padded),
            frame(frames.PING, 0, 0, b"12345678"),
            frame(frames.DATA, frames.END_STREAM, 1, b" and more"),
            frame(frames.HEADERS, 0, 3, first[:5]),
            frame(frames.CONTINUATION, 0, 3, first[5:9]),
            frame(frames.CONTINUATION, frames.END_HEADERS, 3, first[9:]),
            frame(0x77, 0, 3, b"an unknown type"),
            frame(frames.DATA, 0, 3, b"x" * 300),
            frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, peer.block((("trailer", "1"),))),
            frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 5, peer.block()),
            frame(frames.PRIORITY, 0, 9, bytes(4) + b"\x10"),
            frame(frames.GOAWAY, 0, 0, bytes(8)),
        )
    )


CONVERSATION = conversation()
BODIES = {1: b"body and more", 3: b"x" * 300, 5: b""}


def outcome(*parts: bytes) -> tuple[dict[int, bytes], bytes, int]:
    server = Http2Connection()
    events = [copied(event) for part in parts for event in server.receive(part)]
    assert server.fault is None
    return bodies(events), server.take_output(), sum(isinstance(event, RequestStarted) for event in events)


def test_a_conversation_is_understood_whole_byte_by_byte_and_cut_anywhere() -> None:
    whole = outcome(CONVERSATION)
    assert whole[0] == BODIES and whole[2] == 3
    assert outcome(*(CONVERSATION[at : at + 1] for at in range(len(CONVERSATION)))) == whole
    for at in range(len(CONVERSATION)):
        assert outcome(CONVERSATION[:at], CONVERSATION[at:]) == whole, at


def test_a_server_greets_with_its_limits() -> None:
    limits = Http2Limits(max_streams=7, stream_window_bytes=100_000, connection_window_bytes=200_000)
    settings, window = Peer(limits, greets=False).sent()
    assert dict(frames.SETTING.iter_unpack(settings.payload)) == {3: 7, 4: 100_000, 5: limits.max_frame_bytes, 6: 16384}
    assert (window.stream, int.from_bytes(window.payload, "big")) == (0, 200_000 - 65_535)


def test_settings_and_pings_are_acknowledged() -> None:
    peer = Peer(greets=False)
    peer.sent()
    peer.send(PREFACE + frames.settings({}) + frame(frames.PING, 0, 0, b"12345678"))
    acknowledged, pong = peer.sent()
    assert (acknowledged.kind, acknowledged.flags) == (frames.SETTINGS, frames.ACK)
    assert (pong.kind, pong.flags, pong.payload) == (frames.PING, frames.ACK, b"12345678")
    peer.server.ping()
    [ping] = peer.sent()
    assert peer.send(frame(frames.PING, frames.ACK, 0, ping.payload)) == [PongReceived()]


def test_an_answer_is_headers_data_and_trailers() -> None:
    peer = Peer()
    peer.request(1, ends=True)
    peer.server.respond(1, HEADERS, b"body", TRAILERS)
    assert [(sent.kind, sent.flags, sent.payload) for sent in peer.sent()] == [
        (frames.HEADERS, frames.END_HEADERS, HEADERS),
        (frames.DATA, 0, b"body"),
        (frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, TRAILERS),
    ]
    assert not peer.server.has_streams


def test_an_answer_before_the_request_is_complete_cuts_it_off() -> None:
    peer = Peer()
    peer.request(1)
    peer.server.respond(1, HEADERS)
    answer, reset = peer.sent()
    assert answer.flags == frames.END_HEADERS | frames.END_STREAM
    assert (reset.kind, reset.code) == (frames.RST_STREAM, ErrorCode.NO_ERROR)
    # The peer did not know yet.
    assert peer.data(1, b"late" * 100) == [] and peer.data(1, b"", ends=True) == []
    assert peer.server.fault is None


def test_a_body_waits_for_both_windows() -> None:
    peer = Peer()
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 3}))
    peer.request(1, ends=True)
    peer.sent()
    peer.server.respond(1, HEADERS, b"0123456789", TRAILERS)
    assert [sent.payload for sent in peer.sent()] == [HEADERS, b"012"]
    assert list(peer.server.blocked) == [1]
    peer.send(frames.window_update(1, 2))
    assert [sent.payload for sent in peer.sent()] == [b"34"]
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    peer.send(frames.window_update(1, 3))
    assert [sent.payload for sent in peer.sent() if sent.kind == frames.DATA] == []
    peer.send(frames.window_update(1, 100))
    assert [sent.payload for sent in peer.sent()] == [b"56789", TRAILERS]
    assert not peer.server.blocked


def test_the_window_of_the_connection_limits_all_streams() -> None:
    peer = Peer()
    for stream in (1, 3):
        peer.request(stream, ends=True)
        peer.server.respond(stream, HEADERS, bytes(40_000), TRAILERS)
    sizes = [len(sent.payload) for sent in peer.sent() if sent.kind == frames.DATA]
    assert sum(sizes) == 65_535 and max(sizes) == 2**14
    peer.send(frames.window_update(0, 100_000))
    assert sum(len(sent.payload) for sent in peer.sent() if sent.kind == frames.DATA) == 80_000 - 65_535
    assert not peer.server.has_streams


def test_the_size_of_the_header_table_is_acknowledged_in_the_next_block() -> None:
    peer = Peer()
    peer.send(frames.settings({frames.HEADER_TABLE_SIZE: 0}))
    for stream in (1, 3):
        peer.request(stream, ends=True)
    peer.sent()
    peer.server.respond(1, HEADERS)
    peer.server.respond(3, HEADERS)
    assert [sent.payload for sent in peer.sent()] == [NO_TABLE + HEADERS, HEADERS]


def test_windows_are_granted_again_as_data_comes() -> None:
    limits = Http2Limits(stream_window_bytes=70_000, connection_window_bytes=100_000)
    peer = Peer(limits)
    peer.request(1)
    received = 0
    for _ in range(50):
        peer.data(1, bytes(10_000))
        received += 10_000
        for sent in peer.sent():
            assert sent.kind == frames.WINDOW_UPDATE
    assert peer.server.fault is None
    assert sum(len(event.data) for event in peer.events if isinstance(event, DataReceived)) == received


def test_more_than_a_window_is_an_error() -> None:
    peer = Peer(Http2Limits(stream_window_bytes=1000, connection_window_bytes=70_000))
    peer.request(1)
    assert StreamReset(1) in peer.data(1, bytes(1001))
    assert peer.resets() == {1: ErrorCode.FLOW_CONTROL_ERROR}
    peer.data(1, bytes(68_000))
    assert peer.goaway() is None
    peer = Peer(Http2Limits(connection_window_bytes=70_000))
    peer.request(1)
    peer.data(1, bytes(70_001))
    assert peer.goaway() is ErrorCode.FLOW_CONTROL_ERROR


def test_a_reset_request_counts_until_it_is_answered() -> None:
    peer = Peer(Http2Limits(max_streams=2))
    for stream in (1, 3):
        peer.request(stream, ends=True)
        assert peer.send(frames.reset(stream, ErrorCode.CANCEL)) == [StreamReset(stream)]
    peer.request(5, ends=True)
    assert peer.resets() == {5: ErrorCode.REFUSED_STREAM}
    peer.server.respond(1, HEADERS, b"body", TRAILERS)
    assert peer.sent() == []
    assert isinstance(peer.request(7, ends=True)[0], RequestStarted)


def test_a_reset_request_that_is_not_complete_counts_no_more() -> None:
    peer = Peer(Http2Limits(max_streams=1))
    for stream in (1, 3, 5):
        assert isinstance(peer.request(stream)[0], RequestStarted)
        assert peer.send(frames.reset(stream, ErrorCode.CANCEL)) == [StreamReset(stream)]
    assert not peer.server.has_streams


def test_after_goaway_new_requests_are_ignored_and_old_ones_answered() -> None:
    peer = Peer()
    peer.request(1)
    peer.server.go_away()
    [goaway] = peer.sent()
    assert (goaway.code, int.from_bytes(goaway.payload[:4], "big")) == (ErrorCode.NO_ERROR, 1)
    assert peer.request(3) == []
    assert peer.data(3, b"x" * 500, ends=True) == []
    # Its header block has changed the table, so the next one is understood.
    peer.data(1, b"x", ends=True)
    peer.server.respond(1, HEADERS, b"y", TRAILERS)
    assert len(peer.sent()) == 3
    assert not peer.server.has_streams and peer.server.fault is None


def test_the_same_headers_again_mean_the_same_also_when_the_table_changes() -> None:
    peer = Peer()
    peer.request(1, ends=True)
    heads = []
    for number, path in enumerate(["/a", "/a", "/b", "/a", "/a", "/b"]):
        fields = tuple((name, path if name == ":path" else value) for name, value in POST)
        [started, _] = peer.request(3 + 2 * number, ends=True, fields=fields)
        assert isinstance(started, RequestStarted)
        heads.append(started.head.path.decode())
    assert heads == ["/a", "/a", "/b", "/a", "/a", "/b"]
    # The same block means something else after the table has grown, also by trailers.
    block = b"\x83\x86\x84\xbe"  # POST http / and the newest entry
    peer.send(frame(frames.HEADERS, 4, 21, peer.block((*POST, ("one", "1")))))
    before = peer.send(frame(frames.HEADERS, 4, 23, block))[0]
    peer.send(frame(frames.HEADERS, 5, 23, peer.block((("two", "2"),))))
    after = peer.send(frame(frames.HEADERS, 4, 25, block))[0]
    assert isinstance(before, RequestStarted) and isinstance(after, RequestStarted)
    assert (before.head.fields, after.head.fields) == ({b"one": b"1"}, {b"two": b"2"})


MALFORMED = {
    "no method": POST[1:],
    "no path": (*POST[:2], POST[3]),
    "an empty path": (POST[0], POST[1], (":path", "")),
    "a repeated path": (*POST, (":path", "/b")),
    "a status": (*POST, (":status", "200")),
    "a pseudo-header behind": (*POST[:3], ("a", "b"), POST[3]),
    "upper case": (*POST, ("Name", "x")),
    "an empty name": (*POST, ("", "x")),
    "a header of HTTP/1.1": (*POST, ("connection", "close")),
    "te": (*POST, ("te", "gzip")),
    "a line end": (*POST, ("a", "b\r\nc: d")),
    "a length that is none": (*POST, ("content-length", "-1")),
    "a huge length": (*POST, ("content-length", "9" * 5000)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_reset(case: str) -> None:
    peer = Peer()
    assert peer.request(1, ends=True, fields=MALFORMED[case]) == []
    assert peer.resets() == {1: ErrorCode.PROTOCOL_ERROR}
    assert peer.server.fault is None
    assert len(peer.request(3, ends=True)) == 2


def test_a_body_is_as_long_as_it_says() -> None:
    fields = (*POST, ("content-length", "5"))
    for body, is_right in ((b"12345", True), (b"1234", False), (b"123456", False)):
        peer = Peer()
        peer.request(1, fields=fields)
        peer.data(1, body[:2])
        peer.data(1, body[2:], ends=True)
        assert (peer.resets() == {}) is is_right
        assert (bodies(peer.events) == {1: body}) is is_right


@pytest.mark.parametrize("block", ["no end", "a pseudo-header"])
def test_bad_trailers_reset_the_request(block: str) -> None:
    peer = Peer()
    peer.request(1)
    peer.request(1, ends=block != "no end", fields=((":a" if block == "a pseudo-header" else "a", "b"),))
    assert peer.resets() == {1: ErrorCode.PROTOCOL_ERROR}


S, H = frames.SETTINGS, frames.HEADERS
FAULTS = {
    "no settings": (PREFACE + frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
    "push": (frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "enable_push": (frames.settings({frames.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    "a huge window": (frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
    "a small frame size": (frames.settings({frames.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
    "a part of a setting": (frame(S, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "settings in an acknowledgement": (frame(S, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(S, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "a short ping": (frame(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "a ping of a stream": (frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "data of the connection": (frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data of an idle stream": (frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a window of an idle stream": (frames.window_update(1, 1), ErrorCode.PROTOCOL_ERROR),
    "a window of 0": (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a window that is too large": (frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "a reset of an idle stream": (frames.reset(1, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "headers of the server's streams": (frame(H, 5, 2, b"\x82\x86\x84"), ErrorCode.PROTOCOL_ERROR),
    "headers of the connection": (frame(H, 5, 0, b"\x82\x86\x84"), ErrorCode.PROTOCOL_ERROR),
    "a stray continuation": (frame(frames.CONTINUATION, 4, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "an interrupted block": (frame(H, 0, 1, b"\x82") + frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a block of two streams": (
        frame(H, 0, 1, b"\x82") + frame(frames.CONTINUATION, 4, 3, b"\x86"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "padding over the frame": (frame(H, 0xC, 1, b"\x05\x82\x86\x84"), ErrorCode.PROTOCOL_ERROR),
    "no byte of padding": (frame(H, 0xC, 1), ErrorCode.PROTOCOL_ERROR),
    "a damaged block": (frame(H, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "an empty index": (frame(H, 5, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
    "a cut string": (frame(H, 5, 1, b"\x40\x05ab"), ErrorCode.COMPRESSION_ERROR),
    "a long frame": (frame(H, 5, 1, bytes(20_000)), ErrorCode.FRAME_SIZE_ERROR),
    "an earlier stream": (frame(H, 5, 5, b"\x82\x86\x84") + frame(H, 5, 3, b"\x82\x86\x84"), ErrorCode.PROTOCOL_ERROR),
    "headers of an answered stream": (
        frame(H, 5, 1, b"\x82\x86\x84") + frames.reset(1, ErrorCode.CANCEL) + frame(H, 5, 1, b"\x82\x86\x84"),
        ErrorCode.STREAM_CLOSED,
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_ends_the_connection_whole_or_byte_by_byte(case: str) -> None:
    data, code = FAULTS[case]
    greets = not data.startswith((PREFACE, b"GET"))
    for parts in ([data], [data[at : at + 1] for at in range(len(data))]):
        peer = Peer(greets=greets)
        for part in parts:
            peer.send(part)
        assert peer.goaway() is code
        assert peer.server.fault is not None
        assert peer.send(PREFACE) == [] and peer.sent() == []


def test_data_with_padding_over_the_frame_ends_the_connection() -> None:
    for payload in (b"", b"\x01", b"\x05abc"):
        peer = Peer()
        peer.request(1)
        peer.send(frame(frames.DATA, frames.PADDED, 1, payload))
        peer.send(b"\x05")
        assert peer.goaway() is ErrorCode.PROTOCOL_ERROR


def test_streams_fail_alone() -> None:
    peer = Peer()
    peer.request(1, ends=True)
    peer.data(1, b"x" * 500)
    peer.request(3)
    peer.send(frames.window_update(3, 0))
    peer.request(5)
    peer.send(frames.window_update(5, 2**31 - 1))
    peer.request(7)
    peer.send(frame(frames.PRIORITY, 0, 7, b"\0\0\0\x07\x10"))
    assert peer.resets() == {
        1: ErrorCode.STREAM_CLOSED,
        3: ErrorCode.PROTOCOL_ERROR,
        5: ErrorCode.FLOW_CONTROL_ERROR,
        7: ErrorCode.PROTOCOL_ERROR,
    }
    assert peer.server.fault is None
