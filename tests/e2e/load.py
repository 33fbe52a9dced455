"""Load on a service while something is done to it: the generator's process, and what its websockets' ends mean."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

READY_SECS = 30.0
END_SECS = 40.0
LOOK_SECS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A websocket that its client did not end. `address` is its replica's; times are those of CLOCK_MONOTONIC."""

    address: str
    opened: float
    at: float
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the generator saw. `late` were answered, but more than a second later than they should have been.

    `failed_at` is the first and the last moment of failures, or empty.
    """

    requests: int
    answers: Mapping[str, int]
    failed: int
    failures: Sequence[str]
    failed_at: Sequence[float]
    late: int
    lag_ms: float
    fast_ms: Mapping[str, float]
    opened: int
    echoes: int
    ends: Sequence[End]

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.failed} failed, {self.late} late, fast ones {dict(self.fast_ms)} ms, "
            f"generator behind by {self.lag_ms} ms at most; {self.opened} websockets, {self.echoes} echoes, "
            f"{len(self.ends)} ended; {list(self.failures[:5])}"
        )


class Load:
    """A context manager around one generator: under way at `__enter__`, its `report` there after `__exit__`.

    `inside` is what starts a program in another network namespace.
    """

    def __init__(
        self,
        port: int,
        host: str,
        *,
        rate: float = 200.0,
        slow_every: int = 10,
        websockets: int = 20,
        inside: Sequence[str] = (),
    ) -> None:
        self._command = [*inside, sys.executable, "-m", "tests.e2e.load_generator", "--port", str(port)]
        self._command += ["--host", host, "--rate", str(rate), "--slow-every", str(slow_every)]
        self._command += ["--websockets", str(websockets)]
        self._process: subprocess.Popen[str] | None = None
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """What happened; there once the load is over."""
        assert self._report is not None, "the load is still under way"
        return self._report

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        # A generator that never gets ready must not hold up the test for ever.
        watchdog = threading.Timer(READY_SECS, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if line != "ready\n":
            self._process.kill()
            self._process.communicate()
            raise AssertionError(f"the load did not begin within {READY_SECS:g} s: {line!r}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        try:
            # Closes stdin, which is the word to end.
            said, _ = process.communicate(timeout=END_SECS)
        finally:
            process.kill()
            process.wait()
        if error is None:
            self._report = _report(json.loads(said))


def _report(found: dict[str, Any]) -> Report:
    return Report(**{**found, "ends": tuple(End(**end) for end in found["ends"])})


@dataclass(slots=True)
class _Stay:
    """From when to when an address was in the routes; `left` is not later than the moment it really left."""

    came: float
    left: float | None = None


@dataclass(slots=True)
class RouteWatch:
    """Watches the proxy's file, to know when each address left it: a context manager."""

    path: Path
    _stays: dict[str, list[_Stay]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, name="route watch")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def knows(self, address: str) -> bool:
        """Whether the address was seen in the routes."""
        return address in self._stays

    def left(self, address: str, before: float) -> float | None:
        """When the address last left the routes before that moment; None when it was in them then, or never was."""
        stays = [stay for stay in self._stays.get(address, []) if stay.came <= before]
        return stays[-1].left if stays else None

    def cut(self, ends: Sequence[End], drain_secs: float) -> tuple[list[End], list[End]]:
        """The websockets that were cut while they had time left, and those that ended because it was over."""
        cut: list[End] = []
        in_time: list[End] = []
        for end in ends:
            left = self.left(end.address, end.at)
            (cut if left is None or end.at < left + drain_secs else in_time).append(end)
        return cut, in_time

    def _look(self) -> None:
        before: frozenset[str] = frozenset()
        looked = time.monotonic()
        while not self._over.is_set():
            earlier, looked = looked, time.monotonic()
            # It is replaced by a rename, so it is there and whole at any moment; only before the first it is not.
            text = self.path.read_text() if self.path.exists() else ""
            now = frozenset(re.findall(r"//([0-9.]+):\d+", text))
            for address in before - now:
                self._stays[address][-1].left = earlier
            for address in now - before:
                self._stays.setdefault(address, []).append(_Stay(came=looked))
            before = now
            self._over.wait(LOOK_SECS)
