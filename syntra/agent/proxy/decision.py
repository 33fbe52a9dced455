"""Decides what `proxy up` has to do, given the containers that exist. Pure.

The decision depends on observed state only, never on earlier actions. So an agent that was killed at any point resumes
with the next `proxy up`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from syntra.utils.frozen import frozen


class Action(Enum):
    """What `proxy up` does, as the response names it."""

    NOTHING = "unchanged"
    ADOPT = "adopted"
    START = "started"
    REPLACE = "replaced"


@frozen
class Seen:
    """One of the agent's proxy containers. `fits`: it matches the current configuration."""

    id: str
    fits: bool
    running: bool


@frozen
class Decision:
    """`keep` is the container to run, None when it must be created; `old` are those to remove."""

    action: Action
    keep: str | None = None
    old: tuple[str, ...] = ()


def decide(found: Sequence[Seen], *, foreign: bool) -> Decision:
    """`foreign`: a proxy answers, but none of `found` runs. A container that fits is kept: a restart costs requests."""
    fitting = [seen for seen in found if seen.fits]
    running = [seen for seen in found if seen.running]
    if foreign and not running:
        return Decision(action=Action.ADOPT)
    keep = next((seen for seen in fitting if seen.running), next(iter(fitting), None))
    old = tuple(seen.id for seen in found if keep is None or seen.id != keep.id)
    if keep is not None and keep.running:
        return Decision(action=Action.NOTHING, keep=keep.id, old=old)
    action = Action.REPLACE if running else Action.START
    return Decision(action=action, keep=keep.id if keep else None, old=old)
