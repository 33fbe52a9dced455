"""Which services are paused for maintenance: one row for each, until it is resumed or removed."""

from __future__ import annotations

from syntra.agent.journal.service_values import ValueTable
from syntra.model.fields import Fields, Json
from syntra.utils.frozen import frozen


@frozen
class Pause:
    """Since when (epoch seconds), why, and who asked; the last two may be empty."""

    at: float
    reason: str = ""
    by: str = ""


def _parsed(fields: Fields) -> Pause:
    at = fields.number("at", low=0, high=2**40)
    return Pause(at=at, reason=fields.optional_text("reason") or "", by=fields.optional_text("by") or "")


def _rendered(pause: Pause) -> dict[str, Json]:
    return {"at": pause.at, "reason": pause.reason, "by": pause.by}


PAUSES = ValueTable(name="pauses", column="pause", context="pause", parse=_parsed, render=_rendered)
