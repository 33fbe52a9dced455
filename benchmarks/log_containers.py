"""Containers that sleep, and their log files, to which a benchmark writes what the engine would."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine import PrivateEngine

SLICE_SECS = 0.05
"""How often the writer writes."""
TEXTS = 512
"""So many different lines of a shape are written again and again, each time with another time."""
WORDS = (
    *(
        "accepted",
        "order",
        "payment",
        "customer",
        "retry",
        "cache",
        "timeout",
        "upstream",
        "shard",
        "replica",
        "region",
    ),
    *("invoice", "basket", "stock", "session", "token", "queue", "worker", "commit", "offset", "partition", "leader"),
)


def sleeping(engine: PrivateEngine, count: int) -> list[Path]:
    """Start containers that sleep; their empty log files."""
    paths = []
    for number in range(count):
        command = ["sleep", "100000"]
        container = engine.run(f"log-{number}", "service:1", command, log={"Type": "json-file", "Config": {}})
        paths.append(Path(engine.inspect(container)["LogPath"]))
    return paths


def texts(shape: str, size: int) -> list[str]:
    """Lines of about `size` bytes: `plain`, as a web service prints them, or `json`, as slog, zap and pino do."""
    chance = random.Random(size)
    found = []
    for _ in range(TEXTS):
        level = chance.choices(["info", "warn", "error"], [90, 8, 2])[0]
        status, took = chance.choice([200, 201, 204, 404, 500]), chance.randrange(1, 900)
        if shape == "json":
            time_of = f"2026-11-30T01:02:03.{chance.randrange(1000):03}Z"
            fields: dict[str, object] = {"time": time_of, "level": level, "msg": "request served"}
            fields |= {"trace_id": f"{chance.getrandbits(128):032x}", "status": status, "took_ms": took, "more": ""}
            fields["more"] = _filler(chance, size - len(json.dumps(fields, separators=(",", ":"))))
            found.append(json.dumps(fields, separators=(",", ":")))
        else:
            head = (
                f"2026-11-30 01:02:03.456 {level.upper()} [worker-{took % 8}] GET /orders/{took} {status} {took} ms: "
            )
            found.append(head + _filler(chance, size - len(head)))
    return found


class Writer:
    """Writes lines of one shape to the files in turns, at a rate."""

    def __init__(self, files: Sequence[Path], shape: str, size: int) -> None:
        self._handles = [os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC) for file in files]
        self._heads = [
            b'{"log":%b,"stream":"stdout","time":"' % json.dumps(text + "\n").encode() for text in texts(shape, size)
        ]
        self._at = 0

    def write(self, rate: float, secs: float) -> int:
        """Write `rate` lines a second for a time; returns how many."""
        began, written = time.monotonic(), 0
        total = int(rate * secs)
        while written < total:
            due = min(total, int(rate * (time.monotonic() - began)) + 1)
            for handle in self._handles:
                count = (due - written) // len(self._handles) or (handle == self._handles[0])
                os.write(handle, self._lines(min(count, total - written)))
                written += min(count, total - written)
            # Lines come a slice of time at a time, as from a program that writes at this rate.
            time.sleep(SLICE_SECS)
        return written

    def close(self) -> None:
        """Close the files."""
        for handle in self._handles:
            os.close(handle)

    def _lines(self, count: int) -> bytes:
        now = time.time_ns()
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000)).encode()
        heads, at, nanos = self._heads, self._at, now % 1_000_000_000
        self._at += count
        return b"".join(
            b'%b%b.%09dZ"}\n' % (heads[(at + number) % TEXTS], second, min(999_999_999, nanos + number))
            for number in range(count)
        )


def _filler(chance: random.Random, size: int) -> str:
    return " ".join(chance.choices(WORDS, k=size // 4 + 1))[: max(0, size)]
