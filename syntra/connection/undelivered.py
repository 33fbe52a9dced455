"""Handles a durable message that cannot be delivered: sends it alone, and replaces it if it causes the failure.

A message that makes the peer close the connection (1009: too large for it; or it crashes over it) would be sent again
after every reconnect, and block everything behind it for ever. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

TOO_BIG = 1009
"""The close code for a message that is larger than the peer accepts (RFC 6455 §7.4.1)."""

# The peer refuses what it received (RFC 6455 §7.4.1; 4003 is the contract's "malformed").
_ABOUT_A_MESSAGE = frozenset({1002, 1003, 1007, 1008, 4003})
# The peer shuts down, restarts or asks for a reconnect (RFC 6455 §7.4.1, and IANA's registry), or the link broke.
_NOT_ABOUT_A_MESSAGE = frozenset({1000, 1001, 1006, 1012, 1013, 4004})

_BLAME_AT = 10
# Two closes by the peer, or five broken links, each with only this message unconfirmed. A link that breaks five times
# at that moment is most likely too slow for the message.
_CLOSED, _BROKEN = 5, 2

SHORT_CHARS = 4096
"""A message this short is dropped, not replaced: the peer does not refuse it for its size."""
_KEPT_CHARS = 500
_KEPT_DEPTH = 3


class Suspicion:
    """Which durable messages were unconfirmed when connections ended. Lives as long as the agent."""

    def __init__(self) -> None:
        self._alone_until = -1
        self._suspect = -1
        self._blame = 0

    def must_go_alone(self, seq: int) -> bool:
        """Whether this message must be sent with no other unconfirmed, so that a close can be blamed on it."""
        return seq <= self._alone_until

    def blames(self, code: int, under_way: Sequence[int], *, is_short: bool) -> bool:
        """A connection ended with these messages (at least one) unconfirmed: is the first one to blame?

        A short first message is blamed only for a code that is about messages: a control plane that crashes again and
        again, or a bad link, must not cost results that are small enough for any of them.
        """
        first, last = under_way[0], under_way[-1]
        was_alone = len(under_way) == 1 and self.must_go_alone(first)
        self._alone_until = max(self._alone_until, last)
        if not was_alone:
            return False
        if first != self._suspect:
            self._suspect, self._blame = first, 0
        if code == TOO_BIG:
            self._blame = _BLAME_AT
        elif code in _ABOUT_A_MESSAGE:
            self._blame += _CLOSED
        elif not is_short:
            self._blame += _BROKEN if code in _NOT_ABOUT_A_MESSAGE else _CLOSED
        if self._blame < _BLAME_AT:
            return False
        # The replacement has the same number, and is judged from the start again.
        self._suspect, self._blame = -1, 0
        return True


def replacement(text: str) -> str | None:
    """A short form of an undeliverable message; None when it is already short, or not a valid message.

    A response that says success becomes a failure with the code ANSWER_TOO_LARGE. Any other message, a failure among
    them, keeps its ids, codes and states, but loses its lists, and its long strings are cut.
    """
    if len(text) <= SHORT_CHARS:
        return None
    document = json.loads(text)
    payload = document.get("payload")
    if not isinstance(payload, dict):
        return None
    if document.get("type") == "command_response" and payload.get("success") is not False:
        message = (
            "cannot deliver the answer: it is too large for the control plane; the command itself succeeded; ask for "
            "less at once"
        )
        error = {"code": "ANSWER_TOO_LARGE", "message": message}
        document["payload"] = {"request_id": payload.get("request_id"), "success": False, "error": error}
    else:
        document["payload"] = _shortened(payload, _KEPT_DEPTH)
    short = json.dumps(document)
    return short if len(short) <= SHORT_CHARS else None


def _shortened(payload: Mapping[str, Any], depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in payload.items():
        if isinstance(value, str):
            kept[key] = value if len(value) <= _KEPT_CHARS else f"{value[:_KEPT_CHARS]}…"
        elif isinstance(value, dict):
            kept[key] = _shortened(value, depth - 1) if depth else {}
        elif not isinstance(value, list):
            kept[key] = value
    return kept
