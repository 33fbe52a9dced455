"""Reads what an OTLP endpoint answers: partial success, error bodies, and how long to wait. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

MESSAGE_MAX = 300
"""Characters of a peer's text that are kept."""


def partial_success(body: bytes) -> tuple[int, str]:
    """Rejected items and the message of an Export…ServiceResponse of any signal; (0, "") when nothing was rejected.

    The four responses have the same field numbers. Another body is a success without details: the status said so.
    """
    if not body:
        return 0, ""
    try:
        answer = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return 0, ""
    return answer.rejected_spans, shortened(answer.error_message)


def status_of(data: bytes) -> tuple[str, float | None]:
    """The message of a google.rpc.Status, and the delay of its RetryInfo in seconds, if it has one."""
    try:
        status = Status.FromString(data)
    except DecodeError:
        return "", None
    delay = None
    for detail in status.details:
        info = RetryInfo()
        try:
            if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):
                delay = max(0.0, info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        except DecodeError:
            continue
    return shortened(status.message), delay


def error_message(content_type: str, body: bytes) -> tuple[str, float | None]:
    """What an error body says, and the delay of a RetryInfo in it."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-protobuf":
        return status_of(body)
    if kind.startswith("text/plain") or kind == "application/json":
        return shortened(body[: 4 * MESSAGE_MAX].decode("utf-8", "replace")), None
    return "", None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header: a number or a date (RFC 9110, 10.2.3). None without a valid one."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def shortened(text: str) -> str:
    """One printable line of limited length."""
    line = "".join(each if each.isprintable() else " " for each in text[: 4 * MESSAGE_MAX])
    return " ".join(line.split())[:MESSAGE_MAX]


def reason_of(error: Exception) -> str:
    """Why a request had no answer, for people. The text may have parts of the request in it."""
    certificate_fault = getattr(error, "verify_message", "")  # of ssl.SSLCertVerificationError
    if certificate_fault:
        return f"its certificate is not valid: {certificate_fault}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
