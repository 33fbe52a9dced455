"""Adds traffic steps to a plan: publish a replica once it is healthy; withdraw and drain it before it stops. Pure.

One rule for all plans: publish after every `AwaitHealthy`, withdraw before every stop and restart. Planning again gives
the same steps, and both have no effect when repeated, so an interrupted plan resumes like any other.

A canary's plan contains `Shift` and publishes its replicas itself, always with their share.
"""

from __future__ import annotations

from collections.abc import Iterable

from syntra.runtime.containers.steps import AwaitHealthy, Publish, RestartReplica, Shift, StopReplicas, Withdraw
from syntra.runtime.runtime import Plan, Step


def with_traffic(plan: Plan, *, serving: int) -> Plan:
    """Add traffic steps to the plan; `serving` is the number of running replicas.

    A single replica is not withdrawn for a restart: that would only make the outage longer.
    """
    publishes = not any(isinstance(step, Shift) for step in plan.steps)
    return Plan(steps=tuple(_steps(plan.steps, serving, publishes=publishes)), notes=plan.notes)


def _steps(steps: Iterable[Step], serving: int, *, publishes: bool) -> Iterable[Step]:
    for step in steps:
        match step:
            case StopReplicas(replicas=replicas):
                yield Withdraw(replicas=replicas)
                yield step
            case RestartReplica(replica=replica) if serving > 1:
                yield Withdraw(replicas=(replica,))
                yield step
            case AwaitHealthy(replicas=refs) if publishes:
                yield step
                yield Publish(replicas=refs)
            case _:
                yield step
