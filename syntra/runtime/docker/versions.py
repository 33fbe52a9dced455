"""Chooses the API version for an engine. Pure."""

from __future__ import annotations

import re

from syntra.runtime.docker.errors import EngineError

OLDEST = (1, 41)
"""Docker 20.10. Older engines lack one-shot stats and are no longer supported anywhere."""
NEWEST = (1, 52)
"""The newest version that this client can read; engines support older versions for years."""

_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})")


def parse_version(text: str) -> tuple[int, int] | None:
    """ "1.41" as (1, 41); None for anything else."""
    match = _VERSION.fullmatch(text.strip())
    return (int(match[1]), int(match[2])) if match else None


def dotted(version: tuple[int, int]) -> str:
    """(1, 41) as "1.41"."""
    return f"{version[0]}.{version[1]}"


def agree(engine: tuple[int, int]) -> tuple[int, int] | None:
    """The version to use with an engine whose newest is `engine`; None when it is too old."""
    return None if engine < OLDEST else min(engine, NEWEST)


def is_refusal(error: EngineError) -> bool:
    """Whether an error means that the engine does not support the version in the path: the call had no effect."""
    message = error.message.lower()
    return error.status == 400 and "client version" in message and ("too old" in message or "too new" in message)
