"""Errors over what a peer or a person asked for.

RequestError          refused, with the code that travels in `command_response.error.code`
  InvalidField        one field of a payload is wrong; names it
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class RequestError(AgentError):
    """A request that is refused before anything was touched."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class InvalidField(RequestError):
    """A field that does not parse, is missing or out of range. `field` is its dotted path in the payload."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__("INVALID_PAYLOAD", f"{field}: {reason}")
        self.field = field
        self.reason = reason
