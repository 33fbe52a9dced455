"""Prometheus endpoints for a benchmark, in a process of their own: one port each, pages whose values change.

Prints the ports as a JSON list. `GET /count` on any of them returns how many pages all of them have sent.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import sys
from collections.abc import Iterator

VARIANTS = 16
"""Pages of one target, which take turns."""
BUCKETS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def page(series: int, seed: int) -> bytes:
    """A page of about so many samples: half of them histograms, the rest counters and gauges."""
    rng = random.Random(seed)
    lines: list[str] = []
    while len(lines) < series // 2:
        lines += _histogram(rng, f"http_request_duration_{len(lines)}_seconds")
    samples = sum(not line.startswith("#") for line in lines)
    for number in range((series - samples) // 10):
        kind = ("counter", "gauge")[number % 2]
        name = f"app_things_{number}{'_total' if kind == 'counter' else ''}"
        lines += [f"# HELP {name} Things of the kind {number}.", f"# TYPE {name} {kind}"]
        lines += [
            f'{name}{{handler="/api/v1/items/{row}",method="GET",zone="eu-central-1"}} {_value(rng, kind)}'
            for row in range(10)
        ]
    return "\n".join([*lines, ""]).encode()


def _histogram(rng: random.Random, name: str) -> Iterator[str]:
    yield f"# HELP {name} Duration of requests."
    yield f"# TYPE {name} histogram"
    for code in ("200", "404", "500"):
        total = 0
        for bucket in BUCKETS:
            total += rng.randrange(1000)
            yield f'{name}_bucket{{handler="/api",code="{code}",le="{bucket}"}} {total}'
        yield f'{name}_sum{{handler="/api",code="{code}"}} {rng.random() * 1e4}'
        yield f'{name}_count{{handler="/api",code="{code}"}} {total}'


def _value(rng: random.Random, kind: str) -> object:
    return rng.randrange(10**9) if kind == "counter" else rng.random() * 1e6


def samples_of(text: bytes) -> int:
    """Samples of a page."""
    return sum(1 for line in text.splitlines() if line[:1] != b"#")


class Target(asyncio.Protocol):
    """One connection to a target."""

    sent = 0

    def __init__(self, plain: list[bytes], packed: list[bytes]) -> None:
        self._plain = plain
        self._packed = packed
        self._transport: asyncio.Transport | None = None
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # A GET arrives in one piece on loopback.
        assert self._transport is not None
        if data.startswith(b"GET /count "):
            body = json.dumps({"pages": Target.sent}).encode()
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            self._transport.close()
            return
        Target.sent += 1
        self._number += 1
        takes_gzip = b"accept-encoding: gzip" in data.lower()
        self._transport.write((self._packed if takes_gzip else self._plain)[self._number % VARIANTS])


def _answer(body: bytes, encoding: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n" % (TYPE, encoding, len(body))
    return head + body


async def main(targets: int, series: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    ports, servers = [], []
    for target in range(targets):
        pages = [page(series, target * VARIANTS + variant) for variant in range(VARIANTS)]
        plain = [_answer(one, b"") for one in pages]
        packed = [_answer(gzip.compress(one), b"Content-Encoding: gzip\r\n") for one in pages]
        server = await loop.create_server(lambda a=plain, b=packed: Target(a, b), "127.0.0.1", 0)  # type: ignore[misc]
        servers.append(server)
        ports.append(server.sockets[0].getsockname()[1])
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.metrics_pages", description=__doc__)
    parser.add_argument("--targets", type=int, required=True)
    parser.add_argument("--series", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(main(given.targets, given.series))
