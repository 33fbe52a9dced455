"""Answers are read however their bytes arrive, and never beyond the limits."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from syntra.telemetry.collect.prometheus.answer import HEAD_MAX, Answer, BadAnswer

BODY = b"a 1\nb 2\n" * 3
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"


ANSWERS = {
    "length": HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY, 5),
    "gzip": HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(gzip.compress(BODY), 7),
    "after 103": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"Content-Length: 24\r\n\r\n" + BODY,
}


def fed(data: bytes, cuts: list[int], max_body: int = 1000) -> Answer:
    answer = Answer(max_body)
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        answer.feed(data[start:end])
    return answer


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_the_same_whole_byte_by_byte_and_cut_anywhere(data: bytes) -> None:
    for cuts in [[], list(range(1, len(data))), *([cut] for cut in range(1, len(data)))]:
        answer = fed(data, cuts)
        assert answer.is_done and answer.keeps_open and answer.status == 200
        assert answer.headers["content-type"] == "text/plain"
        assert answer.body() == BODY


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    answer = fed(HEAD + b"\r\n" + BODY, [])
    states = [answer.is_done]
    answer.end()
    assert [*states, answer.is_done] == [False, True]
    assert not answer.keeps_open and answer.body() == BODY


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_cut_is_no_answer(data: bytes) -> None:
    for cut in range(len(data)):
        answer = fed(data[:cut], [])
        assert not answer.is_done
        with pytest.raises(BadAnswer, match="before the answer was complete"):
            answer.end()


def test_bytes_behind_an_answer_end_the_connection() -> None:
    assert not fed(ANSWERS["length"] + b"x", []).keeps_open
    assert not fed(ANSWERS["chunked"] + b"x", []).keeps_open


@pytest.mark.parametrize("row", [b"Connection: close", b"Connection: Close, x"], ids=["close", "a list"])
def test_the_target_may_close(row: bytes) -> None:
    answer = fed(HEAD + row + b"\r\nContent-Length: 0\r\n\r\n", [])
    assert answer.is_done and not answer.keeps_open and answer.body() == b""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "header is malformed"),
        (HEAD + b"Content-Length: x\r\n\r\n", "length is not a number"),
        (HEAD + b"Content-Length: 5, 5\r\n\r\n", "length is not a number"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", "transfer encoding 'gzip' is not known"),
        (HEAD + b"Content-Encoding: br\r\n\r\n", "encoding 'br' is none that was asked for"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", "size of a chunk is malformed"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "longer than its size"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 5000, "too long"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 10_000, "trailers are too long"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * HEAD_MAX, "head is longer"),
        (HEAD + b"Content-Length: 1001\r\n\r\n", "larger than 1000 bytes"),
        (HEAD + b"\r\n" + b"x" * 1001, "larger than 1000 bytes"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\nno gzip at all", "gzip body is damaged"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x") + b"x", "bytes behind its end"),
    ],
    ids=range(16),
)
def test_what_breaks_the_rules_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadAnswer, match=reason):
        fed(data, [])


def test_a_bomb_costs_the_limit_and_no_more() -> None:
    bomb = gzip.compress(b"\0" * (1 << 24))
    answer = Answer(1 << 20)
    with pytest.raises(BadAnswer, match="larger than 1048576 bytes"):
        answer.feed(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)


def test_a_gzip_body_that_is_cut_is_refused() -> None:
    cut = gzip.compress(random.Random(1).randbytes(500))[:-9]
    answer = fed(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(cut) + cut, [])
    with pytest.raises(BadAnswer, match="gzip body is incomplete"):
        answer.body()


def test_large_gzip_bodies_come_whole() -> None:
    rng = random.Random(2)
    body = "".join(f"m{number} {rng.random()}\n" for number in range(50_000)).encode()
    packed = zlib.compressobj(wbits=31)
    data = packed.compress(body) + packed.flush()
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    for size in (1000, 65536, len(data)):
        answer = Answer(1 << 24)
        answer.feed(head)
        for at in range(0, len(data), size):
            answer.feed(data[at : at + size])
        assert answer.body() == body


def test_blanks_around_a_header_s_value_are_not_part_of_it() -> None:
    blanks = b" " * 30_000
    answer = fed(b"HTTP/1.1 200 OK\r\nContent-Type:" + blanks + b"x\t\r\nContent-Length: 0\r\n\r\n", [])
    assert answer.headers["content-type"] == "x"
    with pytest.raises(BadAnswer, match="header is malformed"):
        fed(b"HTTP/1.1 200 OK\r\nA:" + blanks + b"\0\r\n\r\n", [])
