"""Probes against real servers on loopback, well-behaved and otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import trustme

from syntra import __version__
from syntra.health.checks import ExecCheck, HttpCheck, Scheme, TcpCheck
from syntra.health.probes import ExecOutcome, probe, probe_exec, probe_http, probe_tcp
from syntra.utils.errors import AgentError

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOME = "127.0.0.1"
LONG = 5.0
SHORT = 0.15


@contextlib.asynccontextmanager
async def serving(
    behave: Behaviour, *, address: str = HOME, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on a free port that reads one request head, records it, and then does as told."""
    heads: list[bytes] = []
    open_now: set[asyncio.Task[object]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await behave(reader, writer)
        finally:
            open_now.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(handle, address, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        # The handler of a connection that was accepted only just has not started yet.
        for _ in range(5):
            await asyncio.sleep(0)
        for task in list(open_now):
            task.cancel()
        if open_now:
            await asyncio.wait(open_now, timeout=2)


def answering(wire: bytes) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return behave


def answer(status: str, body: bytes = b"", headers: str = "") -> Behaviour:
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return answering(head.encode() + body)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the probe gives up


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOME, 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "301 Moved", "302 Found", "399 Odd"])
async def test_2xx_and_3xx_are_healthy(status: str) -> None:
    async with serving(answer(status)) as (port, heads):
        result = await probe_http(HOME, HttpCheck(path="/up", port=port), LONG)
    assert result.ok and result.status_code == int(status[:3])
    assert result.detail == f"HTTP {status[:3]} from http://127.0.0.1:{port}/up"
    assert len(heads) == 1 and 0 <= result.duration_secs < LONG


async def test_a_redirect_is_not_followed() -> None:
    async with serving(answer("200 OK")) as (other, followed):
        location = f"Location: http://127.0.0.1:{other}/\r\n"
        async with serving(answer("302 Found", headers=location)) as (port, heads):
            assert (await probe_http(HOME, HttpCheck(path="/", port=port), LONG)).ok
    assert len(heads) == 1 and followed == []


async def test_the_request_is_what_a_server_expects() -> None:
    async with serving(answer("200 OK")) as (port, heads):
        await probe_http(HOME, HttpCheck(path="/up?full=1", port=port), LONG)
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /up?full=1 HTTP/1.1"
    assert set(lines[1:-2]) == {
        f"Host: 127.0.0.1:{port}",
        f"User-Agent: syntra-agent-health/{__version__}",
        "Accept: */*",
        "Connection: close",
    }


async def test_own_headers_are_sent_and_replace_the_default_ones() -> None:
    headers = (("host", "shop.example"), ("X-Probe", "1"))
    async with serving(answer("200 OK")) as (port, heads):
        await probe_http(HOME, HttpCheck(path="/", port=port, headers=headers), LONG)
    head = heads[0].decode()
    assert "\r\nhost: shop.example\r\n" in head and "\r\nX-Probe: 1\r\n" in head and "Host:" not in head


async def test_a_failure_carries_the_status_and_the_first_lines_of_the_body() -> None:
    body = b"database: \x1b[31mdown\x1b[0m\n" + b"\n".join(b"line %d" % i for i in range(50))
    async with serving(answer("500 Internal Server Error", body)) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/up", port=port), LONG)
    assert not result.ok and result.status_code == 500
    assert result.detail.startswith(f"HTTP 500 from http://127.0.0.1:{port}/up: database: [31mdown[0m\nline 0")
    assert len(result.detail.splitlines()) == 5 and "\x1b" not in result.detail


async def test_a_refused_connection_is_said_in_words() -> None:
    port = await free_port()
    result = await probe_http(HOME, HttpCheck(path="/", port=port), LONG)
    assert not result.ok and result.status_code is None
    assert result.detail == f"connection refused at 127.0.0.1:{port}"
    assert (await probe_tcp(HOME, TcpCheck(port=port), LONG)).detail == result.detail


async def test_a_server_that_says_nothing_ends_at_the_deadline() -> None:
    async with serving(silent) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port), SHORT)
    assert not result.ok and result.detail == f"no response from 127.0.0.1:{port} within 0.15 s"
    assert SHORT <= result.duration_secs < 1


async def test_a_head_that_drips_ends_at_the_deadline_and_not_at_each_byte() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port), SHORT)
    assert not result.ok and "within 0.15 s" in result.detail and result.duration_secs < 1


@pytest.mark.parametrize(("status", "ok"), [("200 OK", True), ("503 Busy", False)])
async def test_a_body_that_drips_changes_nothing_about_the_status(status: str, ok: bool) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n\r\nwarming".encode())
        await reader.read()

    async with serving(drip) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port), 0.4)
    assert result.ok is ok and result.status_code == int(status[:3])
    assert result.duration_secs < 0.3  # the head's, not the body's
    assert ok or result.detail.endswith(": warming")


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
async def test_a_huge_body_is_not_read_to_its_end(status: str) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 1000000000\r\n\r\n".encode())
        while True:
            writer.write(b"x" * 8192)
            await writer.drain()
            sent += 8192

    async with serving(flood) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port), LONG)
    assert result.ok is status.startswith("200") and len(result.detail.encode()) <= 512
    assert sent < 16 * 1024 * 1024  # 64 KiB and what the kernel's buffers hold


async def test_a_reset_is_an_error_and_said_in_words() -> None:
    async with serving(reset) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port), LONG)
    assert not result.ok and result.detail == f"connection reset by 127.0.0.1:{port} before it answered"


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"", "the connection was closed before any response"),
        (b"HTTP/1.1 200 OK\r\nServ", "the connection was closed in the middle of the response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP/1: it begins with b'SSH-2.0-OpenSSH_9.2"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "the answer is not HTTP/1"),
    ],
)
async def test_another_protocol_or_a_dropped_connection_is_unhealthy(wire: bytes, words: str) -> None:
    async with serving(answering(wire)) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port), LONG)
    assert not result.ok and result.detail.startswith(words) and f"127.0.0.1:{port}" in result.detail


async def test_an_ipv6_address_is_bracketed_in_host() -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    async with serving(answer("200 OK"), address="::1") as (port, heads):
        result = await probe_http("::1", HttpCheck(path="/", port=port), LONG)
        assert (await probe_tcp("::1", TcpCheck(port=port), LONG)).ok
    assert result.ok and f"Host: [::1]:{port}\r\n".encode() in heads[0]


@pytest.mark.parametrize("address", ["", "localhost", "db.internal", "169.254.169.254", "::ffff:169.254.169.254"])
async def test_names_and_metadata_addresses_are_never_contacted(address: str) -> None:
    for result in (
        await probe_http(address, HttpCheck(path="/", port=80), LONG),
        await probe_tcp(address, TcpCheck(port=80), LONG),
    ):
        assert not result.ok and result.detail.startswith("cannot probe")


@pytest.mark.parametrize("address", ["fe80::1", "224.0.0.1", "0.0.0.0", "::"])
async def test_addresses_that_are_no_container_are_refused(address: str) -> None:
    assert "not allowed" in (await probe_tcp(address, TcpCheck(port=80), LONG)).detail


async def test_https_takes_any_certificate_and_names_a_peer_that_does_not_speak_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    async with serving(answer("200 OK", b"fine"), tls=context) as (port, _):
        assert (await probe_http(HOME, HttpCheck(path="/", port=port, scheme=Scheme.HTTPS), LONG)).ok
    async with serving(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port, scheme=Scheme.HTTPS), SHORT)
    assert not result.ok and result.status_code is None


async def test_plain_http_to_a_tls_port_is_unhealthy() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    async with serving(answer("200 OK"), tls=context) as (port, _):
        result = await probe_http(HOME, HttpCheck(path="/", port=port), LONG)
    assert not result.ok


async def test_a_connection_is_enough_for_a_tcp_check() -> None:
    async with serving(silent) as (port, _):
        result = await probe_tcp(HOME, TcpCheck(port=port), LONG)
    assert result.ok and result.detail == f"connected to 127.0.0.1:{port}"


# Runs in a network namespace of its own: the port range is a setting of the namespace, the machine's stays as it is.
SELF_CONNECT = """
import asyncio, fcntl, os, socket, struct, sys
from pathlib import Path
from syntra.health.checks import TcpCheck
from syntra.health.probes import probe_tcp

assert os.readlink("/proc/self/ns/net") != sys.argv[1], "not in a namespace of its own"
with socket.socket() as sock:  # SIOCSIFFLAGS: loopback up
    fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1))
Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40001 40001")
with socket.socket() as sock:
    sock.connect(("127.0.0.1", 40001))
    assert sock.getsockname() == sock.getpeername(), "the kernel no longer connects a socket to itself"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
print(asyncio.run(probe_tcp("127.0.0.1", TcpCheck(port=40001), 5.0)).detail)
"""


def test_a_tcp_check_does_not_mistake_itself_for_the_service() -> None:
    """With one ephemeral port to choose from, the kernel connects the socket to itself."""
    alone = ["unshare", "--net"]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespace can be made here")
    outside = os.readlink("/proc/self/ns/net")
    command = [*alone, sys.executable, "-c", SELF_CONNECT, outside]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.stdout.strip() == "connection refused at 127.0.0.1:40001", done.stderr


@pytest.mark.parametrize("behave", [silent, answering(b"HTTP/1.1 200 OK\r\n\r\n")])
async def test_a_cancelled_probe_passes_the_cancellation_on_and_closes_its_connection(behave: Behaviour) -> None:
    closed = asyncio.Event()
    asked = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        if behave is not silent:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        closed.set()

    async with serving(watch) as (port, _):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(probe_http(HOME, HttpCheck(path="/", port=port), LONG), name="probe")
            await asked.wait()
            task.cancel()
        assert task.cancelled()
        async with asyncio.timeout(2):
            await closed.wait()


class Runner:
    """Runs nothing: answers or fails as told, or never comes back."""

    def __init__(self, outcome: ExecOutcome | Exception | None) -> None:
        self.outcome = outcome
        self.seen: list[tuple[tuple[str, ...], float, int]] = []

    async def run(self, argv: Sequence[str], *, timeout_secs: float, output_limit: int) -> ExecOutcome:
        self.seen.append((tuple(argv), timeout_secs, output_limit))
        if self.outcome is None:
            await asyncio.Event().wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome


class Subprocess:
    """The real thing on this host, as a runtime would do it in a container."""

    async def run(self, argv: Sequence[str], *, timeout_secs: float, output_limit: int) -> ExecOutcome:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(timeout_secs):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
            raise
        assert process.returncode is not None
        return ExecOutcome(exit_code=process.returncode, output=output[:output_limit])


async def test_a_command_is_healthy_when_it_exits_with_zero() -> None:
    check = ExecCheck(argv=("sh", "-c", "echo secret-looking output; exit 0"))
    result = await probe_exec(Subprocess(), check, LONG)
    assert result.ok and result.detail == "exit code 0"


async def test_a_failing_command_tells_its_code_and_output() -> None:
    result = await probe_exec(Subprocess(), ExecCheck(argv=("sh", "-c", "echo no route to db >&2; exit 3")), LONG)
    assert not result.ok and result.detail == "exit code 3: no route to db"


async def test_a_command_that_does_not_end_is_stopped_at_its_timeout() -> None:
    result = await probe_exec(Subprocess(), ExecCheck(argv=("sleep", "30")), 0.1)
    assert not result.ok and result.detail == "the command did not end within 0.1 s" and result.duration_secs < 2


@pytest.mark.parametrize(
    ("outcome", "detail"),
    [
        (ExecOutcome(exit_code=127, output=b""), "exit code 127 (the command was not found)"),
        (ExecOutcome(exit_code=126, output=b"x"), "exit code 126 (the command cannot be executed): x"),
        (AgentError("cannot exec in a: it is paused; unpause it"), "the command could not run: cannot exec in a: "),
        (OSError("gone"), "the command could not run: gone"),
        (TimeoutError(), "the command did not end within 5 s"),
    ],
)
async def test_what_keeps_a_command_from_running_is_said(outcome: ExecOutcome | Exception, detail: str) -> None:
    runner = Runner(outcome)
    result = await probe("", ExecCheck(argv=("a", "b")), LONG, runner)
    assert not result.ok and result.detail.startswith(detail)
    assert runner.seen == [(("a", "b"), LONG, 2048)]


async def test_a_cancelled_command_probe_passes_the_cancellation_on() -> None:
    runner = Runner(None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(probe_exec(runner, ExecCheck(argv=("a",)), LONG), name="probe")
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled() and runner.seen


async def test_the_kind_of_check_decides_what_is_asked() -> None:
    async with serving(answer("200 OK")) as (port, _):
        assert (await probe(HOME, HttpCheck(path="/", port=port), LONG)).status_code == 200
        assert (await probe(HOME, TcpCheck(port=port), LONG)).detail == f"connected to 127.0.0.1:{port}"
    assert not (await probe(HOME, ExecCheck(argv=("a",)), LONG)).ok


async def test_what_a_command_writes_is_cut_and_loses_its_control_characters() -> None:
    noisy = Runner(ExecOutcome(exit_code=1, output=b"\x1b[2J\x00down\r\n" + b"line\n" * 100 + b"x" * 10_000))
    detail = (await probe_exec(noisy, ExecCheck(argv=("a",)), LONG)).detail
    assert detail.startswith("exit code 1: [2Jdown")
    assert len(detail.encode()) <= 512
    assert len(detail.splitlines()) <= 5
    assert all(char.isprintable() for line in detail.splitlines() for char in line)
