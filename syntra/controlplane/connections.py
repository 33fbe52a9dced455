"""The places for connections: a few for unauthenticated clients, the others for clients with a valid token. Pure."""

from __future__ import annotations

from collections.abc import Callable

from syntra.controlplane.settings import Limits

OPERATOR = ""
"""The owner of the operator's connections; no server has this id."""


class Place:
    """The place of one connection. `displace` is called when a newer unauthenticated client takes the place."""

    def __init__(self, places: Places, displace: Callable[[], None]) -> None:
        self._places = places
        self.displace = displace
        self.owner: str | None = None
        self.is_lost = False

    def claim(self, owner: str) -> bool:
        """Count the connection as one of `owner`, a server or the operator, from now on.

        False when there is no place for it, or a newer client has displaced it.
        """
        return self.owner == owner or self._places.claim(self, owner)

    def leave(self) -> None:
        """The connection is over."""
        self._places.leave(self)


class Places:
    """All places. Unauthenticated clients can only displace each other."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # A dict, because it keeps the order in which clients connected.
        self._unauthenticated: dict[Place, None] = {}
        self._owned: dict[str, int] = {}

    def enter(self, displace: Callable[[], None]) -> Place:
        """A place for a new connection. If none is free, the oldest unauthenticated client is displaced."""
        if len(self._unauthenticated) >= self._limits.unauthenticated:
            oldest = next(iter(self._unauthenticated))
            del self._unauthenticated[oldest]
            oldest.is_lost = True
            oldest.displace()
        place = Place(self, displace)
        self._unauthenticated[place] = None
        return place

    def claim(self, place: Place, owner: str) -> bool:
        """See `Place.claim`."""
        if place.is_lost or place.owner is not None:
            return False
        if sum(self._owned.values()) >= self._limits.connections:
            return False
        if owner != OPERATOR and self._owned.get(owner, 0) >= self._limits.connections_per_server:
            return False
        del self._unauthenticated[place]
        self._owned[owner] = self._owned.get(owner, 0) + 1
        place.owner = owner
        return True

    def leave(self, place: Place) -> None:
        """See `Place.leave`."""
        self._unauthenticated.pop(place, None)
        if place.owner is not None:
            self._owned[place.owner] -= 1
            if not self._owned[place.owner]:
                del self._owned[place.owner]
            place.owner = None
        place.is_lost = True
