"""The HTTP receiver through real sockets: encodings, chunks, keep-alive, and each status of the specification."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Callable

import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.intake import Outcome
from syntra.telemetry.otlp.http_handler import PATHS
from syntra.telemetry.otlp.http_server import HttpReceiver
from tests.telemetry.otlp.http_client import (
    ENCODINGS,
    JSON,
    PROTOBUF,
    RawClient,
    chunked,
    post,
)
from tests.telemetry.otlp.small_intake import SmallIntake

BODY = b"an encoded request " * 50


@pytest.mark.parametrize("path", PATHS)
def test_each_path_has_its_signal(client: RawClient, intake: SmallIntake, path: str) -> None:
    response = client.ask(post(BODY, path))
    assert (response.status, response.body) == (200, b"")
    assert response.headers["content-type"] == PROTOBUF
    [(signal, body, source)] = intake.received
    assert (signal, body) == (PATHS[path], BODY)
    assert (source.address, source.transport) == ("127.0.0.1", "http")


@pytest.mark.parametrize("framing", ["length", "chunks", "one chunk", "bytes"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_and_framings_on_a_connection_that_stays(
    server: HttpReceiver, intake: SmallIntake, encoding: str, framing: str
) -> None:
    header = f"Content-Encoding: {encoding}\r\n"
    with RawClient(server.port) as client:
        for number in range(3):
            body = b"request %d " % number * (number * 40)
            packed = ENCODINGS[encoding](body)
            if framing in ("length", "bytes"):
                request = post(packed, headers=header)
            else:
                request = chunked(packed, 7 if framing == "chunks" else len(packed) or 1, headers=header)
            if framing == "bytes":
                client.send_slowly(request)
            else:
                client.send(request)
            assert client.response().status == 200
            assert intake.bodies[-1] == body
    assert len(intake.bodies) == 3


@pytest.mark.parametrize("encode", [post, chunked])
def test_a_request_cut_at_every_index_arrives_whole(
    client: RawClient, intake: SmallIntake, encode: Callable[[bytes], bytes]
) -> None:
    request = encode(b"a small body of some bytes")
    for at in range(1, len(request)):
        client.send_slowly(request[:at], len(request))
        client.send_slowly(request[at:], len(request))
        assert client.response().status == 200
    assert set(intake.bodies) == {b"a small body of some bytes"}


@pytest.mark.parametrize("encode", [post, chunked])
def test_a_request_that_ends_early_at_any_index_is_never_received(
    server: HttpReceiver, intake: SmallIntake, encode: Callable[[bytes], bytes]
) -> None:
    request = encode(b"some bytes")
    for at in range(len(request)):
        with RawClient(server.port) as client:
            client.send(request[:at])
    with RawClient(server.port) as client:
        assert client.ask(request).status == 200
    assert intake.bodies == [b"some bytes"]


def test_requests_in_one_packet_are_answered_in_order(client: RawClient, intake: SmallIntake) -> None:
    packed = gzip.compress(b"three")
    client.send(
        post(b"one")
        + chunked(b"two")
        + b"\r\n"
        + post(packed, headers="Content-Encoding: gzip\r\n")
        + post(b"4" * 70_000)
    )
    assert [client.response().status for _ in range(4)] == [200] * 4
    assert intake.bodies == [b"one", b"two", b"three", b"4" * 70_000]


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8", f" {PROTOBUF};x"])
def test_the_answer_has_the_encoding_of_the_request(client: RawClient, intake: SmallIntake, content_type: str) -> None:
    intake.outcome = Outcome(rejected=3, message="three records have no body")
    response = client.ask(post(b"{}", "/v1/logs", content_type=content_type))
    assert response.status == 200
    if PROTOBUF in content_type:
        partial = ExportLogsServiceResponse.FromString(response.body).partial_success
        assert (partial.rejected_log_records, partial.error_message) == (3, "three records have no body")
    else:
        said = {"rejectedLogRecords": "3", "errorMessage": "three records have no body"}
        assert orjson.loads(response.body) == {"partialSuccess": said}
        [request] = intake.bodies
        assert isinstance(request, ExportTraceServiceRequest)
        assert request.resource_spans[0].schema_url == "logs {}"


def test_json_without_rejections_is_an_empty_object(client: RawClient) -> None:
    assert client.ask(post(b"{}", content_type=JSON)).body == b"{}"


def test_json_needs_memory_for_its_objects(client: RawClient, intake: SmallIntake) -> None:
    def empty_objects(count: int) -> bytes:
        return b'{"new":[' + b",".join([b"{}"] * count) + b"]}"

    assert client.ask(post(empty_objects(1000), content_type=JSON)).status == 200
    with intake.reserve(200_000):
        assert client.ask(post(empty_objects(1000), content_type=JSON)).status == 503, "more than is free now"
    refused = client.ask(post(empty_objects(2000), content_type=JSON))
    assert (refused.status, orjson.loads(refused.body)["message"]) == (
        413,
        "the JSON body has too many objects; send smaller requests",
    )
    assert intake.reserved == 0


def test_an_empty_request_succeeds(client: RawClient, intake: SmallIntake) -> None:
    assert client.ask(post(b"")).status == 200
    assert client.ask(chunked(b"")).status == 200
    assert client.ask(post(b"", headers="Content-Encoding: gzip\r\n")).status == 200
    assert intake.bodies == [b"", b"", b""]


def test_health_and_other_routes_answer_get_and_head(client: RawClient) -> None:
    response = client.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (response.status, response.body) == (200, b"ok\n")
    client.send(b"HEAD /metrics?x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response(has_body=False).headers["content-length"] == "5"
    assert client.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").body == b"up 1\n"


def test_http_1_0_closes_unless_asked_not_to(server: HttpReceiver) -> None:
    with RawClient(server.port) as client:
        response = client.ask(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert response.headers["connection"] == "keep-alive"
        assert client.ask(b"GET /healthz HTTP/1.0\r\n\r\n").headers["connection"] == "close"
        assert client.is_closed()


def test_the_standard_library_as_client(server: HttpReceiver, intake: SmallIntake) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for body in (BODY, iter([b"in ", b"chunks"])):
        connection.request("POST", "/v1/metrics", body, {"Content-Type": PROTOBUF})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
    connection.close()
    assert intake.bodies == [BODY, b"in chunks"]
