"""The HTTP receiver as a server: addresses, connections, CORS, TLS and closing."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from syntra.telemetry.otlp.http_limits import HttpLimits
from syntra.telemetry.otlp.http_server import HttpReceiver
from syntra.telemetry.otlp.listening import CannotListen
from tests.telemetry.otlp.http_client import RawClient, no_json, post, receiver
from tests.telemetry.otlp.small_intake import SmallIntake


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_addresses_come_and_leave_while_connections_stay() -> None:
    intake = SmallIntake()
    server = HttpReceiver(intake, no_json, port=0)
    server.port = server.listen("127.0.0.1")
    assert server.listen("127.0.0.1") == server.port
    with RawClient(server.port) as first:
        assert first.ask(post(b"1")).status == 200
        with pytest.raises(ConnectionRefusedError):
            RawClient(server.port, "127.0.0.2")
        server.listen("127.0.0.2")
        with RawClient(server.port, "127.0.0.2") as second:
            assert second.ask(post(b"2")).status == 200
        server.unlisten("127.0.0.1")
        server.unlisten("127.0.0.9")
        with pytest.raises(ConnectionRefusedError):
            RawClient(server.port)
        assert first.ask(post(b"3")).status == 200
    assert server.addresses == ("127.0.0.2",)
    server.listen("127.0.0.1")
    with RawClient(server.port) as again:
        assert again.ask(post(b"4")).status == 200
    server.close(1.0)
    assert intake.bodies == [b"1", b"2", b"3", b"4"]


def test_an_address_that_is_taken_or_missing_is_an_error_and_can_be_retried() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = HttpReceiver(SmallIntake(), no_json, port=other.getsockname()[1])
        with pytest.raises(CannotListen, match=r"cannot listen on 127.0.0.1 port .*: Address already in use; "):
            server.listen("127.0.0.1")
        with pytest.raises(CannotListen):
            server.listen("192.0.2.1")
        assert server.addresses == ()
    assert server.listen("127.0.0.1") == server.port
    server.close(1.0)


def test_a_unix_socket_replaces_one_that_a_killed_process_left(tmp_path: Path) -> None:
    path = str(tmp_path / "otlp.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    intake = SmallIntake()
    server = HttpReceiver(intake, no_json)
    assert server.listen(path) == 0
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    other = HttpReceiver(intake, no_json)
    with pytest.raises(CannotListen, match="another process listens there"):
        other.listen(path)
    other.close(0)
    with RawClient(path) as client:
        assert client.ask(post(b"x")).status == 200
    assert intake.received[0][2].address == ""
    server.close(1.0)
    assert not os.path.exists(path)


def test_a_file_in_the_place_of_the_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    server = HttpReceiver(SmallIntake(), no_json)
    with pytest.raises(CannotListen):
        server.listen(str(path))
    server.close(0)
    assert path.read_text() == "data"


def test_ipv6_is_separate_from_ipv4() -> None:
    intake = SmallIntake()
    server = HttpReceiver(intake, no_json, port=0)
    try:
        server.port = server.listen("::1")
    except CannotListen:
        pytest.skip("no IPv6 on this host")
    finally:
        server.close(0) if not server.addresses else None
    server.listen("127.0.0.1")
    with RawClient(server.port, "::1") as client:
        assert client.ask(post(b"x")).status == 200
    assert intake.received[0][2].address == "::1"
    server.close(1.0)


def test_over_the_connection_limit_a_waiting_connection_makes_room() -> None:
    server = receiver(SmallIntake(), HttpLimits(max_connections=3))
    port = server.listen("127.0.0.1")
    clients = [RawClient(port) for _ in range(3)]
    for client in clients:
        assert client.ask(post(b"x")).status == 200
    until(lambda: server.connections == 3)
    with RawClient(port) as fourth:
        assert fourth.ask(post(b"x")).status == 200
    assert clients[0].is_closed()
    assert clients[1].ask(post(b"x")).status == 200
    for client in clients:
        client.sock.close()
    server.close(1.0)


@pytest.mark.parametrize("limits", [HttpLimits(max_connections=2), HttpLimits(max_connections_per_address=2)])
def test_busy_connections_are_not_ended_for_another_one(limits: HttpLimits) -> None:
    intake = SmallIntake()
    intake.gate = threading.Event()
    server = receiver(intake, limits)
    port = server.listen("127.0.0.1")
    clients = [RawClient(port) for _ in range(2)]
    for client in clients:
        client.send(post(b"x"))
    until(lambda: intake.reserved == 2)
    with RawClient(port) as third:
        response = third.response()
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert response.rpc_status.code == 14
        assert third.is_closed()
    assert server.connections_refused == 1
    intake.gate.set()
    assert [client.response().status for client in clients] == [200, 200]
    for client in clients:
        client.sock.close()
    until(lambda: server.connections == 0)
    with RawClient(port) as later:
        assert later.ask(post(b"x")).status == 200
    server.close(1.0)


def test_close_lets_a_running_request_end_and_closes_waiting_connections() -> None:
    intake = SmallIntake()
    intake.gate = threading.Event()
    server = receiver(intake)
    port = server.listen("127.0.0.1")
    with RawClient(port) as busy, RawClient(port) as waiting:
        busy.send(post(b"x"))
        until(lambda: intake.reserved == 1 and server.connections == 2)
        closing = threading.Thread(target=server.close, args=(20.0,))
        closing.start()
        assert waiting.is_closed()
        intake.gate.set()
        response = busy.response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        closing.join(20)
        assert not closing.is_alive()
    with pytest.raises(CannotListen):
        server.listen("127.0.0.1")


def test_close_ends_a_request_that_takes_longer_than_the_grace() -> None:
    intake = SmallIntake()
    server = receiver(intake)
    with RawClient(server.listen("127.0.0.1")) as client:
        client.send(post(b"", length=10))
        until(lambda: intake.reserved == 10)
        server.close(0.1)
        assert client.is_closed()
    assert server.connections == 0
    assert intake.reserved == 0


PREFLIGHT = (
    b"OPTIONS /v1/traces HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\nAccess-Control-Request-Method: POST\r\n"
    b"Access-Control-Request-Headers: content-type,x-key\r\n\r\n"
)


@pytest.mark.parametrize("origins", [("*",), ("https://app.example", "https://b.example")])
def test_browsers_of_configured_origins_may_send(origins: tuple[str, ...]) -> None:
    server = HttpReceiver(SmallIntake(), no_json, port=0, cors_origins=origins)
    allowed = "*" if origins == ("*",) else "https://app.example"
    with RawClient(server.listen("127.0.0.1")) as client:
        preflight = client.ask(PREFLIGHT % b"https://app.example")
        assert preflight.status == 204
        assert "content-length" not in preflight.headers
        assert preflight.headers["access-control-allow-origin"] == allowed
        assert preflight.headers["access-control-allow-methods"] == "POST"
        assert preflight.headers["access-control-allow-headers"] == "content-type,x-key"
        for path in ("/v1/traces", "/nothing"):
            response = client.ask(post(b"x", path, headers="Origin: https://app.example\r\n"))
            assert response.headers["access-control-allow-origin"] == allowed
        assert "access-control-allow-origin" not in client.ask(post(b"x")).headers
    server.close(1.0)


def test_browsers_of_other_origins_may_not() -> None:
    for origins in ((), ("https://app.example",)):
        server = HttpReceiver(SmallIntake(), no_json, port=0, cors_origins=origins)
        with RawClient(server.listen("127.0.0.1")) as client:
            preflight = client.ask(PREFLIGHT % b"https://evil.example")
            assert preflight.status == 405
            assert "access-control-allow-origin" not in preflight.headers
        server.close(1.0)


def test_tls_with_client_certificates() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    intake = SmallIntake()
    server = HttpReceiver(intake, no_json, port=0, tls=context, limits=HttpLimits(head_secs=2, body_secs=2))
    port = server.listen("127.0.0.1")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with (
        RawClient(port) as client,
        pytest.raises(OSError),
        trusting.wrap_socket(client.sock, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(post(b"x"))
        if not tls.recv(10):
            raise ConnectionResetError
    authority.issue_cert("sender").configure_cert(trusting)
    with RawClient(port) as client, trusting.wrap_socket(client.sock, server_hostname="127.0.0.1") as tls:
        client.sock = tls
        for size in (1, 100_000, 3_000_000):
            assert client.ask(post(b"x" * size)).status == 200
        tls.sendall(post(b"", length=10))
        assert client.response().status == 408
    with RawClient(port) as client:
        client.send(post(b"plain"))
        assert client.is_closed()
    with RawClient(port) as silent:
        assert silent.is_closed()
    server.close(1.0)
    assert [len(body) for body in intake.bodies if isinstance(body, bytes)] == [1, 100_000, 3_000_000]
