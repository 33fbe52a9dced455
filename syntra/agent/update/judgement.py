"""Whether a version on trial holds. Pure.

It holds once it has been in order for `confirm_secs` in a row: the engine answers, and the control plane has accepted
it, if it had accepted the version before. A kill by the watchdog is a new start, which `boot-check` counts.
"""

from __future__ import annotations

import enum

from syntra.update.settle import NO_CONNECTION, NO_ENGINE
from syntra.utils.frozen import frozen


@frozen
class Condition:
    """What is seen of the agent at a moment."""

    engine_answers: bool
    is_connected: bool


class Verdict(enum.Enum):
    """What the agent does about its trial."""

    WAIT = "wait"
    KEEP = "keep"
    END = "end"


class Judgement:
    """Observations in, verdicts out. Times are monotonic seconds."""

    def __init__(self, *, needs_connection: bool, confirm_secs: float, timeout_secs: float, began: float) -> None:
        self._needs_connection = needs_connection
        self._confirm_secs = confirm_secs
        self._deadline = began + timeout_secs
        self._good_since: float | None = None
        self.reason = ""
        """Why the version is not in order, as of the last observation."""

    def observe(self, condition: Condition, now: float) -> Verdict:
        """KEEP once in order for long enough; END at the deadline, unless it is in order at that moment."""
        if not condition.engine_answers:
            self.reason = NO_ENGINE
        elif self._needs_connection and not condition.is_connected:
            self.reason = NO_CONNECTION
        else:
            self.reason = ""
        if self.reason:
            self._good_since = None
            return Verdict.END if now >= self._deadline else Verdict.WAIT
        if self._good_since is None:
            self._good_since = now
        return Verdict.KEEP if now - self._good_since >= self._confirm_secs else Verdict.WAIT
