"""Sends requests in a loop: to a proxy if there is one, else as a naive client that tries each container in turn."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from scripts.demo_story.engine import PORT, Engine, ask
from scripts.demo_story.errors import StoryFailed

PAUSE_SECS = 0.005
# The address of a removed container does not answer at all; a refused connection fails at once.
PATIENCE_SECS = 1.0
PROXY_PATIENCE_SECS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target of requests; `host` is the requested name, empty for the address itself."""

    address: str
    port: int
    host: str = ""
    patience_secs: float = PATIENCE_SECS


Targets = Callable[[], Sequence[Target]]
"""Called before every request."""


def containers_of(engine: Engine, service_id: str) -> Targets:
    """The service's running containers."""
    return lambda: [
        Target(address=container.address, port=PORT)
        for container in engine.containers(service_id)
        if container.running and container.address
    ]


def proxy_at(port: int, host: str) -> Targets:
    """A proxy on loopback, with one host name."""
    return lambda: [Target(address="127.0.0.1", port=port, host=host, patience_secs=PROXY_PATIENCE_SECS)]


class Traffic:
    """Sends requests in a loop while the context lasts; the counts are final afterwards."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._broken: Exception | None = None
        self.answers: Counter[str] = Counter()
        """How many answers each version gave."""
        self.second_tries = 0
        """Requests that only a second or later target answered."""
        self.failures = 0
        """Requests that no target answered with 200."""
        self.slowest_secs = 0.0
        """The longest time of a request, including all attempts."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._broken is not None and error is None:
            raise StoryFailed(f"the requests broke off: {self._broken}") from self._broken

    @property
    def total(self) -> int:
        return self.answers.total() + self.failures

    def _run(self) -> None:
        try:
            turn = 0
            while not self._end.wait(PAUSE_SECS):
                turn += 1
                begun = time.monotonic()
                self._request(turn)
                self.slowest_secs = max(self.slowest_secs, time.monotonic() - begun)
        except Exception as broken:  # noqa: BLE001 - passed to the thread that reads the counts
            self._broken = broken

    def _request(self, turn: int) -> None:
        found = self._targets()
        first = turn % len(found) if found else 0
        for tried, target in enumerate([*found[first:], *found[:first]]):
            try:
                status, text = ask(target.address, port=target.port, host=target.host, timeout=target.patience_secs)
            except (OSError, http.client.HTTPException):
                continue
            if status == 200:
                self.answers[text] += 1
                self.second_tries += tried > 0
                return
        self.failures += 1
