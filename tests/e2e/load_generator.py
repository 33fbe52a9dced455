"""Requests at a steady rate and open websockets through a proxy, as a process of its own; see `tests.e2e.load`.

The loop is open: every request has its moment, whatever became of those before. One that is sent or answered later than
its moment allows counts as late; latencies are counted from that moment. Prints `ready`, goes on until stdin ends, then
waits for what is under way and prints what happened as one line of JSON. Times are those of CLOCK_MONOTONIC, which all
processes of the machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

ANSWER_SECS = 15.0
SLOW_SECS = 3.0
LATE_SECS = 1.0
"""How much later than its moment, and than its own duration, an answer may come before it is late."""
ECHO_EVERY_SECS = 1.0
ECHO_SECS = 5.0
PAUSE_SECS = 0.05
UNDER_WAY_MAX = 5000
FAILURES_KEPT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do: requests a second, the share of slow ones among them (every Nth), and how many websockets."""

    port: int
    host: str
    rate: float
    slow_every: int
    websockets: int


@dataclass(slots=True)
class Tally:
    """What happened."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    late: int = 0
    lag: float = 0.0
    fast: list[float] = field(default_factory=list)
    opened: int = 0
    echoes: int = 0
    ends: list[dict[str, object]] = field(default_factory=list)

    def fail(self, what: str) -> None:
        """Count a failure; the first ones are told."""
        self.failed += 1
        now = time.monotonic()
        self.failed_at = [self.failed_at[0] if self.failed_at else now, now]
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(f"{now:.3f} {what}")

    def report(self) -> dict[str, object]:
        """All of it; durations in milliseconds."""
        ordered = sorted(self.fast) or [0.0]
        at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        latency = {
            name: round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1)
            for name, share in at.items()
        }
        return {
            "requests": self.sent,
            "answers": self.answers,
            "failed": self.failed,
            "failures": self.failures,
            "failed_at": self.failed_at,
            "late": self.late,
            "lag_ms": round(1000 * self.lag, 1),
            "fast_ms": latency,
            "opened": self.opened,
            "echoes": self.echoes,
            "ends": self.ends,
        }


class Exchange(asyncio.Protocol):
    """One request on a connection of its own; `over` becomes all that was received, or the error."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = bytearray()
        self.over: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if self.over.done():
            return
        if exc is None:
            self.over.set_result(bytes(self._received))
        else:
            self.over.set_exception(exc)


class Generator:
    """Carries out a plan until `over` is set."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tally = Tally()
        self._greeted = asyncio.Semaphore(0)
        self._under_way = 0
        self.over = asyncio.Event()

    async def run(self) -> Tally:
        """Everything, from the first handshake to the last answer."""
        async with asyncio.TaskGroup() as group:
            sockets = [group.create_task(self._websocket(n)) for n in range(self._plan.websockets)]
            for _ in sockets:
                await self._greeted.acquire()
            await self._request("/", time.monotonic(), 0.0)
            say("ready")
            await self._send(group)
            for task in sockets:
                task.cancel()
        return self._tally

    async def _send(self, group: asyncio.TaskGroup) -> None:
        plan, begun, number = self._plan, time.monotonic(), 0
        while not self.over.is_set():
            number += 1
            moment = begun + number / plan.rate
            if (early := moment - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self._tally.lag = max(self._tally.lag, time.monotonic() - moment)
            is_slow = plan.slow_every > 0 and number % plan.slow_every == 0
            path, takes = ("/slow", SLOW_SECS) if is_slow else ("/", 0.0)
            if self._under_way >= UNDER_WAY_MAX:
                self._tally.sent += 1
                self._tally.fail(f"{path}: {UNDER_WAY_MAX} requests are under way already")
                continue
            group.create_task(self._request(path, moment, takes))

    async def _request(self, path: str, moment: float, takes: float) -> None:
        self._tally.sent += 1
        self._under_way += 1
        try:
            async with asyncio.timeout(ANSWER_SECS):
                answer = await self._exchange(path)
        except TimeoutError:
            self._tally.fail(f"{path}: no answer within {ANSWER_SECS:g} s")
            return
        except OSError as lost:
            self._tally.fail(f"{path}: {type(lost).__name__} {lost}")
            return
        finally:
            self._under_way -= 1
        took = time.monotonic() - moment
        if took > takes + LATE_SECS:
            self._tally.late += 1
        if not takes:
            self._tally.fast.append(took)
        status, body = parsed(answer)
        if status != 200 or body is None:
            self._tally.fail(f"{path}: {status or 'no status'} {'cut off' if body is None else body[:80]}")
        else:
            self._tally.answers[body.strip()] += 1

    async def _exchange(self, path: str) -> bytes:
        request = f"GET {path} HTTP/1.1\r\nHost: {self._plan.host}\r\nConnection: close\r\n\r\n".encode("ascii")
        loop = asyncio.get_running_loop()
        transport, exchange = await loop.create_connection(lambda: Exchange(request), "127.0.0.1", self._plan.port)
        try:
            return await exchange.over
        finally:
            transport.abort()

    async def _websocket(self, number: int) -> None:
        """Keep one websocket open; when it ends, say so and open another."""
        # Echoes are spread over the second.
        await asyncio.sleep(ECHO_EVERY_SECS * number / max(1, self._plan.websockets))
        is_first = True
        while True:
            opened = time.monotonic()
            address = how = ""
            try:
                async with connect(
                    f"ws://{self._plan.host}/ws",
                    host="127.0.0.1",
                    port=self._plan.port,
                    proxy=None,
                    ping_interval=None,
                    close_timeout=1,
                    open_timeout=ANSWER_SECS,
                ) as socket:
                    async with asyncio.timeout(ECHO_SECS):
                        address = str(await socket.recv()).split()[0]
                    self._tally.opened += 1
                    if is_first:
                        is_first = False
                        self._greeted.release()
                    await self._echo(socket)
            except ConnectionClosed as closed:
                how = str(closed)
            except (OSError, InvalidHandshake) as refused:
                # TimeoutError is an OSError too: a greeting or an echo that does not come.
                how = f"{type(refused).__name__} {refused}"
            if address:
                ended = {"address": address, "opened": opened, "at": time.monotonic(), "how": how}
                self._tally.ends.append(ended)
            else:
                self._tally.fail(f"/ws: {how}")
            await asyncio.sleep(PAUSE_SECS)

    async def _echo(self, socket: ClientConnection) -> None:
        while True:
            text = f"{time.monotonic()}"
            async with asyncio.timeout(ECHO_SECS):
                await socket.send(text)
                answer = await socket.recv()
            if answer != text:
                self._tally.fail(f"/ws: {answer!r:.60} came back for {text}")
            self._tally.echoes += 1
            # An end is noticed at once and not with the next echo.
            with suppress(TimeoutError):
                async with asyncio.timeout(ECHO_EVERY_SECS):
                    await socket.wait_closed()


def parsed(answer: bytes) -> tuple[int, str | None]:
    """Status (0 without one) and body; None for a body that is not whole."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split()
    if not separator or len(words) < 2 or not words[1].isdigit():
        return 0, None
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    length = fields.get("content-length", "")
    whole = length.isdigit() and len(body) == int(length)
    return int(words[1]), body.decode(errors="replace") if whole else None


def say(line: str) -> None:
    """For the driver."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(plan: Plan) -> None:
    """Run until stdin ends."""
    generator = Generator(plan)
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            generator.over.set()

    loop.add_reader(sys.stdin.fileno(), read)
    say(json.dumps((await generator.run()).report()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Load through a proxy on loopback; ends when stdin does.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--slow-every", type=int, default=10)
    parser.add_argument("--websockets", type=int, default=20)
    given = parser.parse_args()
    asyncio.run(
        main(
            Plan(
                port=given.port,
                host=given.host,
                rate=given.rate,
                slow_every=given.slow_every,
                websockets=given.websockets,
            )
        )
    )
