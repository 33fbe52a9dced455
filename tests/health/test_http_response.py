"""One HTTP response, however it is cut: the same status, the same body, the same end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syntra.health.http_response import MAX_BODY, MAX_EXCERPT, MAX_HEAD, HttpResponse, MalformedResponse

# Wire bytes, status, body; whether the response ends by itself.
WHOLE: dict[str, tuple[bytes, int, str, bool]] = {
    "length": (b"HTTP/1.1 500 Oh no\r\nContent-Length: 5\r\n\r\nhello", 500, "hello", True),
    "no body": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, "", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, "", True),
    "not modified with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", True),
    "until the end": (b"HTTP/1.0 503 Unavailable\r\nServer: x\r\n\r\nwarming\nup", 503, "warming\nup", False),
    "chunked": (
        b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n6;ext=1\r\npedia!\r\n0\r\n\r\n",
        500,
        "wikipedia!",
        True,
    ),
    "chunked wins over a length": (
        b"HTTP/1.1 500 X\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        500,
        "0123456789",
        True,
    ),
    "bare line feeds": (b"HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno", 404, "no", True),
    "no reason": (b"HTTP/1.1 302\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, "", True),
    "interim first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!",
        200,
        "!",
        True,
    ),
    "switching": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "", True),
    "broken chunk size": (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 500, "", True),
    "broken chunk end": (
        b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabXY\r\n0\r\n\r\n",
        500,
        "ab",
        True,
    ),
    "nonsense length": (b"HTTP/1.1 500 X\r\nContent-Length: +5\r\n\r\nhello", 500, "hello", False),
    "latin-1 header": (b"HTTP/1.1 500 X\r\nX: \xff\r\nContent-Length: 1\r\n\r\n\xff", 500, "\ufffd", True),
}


def cuts(wire: bytes) -> Iterator[list[bytes]]:
    yield [wire]
    yield [wire[i : i + 1] for i in range(len(wire))]
    for index in range(1, len(wire)):
        yield [wire[:index], wire[index:]]


@pytest.mark.parametrize("name", WHOLE)
def test_a_response_reads_the_same_however_it_is_cut(name: str) -> None:
    wire, status, body, ends = WHOLE[name]
    for pieces in cuts(wire):
        response = HttpResponse()
        for piece in pieces:
            response.feed(piece)
        assert (response.status, response.excerpt, response.finished) == (status, body, ends)
        response.close()
        assert response.finished


@pytest.mark.parametrize("name", WHOLE)
def test_an_end_inside_the_head_is_an_error_and_inside_the_body_is_not(name: str) -> None:
    wire, status, body, _ = WHOLE[name]
    for index in range(len(wire)):
        response = HttpResponse()
        response.feed(wire[:index])
        if response.status is None:
            with pytest.raises(MalformedResponse, match="closed"):
                response.close()
        else:
            response.close()
            assert response.status == status and response.finished
            assert body.startswith(response.excerpt)


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.10 200 OK\r\n\r\n",
        "HTTP/1.1 ２００ OK\r\n\r\n".encode(),
        b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_said_to_be_so_however_it_is_cut(wire: bytes) -> None:
    for pieces in cuts(wire):
        response = HttpResponse()
        with pytest.raises(MalformedResponse, match="HTTP/1"):
            for piece in pieces:
                response.feed(piece)
        assert response.status is None


def test_an_endless_head_is_refused() -> None:
    response = HttpResponse()
    response.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(MalformedResponse, match="larger"):
        for _ in range(MAX_HEAD):
            response.feed(b"X: y\r\n")


def test_an_endless_body_ends_at_what_is_looked_at() -> None:
    response = HttpResponse()
    response.feed(b"HTTP/1.1 500 X\r\n\r\n")
    fed = 0
    while not response.finished:
        response.feed(b"x" * 1000)
        fed += 1000
    assert MAX_BODY <= fed <= MAX_BODY + 1000
    assert response.excerpt == "x" * MAX_EXCERPT


def test_an_endless_chunk_line_ends_the_body() -> None:
    response = HttpResponse()
    response.feed(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    response.feed(b"1;" + b"x" * 2000)
    assert response.finished


def test_what_follows_the_response_is_ignored() -> None:
    response = HttpResponse()
    response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 X\r\n\r\n")
    response.feed(b"more")
    assert (response.status, response.excerpt, response.finished) == (200, "ok", True)
