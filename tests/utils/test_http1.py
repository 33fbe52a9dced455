"""The response parser under every cut and every early end, and the request encoder's refusals."""

from __future__ import annotations

import pytest

from syntra.utils.http1 import (
    MAX_CHUNK_LINE_BYTES,
    MAX_HEAD_BYTES,
    Data,
    End,
    Event,
    FailureKind,
    Head,
    ResponseParser,
    encode_request,
)
from tests.runtime.docker.cuts import every_cut

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a:  2 \r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;name=value\r\nhello\r\nA\r\n, world...\r\n0\r\nTrailer: x\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\nhello"
NO_BODY = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH
EMPTY = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
NO_REASON = b"HTTP/1.1 304\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nraw bytes"


def run(parts: list[bytes], *, method: str = "GET", eof: bool = False) -> tuple[ResponseParser, list[Event]]:
    parser = ResponseParser(method)
    events = [event for part in parts for event in parser.feed(part)]
    return parser, events + (parser.feed_eof() if eof else [])


def summary(events: list[Event]) -> tuple[int | None, bytes, bool]:
    status = next((event.status for event in events if isinstance(event, Head)), None)
    body = b"".join(event.payload for event in events if isinstance(event, Data))
    return status, body, bool(events) and isinstance(events[-1], End)


@pytest.mark.parametrize(
    ("raw", "status", "body", "keep_alive"),
    [
        (LENGTH, 200, b"hello", True),
        (CHUNKED, 200, b"hello, world...", True),
        (NO_BODY, 204, b"", False),
        (INTERIM, 200, b"hello", True),
        (EMPTY, 201, b"", True),
        (NO_REASON, 304, b"", True),
    ],
)
def test_a_delimited_response_reads_the_same_however_it_is_cut(
    raw: bytes, status: int, body: bytes, keep_alive: bool
) -> None:
    for parts in every_cut(raw):
        parser, events = run(parts)
        assert summary(events) == (status, body, True), parts
        assert parser.failure is None
        assert parser.keep_alive is keep_alive
        assert parser.take_trailing() == b""
        assert parser.feed_eof() == []
        assert parser.failure is None


@pytest.mark.parametrize("raw", [LENGTH, CHUNKED, NO_BODY, INTERIM, EMPTY])
def test_an_end_at_any_index_is_a_failure_and_never_an_end(raw: bytes) -> None:
    for index in range(len(raw)):
        parser, events = run([raw[:index]], eof=True)
        assert not any(isinstance(event, End) for event in events)
        assert parser.failure is not None
        head_read = any(isinstance(event, Head) for event in events)
        if index == 0:
            assert parser.failure.kind is FailureKind.NO_RESPONSE
        elif head_read:
            assert parser.failure.kind is FailureKind.BODY_CUT
        else:
            assert parser.failure.kind in (FailureKind.HEAD_CUT, FailureKind.NO_RESPONSE)


def test_a_body_without_length_ends_with_the_connection() -> None:
    for parts in every_cut(UNTIL_CLOSE):
        parser, events = run(parts)
        assert summary(events) == (200, b"hello", False)
        parser, events = run(parts, eof=True)
        assert summary(events) == (200, b"hello", True)
        assert not parser.keep_alive


def test_bytes_behind_an_upgrade_stay_accessible() -> None:
    for parts in every_cut(UPGRADE):
        parser, events = run(parts)
        assert [type(event) for event in events] == [Head]
        assert parser.upgraded
        assert parser.take_trailing() == b"raw bytes"
        assert parser.take_trailing() == b""


def test_bytes_behind_a_complete_response_stay_accessible() -> None:
    parser, events = run([LENGTH + b"extra"])
    assert summary(events) == (200, b"hello", True)
    assert parser.take_trailing() == b"extra"


def test_repeated_headers_are_joined_and_names_are_lower_case() -> None:
    _, events = run([LENGTH])
    assert events[0] == Head(status=200, headers={"content-length": "5", "x-a": "1, 2"})


def test_an_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    parser, events = run([b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"], method="HEAD")
    assert summary(events) == (200, b"", True)
    assert parser.keep_alive


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: x\nB: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: x\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_malformed_response_is_a_failure_however_it_is_cut(raw: bytes) -> None:
    whole = summary(run([raw])[1])
    for parts in every_cut(raw):
        parser, events = run(parts)
        assert parser.failure is not None
        assert parser.failure.kind is FailureKind.MALFORMED
        assert not parser.keep_alive
        assert summary(events) == whole
        assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\n") == []


def test_two_opinions_about_the_length_end_the_connection() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    parser, events = run([raw])
    assert summary(events) == (200, b"ok", True)
    assert not parser.keep_alive


def test_endless_heads_and_chunk_lines_are_refused() -> None:
    parser, _ = run([b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD_BYTES])
    assert parser.failure is not None
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;"
    parser, _ = run([start + b"x" * (MAX_CHUNK_LINE_BYTES + 1)])
    assert parser.failure is not None


def test_a_request_is_encoded_with_its_length() -> None:
    raw = encode_request("POST", "/v1.41/a?b=c", {"Host": "docker"}, b"{}")
    assert raw == b"POST /v1.41/a?b=c HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n{}"
    assert encode_request("GET", "/", {}) == b"GET / HTTP/1.1\r\n\r\n"
    assert b"Content-Length: 0" in encode_request("POST", "/", {}, b"")


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET /x", "/", {}),
        ("GET", "/a b", {}),
        ("GET", "/a\r\nX: y", {}),
        ("GET", "a", {}),
        ("GET", "/é", {}),
        ("GET", "/", {"X": "a\r\nY: b"}),
        ("GET", "/", {"X": "a\nb"}),
        ("GET", "/", {"X\r\nY": "b"}),
        ("GET", "/", {"X:": "b"}),
        ("GET", "/", {"X": "snow ☃"}),
        ("GET", "/", {"Content-Length": "3"}),
        ("GET", "/", {"Transfer-Encoding": "chunked"}),
    ],
)
def test_what_could_inject_a_header_is_refused(method: str, target: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot encode a request"):
        encode_request(method, target, headers)
