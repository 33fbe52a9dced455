"""Answers of the receivers: outcomes and errors as HTTP responses and gRPC statuses. Pure.

OTLP 1.11 §"OTLP/HTTP Response": the body of a success is an Export…ServiceResponse, and the body of every 4xx and 5xx
is a google.rpc.Status, both in the encoding of the request. Without a known encoding the answer is JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import orjson
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from syntra.telemetry.intake import BadData, Outcome, Overloaded
from syntra.telemetry.signals import Signal


class Encoding(Enum):
    """How the messages of a request and its response are encoded. The value is the content type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


class Answer(NamedTuple):
    """An HTTP response without the headers that the connection adds."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class RpcError(NamedTuple):
    """A gRPC status. `details` is the value of the trailer `grpc-status-details-bin`."""

    code: int
    message: str
    details: bytes


INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
INTERNAL = 13
UNAVAILABLE = 14

MESSAGE_CHARACTERS = 1024
"""Texts for the sender are cut here, so no response is near the 4 MiB that OTLP allows."""

_CODES = {
    400: INVALID_ARGUMENT,
    403: 7,
    404: 5,
    405: 12,
    408: DEADLINE_EXCEEDED,
    411: INVALID_ARGUMENT,
    413: RESOURCE_EXHAUSTED,
    414: RESOURCE_EXHAUSTED,
    415: INVALID_ARGUMENT,
    417: INVALID_ARGUMENT,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    500: INTERNAL,
    501: 12,
    503: UNAVAILABLE,
    505: 12,
}
"""The google.rpc.Code for each HTTP status in use."""

_UNKNOWN = 2
_TYPE_URL = "type.googleapis.com/"

_RESPONSES: dict[Signal, tuple[type[Message], str]] = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records"),
    Signal.PROFILES: (ExportProfilesServiceResponse, "rejected_profiles"),
}

_EMPTY = {
    Encoding.PROTOBUF: Answer(200, Encoding.PROTOBUF.value, b""),
    Encoding.JSON: Answer(200, Encoding.JSON.value, b"{}"),
}


def success(signal: Signal, outcome: Outcome, encoding: Encoding) -> Answer:
    """200 with an Export…ServiceResponse; `partial_success` is unset when nothing was rejected and nothing is said."""
    if not outcome.rejected and not outcome.message:
        return _EMPTY[encoding]
    if encoding is Encoding.PROTOBUF:
        return Answer(200, encoding.value, export_response(signal, outcome))
    partial: dict[str, str] = {}
    if outcome.rejected:
        # Protobuf's JSON has 64-bit integers as strings.
        partial[_camel(_RESPONSES[signal][1])] = str(outcome.rejected)
    if outcome.message:
        partial["errorMessage"] = _cut(outcome.message)
    return Answer(200, encoding.value, orjson.dumps({"partialSuccess": partial}))


def export_response(signal: Signal, outcome: Outcome) -> bytes:
    """The encoded Export…ServiceResponse: no bytes when everything was accepted."""
    if not outcome.rejected and not outcome.message:
        return b""
    kind, field = _RESPONSES[signal]
    partial = {field: outcome.rejected, "error_message": _cut(outcome.message)}
    return kind(partial_success=partial).SerializeToString()


def refusal(
    status: int,
    message: str,
    encoding: Encoding | None,
    *,
    headers: tuple[tuple[str, str], ...] = (),
    details: Sequence[Message] = (),
) -> Answer:
    """A 4xx or 5xx with a google.rpc.Status; JSON when the encoding of the request is unknown."""
    code = _CODES.get(status, _UNKNOWN)
    if encoding is Encoding.PROTOBUF:
        return Answer(status, encoding.value, _status(code, message, details), headers)
    document: dict[str, object] = {"code": code, "message": _cut(message)}
    if details:
        document["details"] = [_detail_document(detail) for detail in details]
    return Answer(status, Encoding.JSON.value, orjson.dumps(document), headers)


def bad_data(error: BadData, encoding: Encoding | None) -> Answer:
    """400 with BadRequest details: the sender must not try again."""
    return refusal(400, str(error), encoding, details=[_violation(error)])


def overloaded(error: Overloaded, encoding: Encoding | None) -> Answer:
    """503 with RetryInfo and Retry-After in whole seconds: the sender tries again later."""
    headers = (("Retry-After", str(retry_after(error.retry_secs))),)
    return refusal(503, str(error), encoding, headers=headers, details=[_retry_info(error.retry_secs)])


def retry_after(retry_secs: float) -> int:
    """Whole seconds for the header Retry-After, at least one."""
    return max(1, math.ceil(retry_secs))


def rpc_bad_data(error: BadData) -> RpcError:
    """INVALID_ARGUMENT with BadRequest details."""
    return rpc_error(INVALID_ARGUMENT, str(error), [_violation(error)])


def rpc_overloaded(error: Overloaded) -> RpcError:
    """UNAVAILABLE with RetryInfo. RESOURCE_EXHAUSTED would make many senders drop the data."""
    return rpc_error(UNAVAILABLE, str(error), [_retry_info(error.retry_secs)])


def rpc_internal(message: str) -> RpcError:
    """INTERNAL: the sender drops the data."""
    return rpc_error(INTERNAL, message)


def rpc_error(code: int, message: str, details: Sequence[Message] = ()) -> RpcError:
    """A status of any code."""
    return RpcError(code, _cut(message), _status(code, message, details))


def _status(code: int, message: str, details: Sequence[Message]) -> bytes:
    status = Status(code=code, message=_cut(message))
    for detail in details:
        status.details.add().Pack(detail)
    encoded: bytes = status.SerializeToString()
    return encoded


def _violation(error: BadData) -> BadRequest:
    violation = BadRequest.FieldViolation(field=error.field, description=_cut(str(error)))
    return BadRequest(field_violations=[violation])


def _retry_info(retry_secs: float) -> RetryInfo:
    info = RetryInfo()
    info.retry_delay.FromNanoseconds(max(0, int(retry_secs * 1e9)))
    return info


def _detail_document(detail: Message) -> dict[str, object]:
    document: dict[str, object] = {"@type": _TYPE_URL + detail.DESCRIPTOR.full_name}
    if isinstance(detail, RetryInfo):
        document["retryDelay"] = detail.retry_delay.ToJsonString()
    elif isinstance(detail, BadRequest):
        document["fieldViolations"] = [
            {"field": violation.field, "description": violation.description} for violation in detail.field_violations
        ]
    return document


def _cut(message: str) -> str:
    # Messages may quote the sender; lone surrogates have no place in protobuf or JSON.
    return message[:MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
