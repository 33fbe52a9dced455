"""What the HTTP receiver refuses: each status of the specification, with its body and headers."""

from __future__ import annotations

import gzip
import threading

import orjson
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]

from syntra.telemetry.intake import Overloaded
from syntra.telemetry.otlp.http_limits import HttpLimits
from syntra.telemetry.otlp.http_server import HttpReceiver
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.http_client import (
    ENCODINGS,
    JSON,
    LIMITS,
    PROTOBUF,
    RawClient,
    Response,
    chunked,
    post,
    receiver,
)
from tests.telemetry.otlp.small_intake import SmallIntake, bad_data


def refused(response: Response, status: int, content_type: str = JSON) -> None:
    assert response.status == status
    assert response.headers["content-type"] == content_type
    assert response.rpc_status.message


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_bad_data_is_400_with_the_field(client: RawClient, intake: SmallIntake, content_type: str) -> None:
    intake.error = bad_data()
    response = client.ask(post(b"{}", content_type=content_type))
    refused(response, 400, content_type)
    if content_type == PROTOBUF:
        details = BadRequest()
        assert response.rpc_status.details[0].Unpack(details)
        assert details.field_violations[0].field == "resource_spans[0].trace_id"
    else:
        [detail] = orjson.loads(response.body)["details"]
        assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
        assert detail["fieldViolations"][0]["field"] == "resource_spans[0].trace_id"
    intake.error = None
    assert client.ask(post(b"{}")).status == 200


def test_json_and_compression_that_cannot_be_decoded_are_400(client: RawClient, intake: SmallIntake) -> None:
    refused(client.ask(post(b"[", content_type=JSON)), 400)
    assert intake.refusals[Signal.TRACES, "bad_data"] == 1
    response = client.ask(post(b"not gzip", headers="Content-Encoding: gzip\r\n"))
    refused(response, 400, PROTOBUF)
    assert client.is_closed() or response.headers.get("connection") != "close"


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_overload_is_503_with_the_time_to_wait(client: RawClient, intake: SmallIntake, content_type: str) -> None:
    intake.error = Overloaded("the ring is full", 2.5)
    response = client.ask(post(b"{}", content_type=content_type))
    refused(response, 503, content_type)
    assert response.headers["retry-after"] == "3"
    if content_type == PROTOBUF:
        details = RetryInfo()
        assert response.rpc_status.details[0].Unpack(details)
        assert details.retry_delay.ToMilliseconds() == 2500
    else:
        assert orjson.loads(response.body)["details"][0]["retryDelay"] == "2.500s"


@pytest.mark.parametrize("size", [1000, 60_000])
def test_over_the_budget_the_body_stays_unread_and_the_next_request_works(
    server: HttpReceiver, intake: SmallIntake, size: int
) -> None:
    with intake.reserve(399_500), RawClient(server.port) as client:
        response = client.ask(post(b"x" * size))
        refused(response, 503, PROTOBUF)
        assert response.headers["retry-after"] == "2"
        assert intake.refusals[Signal.TRACES, "overloaded"] == 1
        if size > LIMITS.drain_bytes:
            assert response.headers["connection"] == "close"
            assert client.is_closed()
            return
        assert client.ask(post(b"x" * 100)).status == 200


def test_over_the_budget_while_decompressing_is_503(client: RawClient, intake: SmallIntake) -> None:
    intake.budget = 20_000
    packed = gzip.compress(bytes(50_000))
    refused(client.ask(post(packed, headers="Content-Encoding: gzip\r\n")), 503, PROTOBUF)
    assert intake.peak <= 20_000


def test_an_unexpected_error_is_retried_a_few_times_and_then_given_up(client: RawClient, intake: SmallIntake) -> None:
    intake.error = RuntimeError("a bug")
    assert [client.ask(post(b"poison")).status for _ in range(3)] == [503, 503, 500]
    assert client.ask(post(b"another")).status == 503
    intake.error = None
    assert client.ask(post(b"another")).status == 200


def test_a_bug_before_the_body_is_read_is_503(client: RawClient, intake: SmallIntake) -> None:
    intake.reserve_error = RuntimeError("a bug")
    refused(client.ask(post(b"x")), 503, PROTOBUF)
    assert client.is_closed()


def test_unknown_paths_are_404(client: RawClient) -> None:
    for path in ("/", "/v1/trace", "/v1/traces/", "/V1/traces"):
        refused(client.ask(post(b"x", path)), 404, PROTOBUF)
    refused(client.ask(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"), 404)


def test_other_methods_are_405_and_name_the_right_ones(client: RawClient) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "BREW"):
        response = client.ask(f"{method} /v1/traces HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        refused(response, 405)
        assert response.headers["allow"] == "POST"
    response = client.ask(post(b"x", "/healthz"))
    refused(response, 405, PROTOBUF)
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("where", ["head", "body", "chunks"])
def test_a_slow_sender_gets_408_at_an_absolute_deadline(intake: SmallIntake, where: str) -> None:
    server = receiver(intake, HttpLimits(head_secs=0.6, body_secs=0.6, idle_secs=30))
    port = server.listen("127.0.0.1")
    request = {"head": post(b"")[:-2], "body": post(b"x" * 50, length=100), "chunks": chunked(b"x" * 500)[:-5]}[where]
    start = 0 if where == "head" else request.index(b"\r\n\r\n") + 4
    ended = threading.Event()
    with RawClient(port) as client:
        client.send(request[:start])

        def trickle() -> None:
            for at in range(start, len(request)):
                if ended.wait(0.1):
                    return
                client.send(request[at : at + 1])

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            response = client.response()
        finally:
            ended.set()
            sender.join()
        refused(response, 408, JSON if where == "head" else PROTOBUF)
        assert response.headers["connection"] == "close"
        assert intake.refusals.total() == 1
    server.close(1.0)
    assert intake.received == []


def test_a_connection_that_waits_too_long_is_closed_without_an_answer(intake: SmallIntake) -> None:
    server = receiver(intake, HttpLimits(idle_secs=0.5))
    port = server.listen("127.0.0.1")
    with RawClient(port) as client:
        assert client.ask(post(b"x")).status == 200
        assert client.is_closed()
    server.close(1.0)


def test_a_post_without_a_length_is_411(client: RawClient) -> None:
    refused(client.ask(b"POST /v1/logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n{}"), 411)
    assert client.is_closed()


def test_413_by_length_by_chunks_and_after_decompression(server: HttpReceiver, intake: SmallIntake) -> None:
    large = b"x" * (LIMITS.max_request_bytes + 1)
    requests = [post(large), chunked(large, 5000)]
    requests += [post(ENCODINGS[name](large), headers=f"Content-Encoding: {name}\r\n") for name in ("gzip", "zstd")]
    for request in requests:
        with RawClient(server.port) as client:
            refused(client.ask(request), 413, PROTOBUF)
            assert client.is_closed()
    assert intake.refusals == {(Signal.TRACES, "too_large"): 4}
    assert intake.peak <= LIMITS.max_request_bytes * 9 // 8
    with RawClient(server.port) as client:
        assert client.ask(post(large[1:])).status == 200


def test_a_body_that_never_fits_into_the_memory_is_413_and_not_503(intake: SmallIntake) -> None:
    server = receiver(intake, HttpLimits(max_memory_bytes=90_000))
    port = server.listen("127.0.0.1")
    intake.budget = 90_000
    with RawClient(port) as client:
        refused(client.ask(post(b"x" * 80_001)), 413, PROTOBUF)
    with RawClient(port) as client:
        packed = gzip.compress(bytes(80_000))
        assert client.ask(post(packed, headers="Content-Encoding: gzip\r\n")).status == 200
    server.close(1.0)


def test_json_whose_objects_do_not_fit_into_memory_is_413(client: RawClient, intake: SmallIntake) -> None:
    refused(client.ask(post(b"{" + b"[]," * 3000, content_type=JSON)), 413)
    assert intake.received == []


def test_unknown_types_and_encodings_are_415(client: RawClient) -> None:
    for content_type in ("text/plain", "", "application/x-protobufx"):
        refused(client.ask(post(b"x", content_type=content_type)), 415)
    for encoding in ("br", "gzip, gzip", "snappy"):
        response = client.ask(post(b"x", headers=f"Content-Encoding: {encoding}\r\n"))
        refused(response, 415, PROTOBUF)
        assert response.headers["accept-encoding"] == "gzip, deflate, zstd"


def test_expect_continue_is_answered_before_the_body_comes(client: RawClient, intake: SmallIntake) -> None:
    for request in (
        post(b"body", headers="Expect: 100-Continue\r\n"),
        chunked(b"body", headers="Expect: 100-continue\r\n"),
    ):
        head, _, body = request.partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert client.response().status == 100
        assert client.ask(body).status == 200
    assert intake.bodies == [b"body", b"body"]
    assert client.ask(post(b"at once", headers="Expect: 100-continue\r\n")).status == 200


def test_a_refused_expectation_gets_no_continue(client: RawClient) -> None:
    response = client.ask(post(b"", headers="Expect: 100-continue\r\n", length=LIMITS.max_request_bytes + 1))
    refused(response, 413, PROTOBUF)
    assert client.is_closed()


def test_another_expectation_is_417(client: RawClient) -> None:
    refused(client.ask(post(b"x", headers="Expect: a miracle\r\n")), 417, PROTOBUF)


def test_long_heads_are_431_and_long_request_lines_414(server: HttpReceiver) -> None:
    with RawClient(server.port) as client:
        refused(client.ask(post(b"", headers=f"A: {'b' * 5000}\r\n")), 431)
        assert client.is_closed()
    with RawClient(server.port) as client:
        refused(client.ask(b"GET /" + b"a" * 5000), 414)


def test_malformed_requests_are_400_and_end_the_connection(server: HttpReceiver) -> None:
    smuggled = b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
    for request in (
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\n\n",
        post(b"x", headers="Content-Length: 1\r\n"),
        post(b"", headers=smuggled.decode()),
        b"POST /v1/traces HTTP/1.1\r\nHost: a\r\n" + smuggled + b"\r\n0\r\n\r\n",
    ):
        with RawClient(server.port) as client:
            response = client.ask(request)
            refused(response, 400, response.headers["content-type"])
            assert client.is_closed()
    with RawClient(server.port) as client:
        refused(client.ask(chunked(b"x").replace(b"1;", b"g;")), 400, PROTOBUF)
        assert client.is_closed()
