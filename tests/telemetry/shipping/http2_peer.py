"""A gRPC endpoint that does what a test says, built on the server's half of h2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, PingAckReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes, Settings

OK = [("grpc-status", "0")]
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
EMPTY_MESSAGE = bytes(5)


class Http2Peer(asyncio.Protocol):
    """One connection. `answer` is called with each request. Without `reads`, it never opens its windows again."""

    def __init__(
        self, peers: list[Http2Peer], settings: dict[SettingCodes, int], answer: Answer, *, reads: bool
    ) -> None:
        self.http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.http2.local_settings = Settings(client=False, initial_values=settings)
        self.http2.max_inbound_frame_size = self.http2.local_settings.max_frame_size
        self.bodies: dict[int, bytes] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.most_at_once = 0
        self.transport: asyncio.Transport | None = None
        self.pongs: list[bytes] = []
        self._reads = reads
        self._answer = answer
        peers.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.http2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.http2.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self.bodies[event.stream_id] = b""
                self.headers[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                self.most_at_once = max(self.most_at_once, self.http2.open_inbound_streams)
            case DataReceived():
                self.bodies[event.stream_id] += event.data
                if self._reads:
                    self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case PingAckReceived():
                self.pongs.append(event.ping_data)
            case StreamEnded():
                self._answer(self, event.stream_id)

    def succeed(self, stream: int, body: bytes = EMPTY_MESSAGE) -> None:
        """Answer a request with OK."""
        self.http2.send_headers(stream, HEAD)
        self.http2.send_data(stream, body)
        self.http2.send_headers(stream, OK, end_stream=True)

    def flush(self) -> None:
        """Send what h2 has."""
        if self.transport is not None:
            self.transport.write(self.http2.data_to_send())

    def write(self, data: bytes) -> None:
        """Send bytes that h2 does not know of."""
        assert self.transport is not None
        self.transport.write(data)

    def drop(self) -> None:
        """Reset the connection."""
        assert self.transport is not None
        self.transport.abort()


Answer = Callable[[Http2Peer, int], None]


def succeed(peer: Http2Peer, stream: int) -> None:
    """The usual answer."""
    peer.succeed(stream)


@asynccontextmanager
async def http2_peers(
    answer: Answer = succeed, settings: dict[SettingCodes, int] | None = None, *, reads: bool = True
) -> AsyncIterator[tuple[str, list[Http2Peer]]]:
    """Listen on loopback until the context ends: the URL, and a growing list of its connections."""
    peers: list[Http2Peer] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Http2Peer(peers, settings or {}, answer, reads=reads), "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", peers
    finally:
        server.close()
        for peer in peers:
            peer.drop()
        await server.wait_closed()
