"""The places for connections: a few for clients that have not shown a token, the others for those with one. Pure."""

from __future__ import annotations

from collections.abc import Callable

from syntra.controlplane.settings import Limits

OPERATOR = ""
"""The owner of the operator's connections; no server has this id."""


class Place:
    """The place of one connection. `displace` is called when a newer stranger takes it."""

    def __init__(self, places: Places, displace: Callable[[], None]) -> None:
        self._places = places
        self.displace = displace
        self.owner: str | None = None
        self.is_lost = False

    def claim(self, owner: str) -> bool:
        """Count the connection as one of `owner`, a server or the operator, from now on.

        False when there is no place for it, or a stranger has displaced it.
        """
        return self.owner == owner or self._places.claim(self, owner)

    def leave(self) -> None:
        """The connection is over."""
        self._places.leave(self)


class Places:
    """All places. Clients without a token can only displace each other."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # A dict keeps the order in which they came.
        self._strangers: dict[Place, None] = {}
        self._owned: dict[str, int] = {}

    def enter(self, displace: Callable[[], None]) -> Place:
        """A place for a new connection. When those for strangers are taken, the oldest stranger loses its own."""
        if len(self._strangers) >= self._limits.strangers:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.is_lost = True
            oldest.displace()
        place = Place(self, displace)
        self._strangers[place] = None
        return place

    def claim(self, place: Place, owner: str) -> bool:
        """See `Place.claim`."""
        if place.is_lost or place.owner is not None:
            return False
        if sum(self._owned.values()) >= self._limits.connections:
            return False
        if owner != OPERATOR and self._owned.get(owner, 0) >= self._limits.connections_per_server:
            return False
        del self._strangers[place]
        self._owned[owner] = self._owned.get(owner, 0) + 1
        place.owner = owner
        return True

    def leave(self, place: Place) -> None:
        """See `Place.leave`."""
        self._strangers.pop(place, None)
        if place.owner is not None:
            self._owned[place.owner] -= 1
            if not self._owned[place.owner]:
                del self._owned[place.owner]
            place.owner = None
        place.is_lost = True
