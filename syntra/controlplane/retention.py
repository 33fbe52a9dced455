"""How much each server may keep when a table of the store is over its limit. Pure."""

from __future__ import annotations

from collections.abc import Collection


def fair_share(used: Collection[int], limit: int) -> int | None:
    """Return the most that one server may keep, or None when all servers together are within `limit`.

    The share is max-min fair: a server that uses less than the share keeps all it has, and what it leaves unused is
    divided among the others. `used` has one amount per server, in rows or in bytes.
    """
    left = limit
    for index, amount in enumerate(sorted(used)):
        share = left // (len(used) - index)
        if amount > share:
            return share
        left -= amount
    return None
