"""The server's half against the client's half of the library h2: requests of all shapes, with every interleaving."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived as GotData
from h2.events import ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syntra.telemetry.otlp.http2.connection import Http2Connection
from syntra.telemetry.otlp.http2.events import Event, RequestEnded
from syntra.telemetry.otlp.http2.headers import encode_headers
from syntra.telemetry.otlp.http2.limits import Http2Limits
from tests.telemetry.otlp.http2.peer import bodies, copied

HEADERS = encode_headers([(":status", "200"), ("content-type", "application/grpc")])
TRAILERS = encode_headers([("grpc-status", "0")])
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "agent")]


class Pair:
    """A client and a server that exchange bytes in parts of any size."""

    def __init__(self, limits: Http2Limits, window: int, part: int) -> None:
        self.client = H2Connection(H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.server = Http2Connection(limits)
        self.part = part
        self.events: list[Event] = []
        self.responses: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.trailers: dict[int, bytes] = {}

    def exchange(self) -> None:
        """Until both are silent."""
        while True:
            up, down = self.client.data_to_send(), self.server.take_output()
            if not up and not down:
                return
            for at in range(0, len(up), self.part):
                for event in self.server.receive(up[at : at + self.part]):
                    self.events.append(copied(event))
                    if isinstance(event, RequestEnded):
                        body = bodies(self.events)[event.stream]
                        self.server.respond(event.stream, HEADERS, b"echo " + body, TRAILERS)
            for at in range(0, len(down), self.part):
                self._receive(down[at : at + self.part])

    def _receive(self, data: bytes) -> None:
        for event in self.client.receive_data(data):
            match event:
                case ResponseReceived():
                    assert dict(event.headers)[b":status"] == b"200"
                    self.responses[event.stream_id] = b""
                case GotData():
                    self.responses[event.stream_id] += event.data
                    self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case TrailersReceived():
                    self.trailers[event.stream_id] = dict(event.headers)[b"grpc-status"]
                case StreamEnded():
                    self.ended.add(event.stream_id)
                case StreamReset():
                    raise AssertionError(event)

    def send(self, stream: int, body: bytes, padding: int | None) -> bool:
        """Send what the server's windows allow of a body; returns whether that is all of it."""
        while body:
            extra = 0 if padding is None else padding + 1
            room = self.client.local_flow_control_window(stream) - extra
            size = min(room, self.client.max_outbound_frame_size - extra, len(body))
            if size <= 0:
                self.exchange()
                continue
            self.client.send_data(stream, body[:size], pad_length=padding)
            body = body[size:]
        self.client.end_stream(stream)
        return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(
        st.tuples(
            st.binary(max_size=3000),
            st.none() | st.integers(0, 255),
            st.dictionaries(
                st.from_regex(r"[a-z][a-z-]{0,9}", fullmatch=True).filter(
                    lambda name: (
                        name not in ("te", "connection", "upgrade", "keep-alive", "content-length", "cookie", "host")
                    )
                ),
                st.from_regex(r"[!-~]{0,20}", fullmatch=True),
                max_size=5,
            ),
        ),
        min_size=1,
        max_size=8,
    ),
    window=st.integers(1, 5000),
    part=st.integers(1, 4000),
    server_window=st.integers(600, 5000),
)
def test_requests_and_answers_arrive(
    requests: list[tuple[bytes, int | None, dict[str, str]]], window: int, part: int, server_window: int
) -> None:
    limits = Http2Limits(stream_window_bytes=server_window, max_frame_bytes=2**14)
    pair = Pair(limits, window, part)
    pair.exchange()
    sent = {}
    for number, (body, padding, fields) in enumerate(requests):
        stream = 1 + 2 * number
        pair.client.send_headers(stream, [*REQUEST, *fields.items()])
        sent[stream] = body
        pair.send(stream, body, padding)
    pair.exchange()
    assert bodies(pair.events) == sent
    assert pair.responses == {stream: b"echo " + body for stream, body in sent.items()}
    assert pair.ended == set(sent) and set(pair.trailers.values()) == {b"0"}
    assert pair.server.fault is None and not pair.server.has_streams
