"""The decoder of chunked bodies: whole, byte by byte, cut at every index, and malformed."""

from __future__ import annotations

import pytest

from syntra.telemetry.otlp.chunked import ChunkedDecoder
from syntra.telemetry.otlp.request_head import HttpRefusal

ENCODED = b'5\r\nhello\r\n0A;a=b;c="d e"\r\n, 10 bytes\r\n1 \r\n!\r\n000\r\nTrailer: x\r\nOther:\r\n\r\n'
BODY = b"hello, 10 bytes!"


def decoded(*parts: bytes) -> tuple[bytes, bool, bytes]:
    decoder = ChunkedDecoder()
    body = b""
    for part in parts:
        assert not decoder.is_done
        body += b"".join(decoder.feed(part))
    return body, decoder.is_done, decoder.remainder


def test_a_whole_body() -> None:
    assert decoded(ENCODED + b"GET /") == (BODY, True, b"GET /")


def test_a_body_byte_by_byte() -> None:
    assert decoded(*(bytes([byte]) for byte in ENCODED)) == (BODY, True, b"")


def test_a_body_cut_at_every_index() -> None:
    for at in range(1, len(ENCODED)):
        assert decoded(ENCODED[:at], ENCODED[at:] + b"next") == (BODY, True, b"next")
        assert not decoded(ENCODED[:at])[1]


@pytest.mark.parametrize(
    "encoded",
    [
        b"\r\nhello\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1\nx\n",
        b"\n",
        b"5\rhello\r\n",
        b"1;a=\x00\r\n",
        b"f" * 16 + b"\r\n",
        b"1\r\nxx\r\n",
        b"1\r\nx\n1\r\n",
        b"1;" + b"a" * 5000,
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\n" + b"A: " + b"b" * 5000,
        b"0\r\n" + b"A: bbbbbbbbbbbbbbbb\r\n" * 1000,
        b"".join(b"1;%s\r\nx\r\n" % (b"a" * 4000) for _ in range(300)),
    ],
)
def test_a_malformed_body_is_refused(encoded: bytes) -> None:
    with pytest.raises(HttpRefusal) as whole:
        decoded(encoded)
    assert whole.value.status == 400
    with pytest.raises(HttpRefusal):
        decoded(*(encoded[at : at + 1] for at in range(len(encoded))))
