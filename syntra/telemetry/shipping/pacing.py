"""How fast batches are sent: in flight at the same time, the wait after a failure, and the rate of a backlog. Pure.

- Window: additive increase, multiplicative decrease, as TCP does. One more batch for each window of successes while the
  window is the limit; half of it after a failure. Failures of batches that left before the last decrease belong to the
  same event and do not halve it again.
- Backoff: exponential with full jitter, so that a fleet does not come back in step. What the peer asks for
  (Retry-After, RetryInfo) is the least that is waited.
- Replay: a token bucket. After an outage the backlog is sent at a limited rate on top of what arrives meanwhile, so
  that the peer, which has just come back, is not flooded and the backlog always shrinks.
"""

from __future__ import annotations

from collections.abc import Callable

Uniform = Callable[[float, float], float]
"""`random.Random.uniform`, or a fake."""

WINDOW_MAX = 8
FIRST_DELAY_SECS = 1.0
MAX_DELAY_SECS = 30.0
ASKED_MAX_SECS = 300.0
"""The longest wait that a peer may ask for."""
RATE_WINDOW_SECS = 10.0
"""Time constant of the measured rate of arrivals."""
SHORTEST_WAIT_SECS = 0.01


class Window:
    """How many batches may be in flight."""

    def __init__(self, most: int = WINDOW_MAX) -> None:
        self._most = most
        self.is_limit = False
        """Whether a batch waits only because of the window. A window that is not needed does not grow."""
        self._size = 1.0
        self._decreases = 0

    @property
    def size(self) -> int:
        """Batches in flight at most; at least 1."""
        return int(self._size)

    @property
    def ticket(self) -> int:
        """To be kept with a batch when it leaves, and given back with its result."""
        return self._decreases

    def succeeded(self) -> None:
        """A batch was taken."""
        if self.is_limit:
            self._size = min(self._most, self._size + 1.0 / self._size)

    def failed(self, ticket: int) -> None:
        """A batch must be sent again."""
        if ticket == self._decreases:
            self._decreases += 1
            self._size = max(1.0, self._size / 2.0)


class Backoff:
    """Computes the wait after a failure."""

    def __init__(self, uniform: Uniform) -> None:
        self._uniform = uniform
        self.failures = 0
        """Failures since the last success."""

    def delay(self, asked_secs: float | None) -> float:
        """Seconds to wait after one more failure; `asked_secs` is what the peer asked for."""
        most = min(MAX_DELAY_SECS, FIRST_DELAY_SECS * 2.0 ** min(self.failures, 16))
        self.failures += 1
        jitter = self._uniform(0.0, most)
        if asked_secs is None:
            return jitter
        return min(max(asked_secs, 0.0), ASKED_MAX_SECS) + min(jitter, FIRST_DELAY_SECS)

    def succeeded(self) -> None:
        """Begin again with short waits."""
        self.failures = 0


class Replay:
    """Limits the rate of a backlog. `extra` is the number of items per second on top of what arrives."""

    def __init__(self, extra: float, now: float) -> None:
        self._extra = extra
        self._arrivals = 0.0
        self._measured_at = now
        self._waiting: int | None = None
        self._handed_out = 0
        self._tokens = 0.0
        self._at = now
        self.active = False

    def measure(self, now: float, waiting: int) -> None:
        """Measure the rate of arrivals: `waiting` items are in the ring now, and not handed out."""
        passed = now - self._measured_at
        if self._waiting is not None:
            if passed <= 0.0:
                return
            # What the ring has dropped meanwhile makes this too low, never too high.
            rate = max(0, waiting - self._waiting + self._handed_out) / passed
            self._arrivals += min(1.0, passed / RATE_WINDOW_SECS) * (rate - self._arrivals)
        self._measured_at, self._waiting, self._handed_out = now, waiting, 0

    def begin(self) -> None:
        """A backlog waits: limit the rate from now on."""
        if not self.active:
            self.active = True
            self._tokens = 0.0

    def handed_out(self, items: int) -> None:
        """The reader has handed out a batch; a negative number of items was returned to it."""
        self._handed_out += items
        if self.active:
            self._tokens -= items

    def wait(self, now: float, waiting: int, *, done_below: int) -> float:
        """Seconds until the next batch may leave. With fewer than `done_below` items in the ring, replay ends."""
        rate = self._arrivals + self._extra
        # One second's worth at most: no burst after a pause.
        self._tokens = min(rate, self._tokens + (now - self._at) * rate)
        self._at = now
        if waiting < done_below:
            self.active = False
        if not self.active or self._tokens >= 0.0:
            return 0.0
        return max(SHORTEST_WAIT_SECS, -self._tokens / rate)
