"""How a canary goes, from and to the `canary` section of a deploy payload. Ours, and optional."""

from __future__ import annotations

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.spec import Canary, CanaryStep, Deployment, Strategy

MAX_STEPS = 20
MAX_HOLD_SECS = 24 * 3600.0
MAX_LEAST_REQUESTS = 1_000_000_000


def parse_canary(section: Fields | None, strategy: Strategy) -> Canary:
    """The canary that a section asks for; without one, the defaults. Raises InvalidField.

    For another strategy the section is checked anyway, so that switching to `canary` later is no surprise.
    """
    if section is None:
        return Canary()
    steps = _steps(section)
    limit = section.number("max_error_percent", low=0, high=100) if section.has("max_error_percent") else None
    asked = Canary(
        steps=steps or Canary().steps,
        max_error_percent=limit,
        min_requests=section.integer("min_requests", default=Canary().min_requests, low=1, high=MAX_LEAST_REQUESTS),
    )
    return asked if strategy is Strategy.CANARY else Canary()


def render_canary(deployment: Deployment) -> dict[str, Json]:
    """What `parse_canary` reads back, as a part of the payload; nothing for the other strategies."""
    if deployment.strategy is not Strategy.CANARY:
        return {}
    canary = deployment.canary
    rendered: dict[str, Json] = {
        "steps": [{"percent": step.percent, "hold_seconds": step.hold_secs} for step in canary.steps],
        "min_requests": canary.min_requests,
    }
    if canary.max_error_percent is not None:
        rendered["max_error_percent"] = canary.max_error_percent
    return {"canary": rendered}


def _steps(section: Fields) -> tuple[CanaryStep, ...]:
    steps: list[CanaryStep] = []
    for item in section.sections("steps", limit=MAX_STEPS):
        step = CanaryStep(
            percent=item.integer("percent", low=1, high=100),
            hold_secs=item.number("hold_seconds", default=0.0, low=0, high=MAX_HOLD_SECS),
        )
        if steps and step.percent <= steps[-1].percent:
            raise InvalidField(
                item.at("percent"), f"{step.percent} is not more than the {steps[-1].percent} of the step before"
            )
        steps.append(step)
    if steps and steps[-1].percent < 100:
        steps.append(CanaryStep(percent=100, hold_secs=0.0))
    return tuple(steps)
