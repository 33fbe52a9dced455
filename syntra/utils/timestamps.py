"""Times as epoch numbers and as RFC 3339 text, exact to the nanosecond.

Pure. Text is always UTC with a `Z`; parsing accepts any offset. Integers only: a float cannot hold nanoseconds.
"""

from __future__ import annotations

import re
from datetime import date

from syntra.utils.errors import AgentError

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY_SECS = 86_400
_NS = 1_000_000_000
# [0-9] and not \d, which matches digits of every script.
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, by which the engine means "not yet"


def format_secs(epoch_secs: float) -> str:
    """Seconds since the epoch as `2026-01-02T03:04:05.678Z`, rounded to milliseconds."""
    try:
        milliseconds = round(epoch_secs * 1000)
    except (OverflowError, ValueError) as exc:
        raise AgentError(f"cannot format time {epoch_secs}: it is no number; pass epoch seconds") from exc
    secs, rest = divmod(milliseconds, 1000)
    return f"{_second(secs)}.{rest:03d}Z"


def format_ns(epoch_ns: int) -> str:
    """Nanoseconds since the epoch as `2026-01-02T03:04:05.678901234Z`. Fixed width, so it sorts as text."""
    secs, rest = divmod(epoch_ns, _NS)
    return f"{_second(secs)}.{rest:09d}Z"


def parse_ns(text: str) -> int | None:
    """RFC 3339 text to nanoseconds since the epoch; None for `0001-01-01T00:00:00Z`, the engine's "never".

    Accepts all of RFC 3339 §5.6: any offset, a lower-case or space separator, a leap second (as the next second), and a
    fraction of any length (cut to nanoseconds). Raises AgentError for anything else.
    """
    if text == _NEVER:
        return None
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise _unreadable(text, "it is not RFC 3339")
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
    h, m, s = int(hour), int(minute), int(second)
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError as exc:
        raise _unreadable(text, "there is no such day") from exc
    if h > 23 or m > 59 or s > 60:
        raise _unreadable(text, "there is no such time of day")
    secs = days * _DAY_SECS + h * 3600 + m * 60 + s
    if sign:
        if int(off_hours) > 23 or int(off_minutes) > 59:
            raise _unreadable(text, "there is no such offset")
        offset = int(off_hours) * 3600 + int(off_minutes) * 60
        secs += offset if sign == "-" else -offset
    return secs * _NS + (int(fraction[:9].ljust(9, "0")) if fraction else 0)


def _second(epoch_secs: int) -> str:
    days, rest = divmod(epoch_secs, _DAY_SECS)
    try:
        day = date.fromordinal(_EPOCH_DAY + days)
    except (ValueError, OverflowError) as exc:
        raise AgentError(f"cannot format time {epoch_secs}: outside years 1 to 9999; pass epoch seconds") from exc
    minutes, second = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    return f"{day.isoformat()}T{hour:02d}:{minute:02d}:{second:02d}"


def _unreadable(text: str, reason: str) -> AgentError:
    return AgentError(f"cannot read timestamp {text[:40]!r}: {reason}; expected the form 2026-01-02T03:04:05Z")
