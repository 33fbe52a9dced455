"""Sends requests in a loop; with several targets as a naive client that tries one after the other."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from scripts.demo_story.errors import StoryFailed
from scripts.demo_story.runtime import Targets, ask

PAUSE_SECS = 0.005


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
