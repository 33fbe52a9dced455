"""Parses sizes and CPU shares as people write them.

All spellings are binary multiples (`512m`, `512MB` and `512Mi` are the same 536870912 bytes): Docker does the same, and
a limit that depends on an `i` is a trap.
"""

from __future__ import annotations

import re
from decimal import Decimal

_SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,9})?)\s*(?:([kmgt])i?b?|b)?", re.IGNORECASE | re.ASCII)
_MULTIPLE = {None: 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_CPU = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)(m)?", re.ASCII)


def parse_bytes(text: str) -> int | None:
    """Bytes of `512m`, `1.5g`, `256MB` or `1048576`; None for text that is not a size, zero, and fractions of a byte.

    With a unit a fraction is rounded down: `0.3k` is 307 bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    unit = match[2].lower() if match[2] else None
    size = Decimal(match[1]) * _MULTIPLE[unit]
    if unit is None and size != size.to_integral_value():
        return None
    return int(size) or None


def parse_nano_cpus(text: str) -> int | None:
    """Billionths of a core of `0.5`, `2` or Kubernetes' `250m`; None for zero and other text."""
    match = _CPU.fullmatch(text.strip())
    if match is None:
        return None
    nanos = Decimal(match[1]) * (1_000_000 if match[2] else 1_000_000_000)
    return int(nanos) or None
