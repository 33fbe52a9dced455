"""The dialect protocol, and the dialect that changes nothing: the wire contract 1.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syntra.connection.codec import Envelope


class Dialect(Protocol):
    """Translates both directions. Neither method raises, whatever JSON a message holds."""

    name: str
    """What `control_plane.dialect` calls it."""

    def incoming(self, message: Envelope, now: float) -> Sequence[Envelope]:
        """The commands that a frame of the control plane becomes. `now` is epoch seconds."""

    def outgoing(self, message: Envelope) -> Sequence[Envelope]:
        """The frames that a message of the agent becomes; empty when it must not be sent."""


class Contract:
    """The wire contract: every frame is what it says."""

    name = "contract"

    def incoming(self, message: Envelope, now: float) -> Sequence[Envelope]:
        return (message,)

    def outgoing(self, message: Envelope) -> Sequence[Envelope]:
        return (message,)
