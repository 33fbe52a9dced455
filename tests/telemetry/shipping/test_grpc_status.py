"""Statuses of gRPC calls, by the tables of gRPC's documents."""

from __future__ import annotations

import grpc
import pytest

from syntra.telemetry.shipping.grpc_status import Code, Status, of_answer, of_reset


def test_the_codes_are_those_of_grpc() -> None:
    assert {code.name: int(code) for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


@pytest.mark.parametrize(
    ("http_status", "code"),
    [
        (400, Code.INTERNAL),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.UNIMPLEMENTED),
        (429, Code.UNAVAILABLE),
        (500, Code.UNKNOWN),
        (502, Code.UNAVAILABLE),
        (503, Code.UNAVAILABLE),
        (504, Code.UNAVAILABLE),
    ],
)
def test_an_answer_that_is_no_grpc_has_the_status_of_its_http_status(http_status: int, code: Code) -> None:
    assert of_answer({b":status": str(http_status).encode()}) == Status(code=code, message=f"HTTP {http_status}")


@pytest.mark.parametrize("http_status", [b"", b"abc", b"-1", b"\xff"])
def test_a_status_of_http_that_is_none_is_unknown(http_status: bytes) -> None:
    assert of_answer({b":status": http_status}).code is Code.UNKNOWN


def test_an_answer_without_any_status_is_unknown() -> None:
    assert of_answer({b":status": b"200"}) == Status(code=Code.UNKNOWN, message="the answer has no gRPC status")


@pytest.mark.parametrize("number", [b"17", b"-1", b"x", b"", b"007", b"\xb2"])
def test_a_number_that_is_no_code_is_unknown(number: bytes) -> None:
    assert of_answer({b":status": b"200", b"grpc-status": number}).code is Code.UNKNOWN


def test_the_status_of_grpc_counts_more_than_that_of_http() -> None:
    assert of_answer({b":status": b"503", b"grpc-status": b"16"}).code is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("encoded", "message"),
    [(b"a%20b%C3%A9", "a bé"), (b"100%", "100%"), (b"%zz", "%zz"), (b"%ff", "\ufffd"), (b"plain", "plain")],
)
def test_messages_are_percent_encoded_utf8(encoded: bytes, message: str) -> None:
    assert of_answer({b":status": b"200", b"grpc-status": b"13", b"grpc-message": encoded}).message == message


@pytest.mark.parametrize(("encoded", "details"), [(b"AQ", b"\1"), (b"AQ==", b"\1"), (b"AQID", b"\1\2\3"), (b"A", b"")])
def test_details_are_base64_with_or_without_padding(encoded: bytes, details: bytes) -> None:
    assert of_answer({b":status": b"200", b"grpc-status": b"8", b"grpc-status-details-bin": encoded}).details == details


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (0x7, Code.UNAVAILABLE, "REFUSED_STREAM"),
        (0x8, Code.CANCELLED, "CANCEL"),
        (0xB, Code.RESOURCE_EXHAUSTED, "ENHANCE_YOUR_CALM"),
        (0xC, Code.PERMISSION_DENIED, "INADEQUATE_SECURITY"),
        (0x2, Code.INTERNAL, "INTERNAL_ERROR"),
        (0x77, Code.INTERNAL, "the unknown error 119"),
    ],
)
def test_resets_have_a_status(error: int, code: Code, name: str) -> None:
    assert of_reset(error) == Status(code=code, message=f"the peer has reset the call with {name}")
