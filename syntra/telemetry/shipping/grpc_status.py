"""Statuses of gRPC calls: out of trailers, out of HTTP answers that are no gRPC, and out of resets. Pure.

gRPC's PROTOCOL-HTTP2.md has trailers and resets, its http-grpc-status-mapping.md the statuses of HTTP.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from enum import IntEnum
from urllib.parse import unquote_to_bytes

from h2.errors import ErrorCodes

from syntra.utils.frozen import frozen


class Code(IntEnum):
    """The codes, by their names in gRPC's statuscodes.md."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_OF_HTTP = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    "429": Code.UNAVAILABLE,
    "502": Code.UNAVAILABLE,
    "503": Code.UNAVAILABLE,
    "504": Code.UNAVAILABLE,
}
_OF_RESET = {
    ErrorCodes.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCodes.CANCEL: Code.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


@frozen
class Status:
    """How a call ended. `details` is an encoded google.rpc.Status, or empty."""

    code: Code
    message: str = ""
    details: bytes = b""


def of_answer(fields: Mapping[bytes, bytes]) -> Status:
    """The status of a complete answer; `fields` are its headers and trailers together, `:status` included."""
    if b"grpc-status" not in fields:
        http_status = fields.get(b":status", b"").decode("latin-1")
        if http_status == "200":
            return Status(code=Code.UNKNOWN, message="the answer has no gRPC status")
        return Status(code=_OF_HTTP.get(http_status, Code.UNKNOWN), message=f"HTTP {http_status}")
    number = fields[b"grpc-status"]
    known = number.isdigit() and len(number) <= 2 and int(number) <= max(Code)
    message = unquote_to_bytes(fields.get(b"grpc-message", b"")).decode("utf-8", "replace")
    return Status(
        code=Code(int(number)) if known else Code.UNKNOWN,
        message=message,
        details=_binary(fields.get(b"grpc-status-details-bin", b"")),
    )


def of_reset(error: int) -> Status:
    """The status of a call whose stream the peer has reset with this error code of HTTP/2."""
    try:
        known = ErrorCodes(error)
    except ValueError:
        return Status(code=Code.INTERNAL, message=f"the peer has reset the call with the unknown error {error}")
    return Status(code=_OF_RESET.get(known, Code.INTERNAL), message=f"the peer has reset the call with {known.name}")


def _binary(value: bytes) -> bytes:
    """The value of a header whose name ends in `-bin`: base64 with or without padding."""
    try:
        return b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return b""
