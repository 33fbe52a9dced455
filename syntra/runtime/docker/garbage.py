"""Which image names of ours nothing needs any more. Pure.

Two kinds of tags are ours. A pin (`syntra-keep/…:deployment`) holds the image of one kept deployment. A mark
(`syntra-pulled/…`) says that a plain name came here by a pull of ours; without it the name belongs to somebody else and
stays, whatever happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from syntra.model.ids import DeploymentId, ServiceId
from syntra.runtime.docker.body import kept_by

MARK_PREFIX = "syntra-pulled/"
MARK_TAG = "mark"


def mark_repository(reference: str) -> str:
    """The repository of the mark for a plain name. Names are too long to be part of another name, so it is a digest."""
    return MARK_PREFIX + hashlib.sha256(reference.encode()).hexdigest()[:32]


def unneeded(
    images: Sequence[Sequence[str]], keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
) -> list[str]:
    """The names to remove, in an order that is safe to stop in; `images` are the names of each image.

    Pins of services not in `known` are another agent's or a lost journal's: they stay.
    """
    removals: list[str] = []
    for names in images:
        pins = {name: owner for name in names if (owner := kept_by(name)) is not None}
        stale = [name for name, (s, d) in pins.items() if s in known and d not in keep.get(s, frozenset())]
        removals += stale
        if len(stale) < len(pins):
            continue
        marks = [name for name in names if name.startswith(MARK_PREFIX)]
        for mark in marks:
            repository = mark.rpartition(":")[0]
            removals += [name for name in names if mark_repository(name) == repository]
            removals.append(mark)
    return removals
