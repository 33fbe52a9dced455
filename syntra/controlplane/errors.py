"""Errors of the control plane that somebody catches.

StoreError        the database did not do what was asked; retrying later may help
ServerAbsent      a command for a server that is not connected
Conflict          an id that is already taken
LimitReached      a bound on stored things; nothing was stored
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class StoreError(AgentError):
    """The database failed or was too slow."""

    code = "STORE_UNAVAILABLE"


class ServerAbsent(AgentError):
    """Only deploys wait for a server; everything else needs it connected."""

    code = "SERVER_NOT_CONNECTED"


class Conflict(AgentError):
    """The id exists already, for something else."""

    code = "CONFLICT"


class LimitReached(AgentError):
    """Storing one more would break a bound."""

    code = "LIMIT_REACHED"
