"""Limits and channel arguments of the gRPC receiver. Pure."""

from __future__ import annotations

from syntra.utils.frozen import frozen


@frozen
class GrpcLimits:
    """What senders may cost. grpcio enforces the size of a message before and after decompression."""

    max_request_bytes: int = 64 << 20
    max_connections: int = 512
    """On each address."""
    max_streams: int = 1000
    """Concurrent requests on one connection; the sender queues the others, except those it sends before it knows."""
    max_reading: int = 256
    """Requests whose message is on its way or waits for a slot, on all connections; UNAVAILABLE above."""
    read_slots: int = 8
    """Messages that grpcio receives and decompresses at the same time. It allocates before the size is known, so this
    number, not the budget of the intake, limits what compressed messages cost. The others wait."""
    read_secs: float = 60.0
    """From the start of a request until its message is complete."""
    slow_secs: float = 1.0
    """After this time a message gives its slot to the next one."""
    max_resident_bytes: int = 400 << 20
    """While the process is larger, slow messages are cancelled."""


def channel_arguments(limits: GrpcLimits) -> list[tuple[str, int | str]]:
    """The arguments of each server, by the names of gRPC's channel_arg_names.h."""
    return [
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.max_send_message_length", 4 << 20),
        ("grpc.max_concurrent_streams", limits.max_streams),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_metadata_size", 16 << 10),
        # With it a second process could listen on the same port and take half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", 10_000),
        # A sender that is gone without a word (a paused container, a cut network) is noticed within two minutes.
        ("grpc.keepalive_time_ms", 90_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # SDKs may ping more often than the default allows, which would end their connections.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.optimization_target", "throughput"),
    ]
