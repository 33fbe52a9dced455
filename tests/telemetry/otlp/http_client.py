"""A client that sends exactly the bytes that a test gives it, and reads responses strictly."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

import orjson
import zstandard
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from syntra.telemetry.otlp.http_limits import HttpLimits
from syntra.telemetry.otlp.http_server import HttpReceiver
from syntra.telemetry.otlp.responses import Encoding
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.small_intake import SmallIntake

PROTOBUF = Encoding.PROTOBUF.value
JSON = Encoding.JSON.value

LIMITS = HttpLimits(max_request_bytes=100_000, max_memory_bytes=400_000, max_head_bytes=4096, drain_bytes=50_000)
"""Of the receiver in `conftest`."""


class Response(NamedTuple):
    """A response; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def rpc_status(self) -> Status:
        """The google.rpc.Status in the body, in the encoding that Content-Type names."""
        assert int(self.headers["content-length"]) == len(self.body)
        if self.headers["content-type"] == PROTOBUF:
            return Status.FromString(self.body)
        assert self.headers["content-type"] == JSON
        document = orjson.loads(self.body)
        return Status(code=document["code"], message=document["message"])


class RawClient:
    """One connection."""

    def __init__(self, place: int | str, address: str = "127.0.0.1") -> None:
        if isinstance(place, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(20)
            self.sock.connect(place)
        else:
            self.sock = socket.create_connection((address, place), timeout=20)
        self._buffer = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_slowly(self, data: bytes, step: int = 1, pause: float = 0.0) -> None:
        """In parts of `step` bytes, each in a packet of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), step):
            self.sock.sendall(data[at : at + step])
            time.sleep(pause)

    def response(self, *, has_body: bool = True) -> Response:
        """Read one response. Raises EOFError when the connection is closed before it is complete."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0")) if has_body else 0
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Response(int(first.split(" ")[1]), headers, body)

    def ask(self, data: bytes) -> Response:
        """Send and read the response."""
        self.send(data)
        return self.response()

    def is_closed(self) -> bool:
        """Whether the receiver closes the connection, waiting for it."""
        assert not self._buffer
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(mark)
        return head

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data


def post(
    body: bytes,
    path: str = "/v1/traces",
    *,
    content_type: str = PROTOBUF,
    headers: str = "",
    length: int | None = None,
) -> bytes:
    """A POST with Content-Length; `headers` are whole lines."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Type: {content_type}\r\n{headers}"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode("latin-1") + body


def chunked(body: bytes, size: int = 7, *, path: str = "/v1/traces", headers: str = "", trailers: str = "") -> bytes:
    """A POST in chunks of `size` bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Type: {PROTOBUF}\r\n{headers}"
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return (
        head.encode()
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts)
        + f"0\r\n{trailers}\r\n".encode()
    )


def no_json(signal: Signal, body: bytes, reserve: Callable[[int], None]) -> Message:
    """A decoder for tests without JSON."""
    raise AssertionError(f"no test sends JSON for {signal}: {body!r}")


def receiver(intake: SmallIntake, limits: HttpLimits | None = None) -> HttpReceiver:
    """A receiver on a free port of loopback."""
    made = HttpReceiver(intake, no_json, port=0, limits=limits)
    made.listen("127.0.0.1")
    return made


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "zstd": zstandard.ZstdCompressor().compress,
}
