"""Selects the agent's image tags that are no longer needed. Pure.

The agent makes two kinds of tags. A pin (`syntra-keep/…:deployment`) keeps the image of one deployment. A mark
(`syntra-pulled/…`) records that the agent pulled a plain name; a name without a mark belongs to another program and is
never removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.status import Replica
from syntra.runtime.docker.body import KEEP_PREFIX, kept_by

MARK_PREFIX = "syntra-pulled/"
MARK_TAG = "mark"


def mark_repository(reference: str) -> str:
    """The repository of the mark for a plain name: a digest, as a name is too long to be part of another name."""
    return MARK_PREFIX + hashlib.sha256(reference.encode()).hexdigest()[:32]


def is_pulled(names: Iterable[str]) -> bool:
    """Whether an image with these tags has the mark of one that the agent pulled."""
    return any(name.startswith(MARK_PREFIX) for name in names)


def with_failed(
    keep: Mapping[ServiceId, frozenset[DeploymentId]], failed: Iterable[Replica]
) -> dict[ServiceId, frozenset[DeploymentId]]:
    """The deployments to keep, with those whose failed container is kept."""
    kept = dict(keep)
    for replica in failed:
        kept[replica.service_id] = kept.get(replica.service_id, frozenset()) | {replica.deployment_id}
    return kept


def unneeded(
    images: Sequence[Sequence[str]],
    keep: Mapping[ServiceId, frozenset[DeploymentId]],
    known: frozenset[ServiceId],
    owner: str,
) -> list[str]:
    """The tags to remove, in an order in which an interruption is safe; `images` are the tags of each image.

    Pins of other owners, and of services not in `known` (after a lost journal), stay and keep their images.
    """
    removals: list[str] = []
    for listed in images:
        # Podman lists a digest for each repository, also for pins and marks. They go with their tags.
        names = [name for name in listed if "@" not in name or not name.startswith((KEEP_PREFIX, MARK_PREFIX))]
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
