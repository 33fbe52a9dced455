"""What bringing the proxy up amounts to, given what is there. Pure.

The answer depends on what is seen alone and never on what was done before, so an agent that was killed in the middle
of anything goes on from there when it is asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from syntra.utils.frozen import frozen


class Action(Enum):
    """What is to be done."""

    NOTHING = "unchanged"
    ADOPT = "adopted"
    START = "started"
    REPLACE = "replaced"


@frozen
class Seen:
    """One container of ours. `fits`: made as one would be made now."""

    id: str
    fits: bool
    running: bool


@frozen
class Decision:
    """`keep` is the container to serve, None when it is yet to be made; `old` are those that go."""

    action: Action
    keep: str | None = None
    old: tuple[str, ...] = ()


def decide(found: Sequence[Seen], *, foreign: bool) -> Decision:
    """`foreign`: a proxy answers although none of ours runs. A restart costs requests: only a misfit is replaced."""
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
