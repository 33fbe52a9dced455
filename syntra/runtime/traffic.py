"""Weaves the proxy into a plan: published once proven, withdrawn and drained before anything is stopped. Pure.

One rule for every plan instead of one more case in each: whatever is awaited healthy is published right after, and
whatever is about to be stopped or restarted is withdrawn first. Planning again gives the same steps again, and both are
without effect when they have been done already, so an interrupted plan goes on as every other does.
"""

from __future__ import annotations

from collections.abc import Iterable

from syntra.runtime.steps import AwaitHealthy, Plan, Publish, RestartReplica, Step, StopReplicas, Withdraw


def woven(plan: Plan, *, serving: int) -> Plan:
    """The plan with traffic; `serving` is how many replicas the service has up.

    A single replica is not withdrawn for a restart: without it the service would answer nothing for longer.
    """
    return Plan(steps=tuple(_steps(plan.steps, serving)), notes=plan.notes)


def _steps(steps: Iterable[Step], serving: int) -> Iterable[Step]:
    for step in steps:
        match step:
            case StopReplicas(replicas=replicas):
                yield Withdraw(replicas=replicas)
                yield step
            case RestartReplica(replica=replica) if serving > 1:
                yield Withdraw(replicas=(replica,))
                yield step
            case AwaitHealthy(replicas=refs, label=label):
                yield step
                yield Publish(replicas=refs, label=label.removesuffix(" is").removesuffix(" are"))
            case _:
                yield step
