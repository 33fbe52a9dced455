"""A sender of single HTTP/2 frames (RFC 9113), for requests that no gRPC library would make."""

from __future__ import annotations

import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Http2Sender:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.sock.sendall(PREFACE + _frame(4, 0, 0, b""))

    def __enter__(self) -> Http2Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def headers(self, stream: int, path: str, encoding: str = "identity") -> None:
        """Begin a gRPC request."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "agent",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-encoding": encoding,
        }
        # RFC 7541 section 6.2.2: literals that are not indexed.
        block = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())
        self.sock.sendall(_frame(1, 4, stream, block))

    def data(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """Send a part of the body."""
        self.sock.sendall(_frame(0, 1 if ends else 0, stream, data))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _string(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()
