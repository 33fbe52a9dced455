"""Ten thousand hostile requests against a process with both receivers: its memory stays small, and it still answers."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
import zstandard

from syntra.telemetry.otlp.grpc_call import METHODS
from tests.telemetry.otlp.http2_sender import PREFACE, Http2Sender
from tests.telemetry.otlp.http_client import JSON, RawClient, chunked, post

REQUESTS = 10_000
THREADS = 8
SLOW_SENDERS = 60
LIMIT_MIB = 150
BOMB_BYTES = 300 << 20
GZIP_BOMB = gzip.compress(bytes(BOMB_BYTES), 9)
ZSTD_BOMB = zstandard.ZstdCompressor().compress(bytes(BOMB_BYTES))
TRACES = next(iter(METHODS))
ROOT = Path(__file__).parents[3]


class Target:
    """The process with the receivers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.http, self.grpc = map(int, process.stdout.readline().split())

    def memory(self, field: str) -> int:
        """`VmRSS` or `VmHWM`, the largest so far, in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) // 1024

    def is_alive(self) -> bool:
        return self.process.poll() is None


@contextmanager
def target() -> Iterator[Target]:
    command = [sys.executable, "-m", "tests.telemetry.otlp.receiving_process"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Target(process)
        finally:
            process.kill()


def request(dice: random.Random) -> tuple[bytes, set[int]]:
    """A hostile request and the answers that are right; none when the sender leaves without reading one."""
    body = dice.randbytes(dice.randrange(1, 3000))
    kind = dice.randrange(100)
    whole = post(body) if dice.randrange(2) else chunked(body)
    if kind < 30:
        return whole[: dice.randrange(len(whole))], set()
    if kind < 40:
        return post(b"", length=dice.choice([(64 << 20) + 1, 10**12, 10**17])), {413}
    if kind < 55:
        return post(body, content_type=dice.choice(["text/plain", "application/grpc", "x" * 500, ""])), {415}
    if kind < 60:
        return post(body, headers="Content-Encoding: gzip, gzip\r\n"), {415}
    if kind < 70:
        encoding = dice.choice(["gzip", "deflate", "zstd"])
        return post(b"\0" + body, headers=f"Content-Encoding: {encoding}\r\n"), {400}
    if kind < 78:
        return chunked(body).replace(b";", b"z", 1), {400}
    if kind < 86:
        return post(body, headers="Content-Length: 1\r\n"), {400}
    if kind < 90:
        return b"GET " + dice.randbytes(100).replace(b"\n", b"") + b"\r\n\r\n", {400}
    if kind < 92:
        return post(b"", headers=f"A: {'b' * 20_000}\r\n"), {431}
    if kind < 96:
        return post(b"[" * dice.randrange(1, 200_000), content_type=JSON), {400, 413}
    if kind < 98:
        return post(b"", dice.choice(["/", "/v1", "/v1/traces/../logs"])), {404}
    if kind < 99:
        return post(b'{"resourceSpans":[' + b"{}," * 700_000 + b"{}]}", content_type=JSON), {200, 400, 413}
    return b"\r\n" + post(b"")[:-2] + b"\r\n", {200}


def attack(place: Target, seed: int, count: int, wrong: Counter[str]) -> None:
    dice = random.Random(seed)
    for _ in range(count):
        data, right = request(dice)
        answer(place, data, right, wrong)


def answer(place: Target, data: bytes, right: set[int], wrong: Counter[str]) -> None:
    with RawClient(place.http) as client:
        if not right:
            client.send(data)
            return
        try:
            # A receiver that refuses a large body may reset the connection while the sender is still writing.
            with suppress(BrokenPipeError, ConnectionResetError):
                client.send(data)
            status = client.response().status
        except (EOFError, ConnectionResetError):
            status = 0
        large = len(data) > 100_000
        # The bombs use the whole budget at times.
        if status not in right | {503} and not (large and status == 0):
            wrong[f"{status} instead of {right} for {data[:60]!r}"] += 1


def bombs(place: Target, wrong: Counter[str]) -> None:
    for number in range(12):
        encoding, bomb = (("gzip", GZIP_BOMB), ("zstd", ZSTD_BOMB))[number % 2]
        head = f"Content-Encoding: {encoding}\r\n"
        answer(place, post(bomb, headers=head), {413}, wrong)
        answer(place, chunked(bomb, 50_000, headers=head), {413}, wrong)


def trickle(place: Target, stop: threading.Event) -> None:
    clients = [RawClient(place.http) for _ in range(SLOW_SENDERS)]
    at = 0
    data = post(b"x" * 1000)
    while not stop.wait(0.5):
        for client in clients:
            with suppress(OSError):
                client.send(data[at : at + 1])
        at += 1
    for client in clients:
        client.sock.close()


def grpc_bomb(place: Target, codes: Counter[grpc.StatusCode]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{place.grpc}", [("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary(TRACES, bytes, bytes)
        try:
            call(bytes(100 << 20), timeout=60, compression=grpc.Compression.Gzip)
        except grpc.RpcError as error:
            codes[error.code()] += 1


def run(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.timeout(400)
def test_hostile_requests_leave_the_process_small_and_answering() -> None:
    wrong: Counter[str] = Counter()
    stop = threading.Event()
    with target() as place:
        slow = threading.Thread(target=trickle, args=(place, stop))
        slow.start()
        try:
            each = REQUESTS // THREADS
            works = [lambda seed=seed: attack(place, seed, each, wrong) for seed in range(THREADS)]
            run([*works, lambda: bombs(place, wrong), lambda: bombs(place, wrong)])
        finally:
            stop.set()
            slow.join()
        assert wrong == {}
        assert place.is_alive()
        assert place.memory("VmHWM") < LIMIT_MIB, place.memory("VmRSS")
        with RawClient(place.http) as client:
            assert client.ask(post(b"a good request")).status == 200


@pytest.mark.timeout(400)
def test_hostile_grpc_leaves_the_process_small_and_answering() -> None:
    codes: Counter[grpc.StatusCode] = Counter()
    dice = random.Random(1)
    with target() as place:
        for number in range(500):
            with Http2Sender(place.grpc) as sender, suppress(OSError):
                match number % 5:
                    case 0:
                        sender.sock.sendall(dice.randbytes(500))
                    case 1:
                        sender.headers(1, TRACES, dice.choice(["gzip", "zstd", "identity"]))
                        sender.data(1, b"\1\0\0\1\0" + dice.randbytes(256), ends=True)
                    case 2:
                        sender.headers(1, TRACES)
                        sender.data(1, b"\0\xff\xff\xff\xff" + dice.randbytes(100))
                    case 3:
                        sender.headers(1, TRACES)
                        sender.data(1, b"\0\0\0\1\0 cut")
                    case _:
                        sender.sock.sendall(PREFACE)
        run([lambda: grpc_bomb(place, codes) for _ in range(6)])
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED: 6}
        with grpc.insecure_channel(f"127.0.0.1:{place.grpc}") as channel:
            assert channel.unary_unary(TRACES, bytes, bytes)(b"a good request", timeout=30) == b""
        deadline = time.monotonic() + 20
        while place.memory("VmRSS") >= LIMIT_MIB and time.monotonic() < deadline:
            time.sleep(0.2)
        assert place.memory("VmRSS") < LIMIT_MIB
        assert place.is_alive()
