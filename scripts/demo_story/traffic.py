"""A naive client: asks one container after another, and looks up anew before every request who runs."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from scripts.demo_story.engine import Engine, ask
from scripts.demo_story.errors import StoryFailed

PAUSE_SECS = 0.005
# The address of a container that just went answers nothing at all; a refused connection needs no patience.
PATIENCE_SECS = 1.0


class Traffic:
    """Requests in a loop for as long as the context lasts; the counts are final after it."""

    def __init__(self, engine: Engine, service_id: str) -> None:
        self._engine = engine
        self._service_id = service_id
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._broken: Exception | None = None
        self.answers: Counter[str] = Counter()
        """How often each version answered."""
        self.second_tries = 0
        """Requests whose first container did not answer and whose second or later one did."""
        self.failures = 0
        """Requests that no container answered."""
        self.slowest_secs = 0.0
        """The longest that a request took, with all its tries."""

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

    def _run(self) -> None:
        try:
            turn = 0
            while not self._end.wait(PAUSE_SECS):
                turn += 1
                begun = time.monotonic()
                self._request(turn)
                self.slowest_secs = max(self.slowest_secs, time.monotonic() - begun)
        except Exception as broken:  # noqa: BLE001 - handed to the thread that reads the counts
            self._broken = broken

    def _request(self, turn: int) -> None:
        found = [c.address for c in self._engine.containers(self._service_id) if c.running and c.address]
        first = turn % len(found) if found else 0
        for tried, address in enumerate(found[first:] + found[:first]):
            try:
                status, text = ask(address, timeout=PATIENCE_SECS)
            except (OSError, http.client.HTTPException):
                continue
            if status == 200:
                self.answers[text] += 1
                self.second_tries += tried > 0
                return
        self.failures += 1
