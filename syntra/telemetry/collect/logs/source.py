"""One container's log as the collector has it: what is read, limited, and when it is checked again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from syntra.model.fields import Json
from syntra.telemetry.collect.logs.line_reader import LineReader
from syntra.telemetry.collect.logs.rate_limit import Gap, RateLimit
from syntra.telemetry.collect.logs.record_encoder import request, scope_named
from syntra.telemetry.collect.logs.targets import Target
from syntra.telemetry.intake import CollectedLines

log = logging.getLogger(__name__)

FLUSH_SECS = 0.5
"""How long an entry waits for a line that continues it."""
QUIET_SECS = 5.0
"""A log without a new line for so long is checked less often."""
QUIET_POLL_SECS = 1.0
RETRY_SECS = 10.0
"""How long a file that cannot be read is left alone."""
_SCOPE = scope_named("syntra/container-logs")


class Tail(Protocol):
    """Reads one log; see `file_tail` and `stream_tail`."""

    reader: LineReader
    invalid: int
    unreadable: int
    has_gap: bool
    is_last: bool
    """Set when the container is gone."""

    @property
    def is_open(self) -> bool:
        """Whether more comes although `read` has reached the end."""
        ...

    def read(self) -> list[bytes] | None: ...

    def flush(self, *, is_end: bool) -> list[bytes]: ...

    def mark(self) -> Json: ...

    def close(self) -> None: ...


class LogSource:
    """One container. Only the collector's thread uses it."""

    def __init__(self, target: Target, tail: Tail, limit: RateLimit) -> None:
        self.target = target
        self.tail = tail
        self.limit = limit
        self.is_ending = False
        """Whether the container is gone: what is left is read, and that is all."""
        self.has_more = False
        """Whether the last `read` did not reach the end."""
        self.items = 0
        self.problem = ""
        self._mark: Json = None
        self._may_have_moved = True
        self._resource: tuple[Mapping[str, str], bytes] | None = None
        self._last_at = float("-inf")
        self._looked_at = float("-inf")
        self._retry_at = float("-inf")

    @property
    def is_done(self) -> bool:
        """Whether all that is written is read."""
        return not (self.has_more or self.tail.reader.is_waiting or self.tail.is_open)

    def is_due(self, now: float) -> bool:
        """Whether to check it in this round."""
        if now < self._retry_at:
            return False
        return not self.is_quiet(now) or now - self._looked_at >= QUIET_POLL_SECS

    def is_quiet(self, now: float) -> bool:
        """Whether there was nothing new for a while."""
        return now - self._last_at > QUIET_SECS and not self.is_ending

    def is_read_differently(self, target: Target) -> bool:
        """Whether the target joins or parses lines in another way than so far."""
        return (self.target.multiline, self.target.parse) != (target.multiline, target.parse)

    def read(self, now: float, *, is_draining: bool) -> list[bytes]:
        """The next records; none at the end, or when it cannot be read."""
        self._looked_at = now
        self.tail.is_last = self.is_ending
        try:
            records = self.tail.read()
            self.problem = ""
        except OSError as failed:
            reason = f"cannot read the log of container {self.target.container_id[:12]}: {failed.strerror}"
            if reason != self.problem:
                log.warning("cannot read a container's log", extra={"path": self.target.path, "reason": str(failed)})
            self.problem = reason
            self._retry_at = now + RETRY_SECS
            self.has_more = False
            return []
        self.has_more = records is not None
        if records is not None:
            self._last_at = now
        elif self.tail.reader.is_waiting:
            is_end = self.is_ending or is_draining
            if is_end or now - self._last_at >= FLUSH_SECS:
                records = self.tail.flush(is_end=is_end or not self.target.is_running)
        self._may_have_moved = self._may_have_moved or records is not None
        if self.tail.has_gap:
            self.tail.has_gap = False
            text = "log lines may be missing: the engine removed a file of this container's log before it was read"
            records = [self.tail.reader.note(time.time_ns(), text, {"log.gap": "rotated"}), *(records or ())]
        return records or []

    def admitted(self, records: list[bytes], now: float) -> list[bytes]:
        """The records that the service's limit lets pass, behind a record for the gap that has ended."""
        limit = self.limit
        out = [self._note(gap)] if limit.is_dropping and (gap := limit.end_gap(now)) is not None else []
        passed = limit.admit(records, now) if records else 0
        if passed < len(records):
            dropped = records[passed:]
            limit.drop(len(dropped), sum(map(len, dropped)))
            records = records[:passed]
        return out + records

    def new_mark(self) -> Json:
        """Its place, if that has changed since the last call; None otherwise."""
        if not self._may_have_moved:
            return None
        mark = self.tail.mark()
        self._may_have_moved = mark is None
        if mark == self._mark:
            return None
        self._mark = mark
        return mark

    def collected(self, records: list[bytes], encode_resource: Callable[[Mapping[str, str]], bytes]) -> CollectedLines:
        """Records of `read` as a request."""
        self.items += len(records)
        if self._resource is None or self._resource[0] is not self.target.resource:
            self._resource = self.target.resource, encode_resource(self.target.resource)
        resource = self._resource[1]
        failures = self.tail.reader.failures
        made = CollectedLines(
            resource=resource,
            request=request(resource, _SCOPE, records),
            items=len(records),
            failures=b"".join(failures),
        )
        failures.clear()
        return made

    def _note(self, gap: Gap) -> bytes:
        rate = self.limit.rate
        text = (
            f"{gap.lines} log records ({gap.size} bytes) of this service were dropped: it writes more than "
            f"{rate.lines_per_sec:g} lines or {rate.bytes_per_sec:g} bytes a second; raise logs.rate_limit to keep more"
        )
        return self.tail.reader.note(
            time.time_ns(), text, {"log.gap": "rate_limit", "log.gap.lines": gap.lines, "log.gap.bytes": gap.size}
        )
