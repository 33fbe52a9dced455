"""Errors of the ring. A disk that does not work is none: the ring continues in memory and says so."""

from __future__ import annotations

from syntra.utils.errors import AgentError


class RecordTooLarge(AgentError):
    """A record that would take too much of the ring; sending it again does not help."""
