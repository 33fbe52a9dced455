"""Times as people write them: an age, or a moment."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def since(given: str) -> str:
    """A time as the contract has it (RFC 3339), from one like it or from an age."""
    ago = _AGO.fullmatch(given)
    try:
        if ago:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(given)
        # A time without zone is the reader's own, as `date` prints it.
        return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is not a time (15m, 2h, 1d, 2024-05-01T12:00:00Z)") from None
