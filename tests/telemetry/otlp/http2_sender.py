"""A sender of single HTTP/2 frames (RFC 9113), for requests that no gRPC library would make."""

from __future__ import annotations

import socket

from hpack import Decoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Http2Sender:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.sock.sendall(PREFACE + _frame(4, 0, 0, b""))
        self._decoder = Decoder()

    def __enter__(self) -> Http2Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def headers(self, stream: int, path: str, encoding: str = "identity", **others: str) -> None:
        """Begin a gRPC request; an underscore in the name of a header stands for a hyphen."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "agent",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-encoding": encoding,
        } | {name.replace("_", "-"): value for name, value in others.items()}
        # RFC 7541 section 6.2.2: literals that are not indexed.
        block = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())
        self.sock.sendall(_frame(1, 4, stream, block))

    def data(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """Send a part of the body."""
        self.sock.sendall(_frame(0, 1 if ends else 0, stream, data))

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Send any frame."""
        self.sock.sendall(_frame(kind, flags, stream, payload))

    def receive(self) -> tuple[int, int, int, bytes] | None:
        """The server's next frame: type, flags, stream and payload; None at the end of the connection."""
        try:
            head = self._exactly(9)
            return head[3], head[4], int.from_bytes(head[5:], "big"), self._exactly(int.from_bytes(head[:3], "big"))
        except (EOFError, ConnectionResetError):
            return None

    def answer(self, stream: int) -> dict[str, str]:
        """Headers and trailers of an answer."""
        found: dict[str, str] = {}
        while (frame := self.receive()) is not None:
            kind, flags, its_stream, payload = frame
            if kind == 1:
                fields = {str(name): str(value) for name, value in self._decoder.decode(payload)}
                if its_stream == stream:
                    found |= fields
                    if flags & 1:
                        return found
        raise AssertionError("the connection has ended without an answer")

    def is_closed(self) -> bool:
        """Wait until the server closes the connection."""
        while self.receive() is not None:
            pass
        return True

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _string(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()
