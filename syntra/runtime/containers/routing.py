"""Adds traffic to a plan: a replica is published once healthy, withdrawn and drained before it stops. Pure.

One rule for every plan instead of one more case in each: whatever is awaited healthy is published right after, and
whatever is about to be stopped or restarted is withdrawn first. Planning again gives the same steps again, and both are
without effect when they have been done already, so an interrupted plan goes on as every other does.

A plan that shifts is a canary's, and says itself when its replicas are published: only ever with their share.
"""

from __future__ import annotations

from collections.abc import Iterable

from syntra.runtime.containers.steps import AwaitHealthy, Publish, RestartReplica, Shift, StopReplicas, Withdraw
from syntra.runtime.runtime import Plan, Step


def with_traffic(plan: Plan, *, serving: int) -> Plan:
    """The plan with traffic; `serving` is how many replicas the service has up.

    A single replica is not withdrawn for a restart: without it the service would answer nothing for longer.
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
