"""The strict parser of request heads."""

from __future__ import annotations

import pytest

from syntra.telemetry.otlp.request_head import HeadParser, HttpRefusal, parse_head

HEAD = (
    b"POST /v1/traces?x=1 HTTP/1.1\r\nHost: agent\r\nAccept: a\r\naccept:b\r\nContent-Type:\tapplication/json \r\n"
    b"Content-Length: 12\r\nX-Empty:"
)


def test_a_head_is_split_into_its_parts() -> None:
    head = parse_head(HEAD)
    assert (head.method, head.path, head.content_length) == ("POST", "/v1/traces", 12)
    assert head.headers == {"host": "agent", "accept": "a, b", "content-type": "application/json", "x-empty": ""}
    assert head.keeps_alive
    assert not head.is_chunked


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"POST /", 400),
        (b"POST  / HTTP/1.1\r\nHost: a", 400),
        (b"POST / HTTP/1.1 \r\nHost: a", 400),
        (b"PO(ST / HTTP/1.1\r\nHost: a", 400),
        (b"POST /a b HTTP/1.1\r\nHost: a", 400),
        (b"POST / HTTP/2.0\r\nHost: a", 505),
        (b"POST / HTTP/1.2\r\nHost: a", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"POST / HTTP/1.1", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b", 400),
        (b"POST / HTTP/1.1\r\nHost : a", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n folded", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nno colon", 400),
        (b"POST / HTTP/1.1\r\nHost: a\nContent-Length: 3", 400),
        (b"POST / HTTP/1.1\r\nHost: a\rb", 400),
        (b"POST / HTTP/1.1\r\nHost: a\x00b", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1" + b"0" * 20, 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity", 501),
        (b"POST / HTTP/1.1\r\nHost: a" + b"\r\nA: b" * 100, 431),
    ],
)
def test_a_head_that_servers_could_read_differently_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(HttpRefusal) as refusal:
        parse_head(head)
    assert refusal.value.status == status
    assert refusal.value.closes


def test_the_absolute_form_names_the_same_path() -> None:
    assert parse_head(b"GET http://agent:4318/healthz?a HTTP/1.1\r\nHost: agent").path == "/healthz"
    assert parse_head(b"GET http://agent HTTP/1.1\r\nHost: agent").path == "/"


@pytest.mark.parametrize(
    ("head", "keeps_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive", True),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", True),
    ],
)
def test_connection_headers_decide_whether_the_connection_stays(head: bytes, keeps_alive: bool) -> None:
    assert parse_head(head).keeps_alive is keeps_alive


def test_a_cut_head_is_never_accepted_with_another_length() -> None:
    for end in range(len(HEAD)):
        try:
            head = parse_head(HEAD[:end])
        except HttpRefusal:
            continue
        assert head.content_length in (None, 1, 12)
        assert head.path == "/v1/traces"


def test_the_parser_of_a_connection_gives_what_parsing_each_head_alone_gives() -> None:
    base = b"POST /v1/%s HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\nX: y"
    heads = [base % (path, length) for path in (b"logs", b"traces") for length in (b"1", b"22", b"333", b"4")]
    heads += [b"GET / HTTP/1.1\r\nHost: a", b"POST / HTTP/1.1\r\ncontent-length: 7\r\nHost: a"]
    parser = HeadParser()
    for head in [*heads, *reversed(heads), *heads]:
        assert parser.parse(head) == parse_head(head)
    for length in (b"", b"x", b"1\r\nContent-Length: 2", b"9" * 30, b"1 2"):
        parser.parse(heads[0])
        with pytest.raises(HttpRefusal):
            parser.parse(base % (b"logs", length))
