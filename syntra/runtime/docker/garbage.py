"""Which image names of ours nothing needs any more. Pure.

Two kinds of tags are ours. A pin (`syntra-keep/…:deployment`) holds the image of one kept deployment. A mark
(`syntra-pulled/…`) says that a plain name came here by a pull of ours; without it the name belongs to somebody else and
stays, whatever happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from syntra.model.ids import DeploymentId, ServiceId
from syntra.runtime.docker.body import KEEP_PREFIX, kept_by

MARK_PREFIX = "syntra-pulled/"
MARK_TAG = "mark"


def mark_repository(reference: str) -> str:
    """The repository of the mark for a plain name. Names are too long to be part of another name, so it is a digest."""
    return MARK_PREFIX + hashlib.sha256(reference.encode()).hexdigest()[:32]


def unneeded(
    images: Sequence[Sequence[str]],
    keep: Mapping[ServiceId, frozenset[DeploymentId]],
    known: frozenset[ServiceId],
    owner: str,
) -> list[str]:
    """The names to remove, in an order that is safe to stop in; `images` are the names of each image.

    Pins of other owners, and of services not in `known` (a lost journal's), stay and keep their images.
    """
    removals: list[str] = []
    for names in images:
        pins = {name: kept_by(owner, name) for name in names if name.startswith(KEEP_PREFIX)}
        stale = [name for name, pin in pins.items() if pin and pin[0] in known and pin[1] not in keep.get(pin[0], ())]
        removals += stale
        if len(stale) < len(pins):
            continue
        marks = [name for name in names if name.startswith(MARK_PREFIX)]
        for mark in marks:
            repository = mark.rpartition(":")[0]
            removals += [name for name in names if mark_repository(name) == repository]
            removals.append(mark)
    return removals
