"""The demo's only error."""

from __future__ import annotations


class StoryFailed(Exception):
    """A step did not do what it says; the message says what happened instead."""


def expect(holds: object, otherwise: str) -> None:
    """Raise StoryFailed with `otherwise` unless `holds` is true."""
    if not holds:
        raise StoryFailed(otherwise)
