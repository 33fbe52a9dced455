"""Binary frames (extension `binary_telemetry`): a `TelemetryFrame` of `proto/` becomes a batch. Pure."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from syntra.controlplane.telemetry import lines, otlp_index
from syntra.controlplane.telemetry.blocks import Batch, Block, Form, Kind
from syntra.controlplane.telemetry.compression import compressed, decompressed
from syntra.model.errors import InvalidField
from syntra.telemetry.wire import telemetry_pb2 as wire

LONGEST_ID = 256

_KINDS = {
    wire.SIGNAL_TRACES: (Kind.TRACES, Form.OTLP),
    wire.SIGNAL_METRICS: (Kind.METRICS, Form.OTLP),
    wire.SIGNAL_LOGS: (Kind.LOGS, Form.OTLP),
    wire.SIGNAL_ERRORS: (Kind.ERRORS, Form.LINES),
    wire.SIGNAL_HEALTH_CHECKS: (Kind.HEALTH_CHECKS, Form.LINES),
}


def envelope(frame: bytes) -> wire.TelemetryFrame:
    """Decode the frame itself, not its data. Raises InvalidField when no batch can be told from it."""
    try:
        decoded = wire.TelemetryFrame.FromString(frame)
    except DecodeError as exc:
        raise InvalidField("frame", "is not a TelemetryFrame") from exc
    if not 0 < len(decoded.batch_id) <= LONGEST_ID:
        raise InvalidField("batch_id", f"has not between 1 and {LONGEST_ID} characters")
    return decoded


def batch(frame: wire.TelemetryFrame, limit: int, received_ns: int) -> Batch:
    """Check a frame and index its data, of at most `limit` bytes when decompressed. Raises InvalidField."""
    known = _KINDS.get(frame.signal)
    if known is None:
        raise InvalidField("signal", f"{frame.signal} is not stored by this control plane")
    kind, form = known
    match frame.compression:
        case wire.COMPRESSION_ZSTD:
            data, raw = frame.data, decompressed(frame.data, limit)
        case wire.COMPRESSION_NONE:
            if len(frame.data) > limit:
                raise InvalidField("data", f"has more than {limit} bytes")
            data, raw = compressed(frame.data), frame.data
        case other:
            raise InvalidField("compression", f"{other} is unknown")
    contents = (otlp_index if form is Form.OTLP else lines).index(kind, raw, received_ns)
    block = Block(kind=kind, form=form, contents=contents, raw_bytes=len(raw), data=data)
    return Batch(batch_id=frame.batch_id, blocks=(block,))
