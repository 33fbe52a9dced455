"""Errors of the control plane.

StoreError          a database operation failed or was too slow; a later attempt may succeed
ServerNotConnected  the server of a command is not connected
Conflict            an id is already in use
LimitReached        a limit on stored records; nothing was stored
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class StoreError(AgentError):
    """The database failed or was too slow."""

    code = "STORE_UNAVAILABLE"


class ServerNotConnected(AgentError):
    """The server is not connected. Only deploys are queued for it."""

    code = "SERVER_NOT_CONNECTED"


class Conflict(AgentError):
    """The id is already in use for another object."""

    code = "CONFLICT"


class LimitReached(AgentError):
    """The number of stored records has reached its limit."""

    code = "LIMIT_REACHED"
