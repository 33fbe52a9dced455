"""Computes the steps from the desired and the observed state. Pure.

Every plan is level-based: computed from the current state, not from past actions. Planning again after any prefix of
the steps gives the rest. So an agent that was killed during any engine call resumes: it observes and plans again. For
the same reason a rollback is a plan of its own (`roll_back`), not a list of inverse steps: after a kill it is unknown
which steps happened, but the state can be observed.

Two rules hold for every plan:
- running replicas are stopped only after their replacements are healthy (start-first), unless the two cannot run side
  by side (a host port, a volume with a single writer) or the strategy is `instant`; then a note says so. Where each
  replica has volumes of its own, a rolling deploy goes index by index: one stops, its replacement starts;
- before `Commit` no container is removed that ran when the operation began, so `roll_back` can restart it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from syntra.model.command import Pace
from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment, ServiceSpec, Strategy
from syntra.runtime.containers.failed import kept, kept_release, replaced
from syntra.runtime.containers.index_by_index import ref_of, replaced_by_index, restored_by_index
from syntra.runtime.containers.side_by_side import image_volume_reason, note_on, stop_first_reason
from syntra.runtime.containers.steps import (
    AwaitHealthy,
    CreateReplica,
    EnsureNetwork,
    ObtainImage,
    RemoveRelease,
    RemoveReplicas,
    RestartReplica,
    RunRelease,
    Shift,
    StartReplica,
    StopReplicas,
)
from syntra.runtime.containers.volumes import UNKNOWN_IMAGE_VOLUMES, ReplicaVolumes, as_written, remaining
from syntra.runtime.runtime import Commit, ForgetService, Hold, Plan, Ref, Step
from syntra.utils.frozen import frozen

MAX_SHOWN = 80
"""Characters of a command in a plan."""

_USABLE = (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.RESTARTING, ContainerState.EXITED)
# The engine has begun to remove these; they cannot be started, stopped or updated.
_BEING_REMOVED = (ContainerState.REMOVING, ContainerState.DEAD)


@frozen
class Goal:
    """The target of a deploy, rollback or scale.

    `spec_hash` distinguishes replicas of this spec from others with the same deployment id. `prior` are the containers
    that were up when the operation began; `roll_back` returns to them. `pinned`: the image already exists here under
    the agent's tag. `stage` is the number of canary steps that are done. `releases`: this operation
    runs the deployment's release command, where it has one. `found` are the replicas' volumes as found on the engine.
    `at_fault` is the container whose failure ended the operation; `failed` are what earlier failed
    deployments have left.
    """

    deployment: Deployment
    spec_hash: str
    replicas: int
    prior: frozenset[ContainerId] = frozenset()
    pinned: bool = False
    stage: int = 0
    releases: bool = False

    @property
    def release_command(self) -> tuple[str, ...]:
        return self.deployment.spec.release_command if self.releases else ()

    found: ReplicaVolumes | None = None
    at_fault: ContainerId | None = None
    failed: tuple[Container, ...] = ()

    @property
    def volumes(self) -> ReplicaVolumes:
        """The replicas' volumes; when they were not looked up, as the spec gives them."""
        return self.found or as_written(self.deployment.spec)


def deploy(goal: Goal, observed: Sequence[Container], *, committed: bool = False) -> Plan:
    """Start the goal's replicas and retire all other containers of the service.

    With `committed` the new replicas are already healthy, and only the old ones are left to retire.
    """
    plan = _deploy(goal, observed, committed=committed)
    plan = Plan(steps=(*plan.steps, *_remove(goal.failed)), notes=plan.notes)
    if not goal.release_command:
        return plan
    # Its container stays until here: planning again finds by it that the command has run.
    return Plan(steps=(*plan.steps, RemoveRelease()), notes=plan.notes)


def _deploy(goal: Goal, observed: Sequence[Container], *, committed: bool) -> Plan:
    fresh, old = _split(goal, observed)
    # A deployment may be repeated with fewer replicas: keep running replicas, the oldest first.
    fresh.sort(key=lambda replica: (not replica.is_up, replica.created_ns, replica.index))
    old += fresh[goal.replicas :]
    del fresh[goal.replicas :]
    retire = _up(old)
    leftovers = [replica for replica in old if not replica.is_up]
    if committed:
        return Plan(steps=_stop_and_remove(retire, leftovers))
    strategy = goal.deployment.strategy
    reason = stop_first_reason(goal.volumes, retire)
    by_index = False
    if reason is None and goal.replicas and (reason := image_volume_reason(goal.volumes, retire)):
        by_index = strategy is Strategy.ROLLING and goal.replicas > 1
    missing = _free_indexes(fresh, goal.replicas - len(fresh), first=_image_volume_indexes(goal, retire))
    notes = _volume_notes(goal, missing)
    if reason and strategy is not Strategy.INSTANT:
        notes.insert(0, note_on(reason, by_index=by_index))
    steps: list[Step] = [*_prepare(goal, missing)]
    if goal.release_command and missing and not fresh:
        steps.append(RunRelease(command=_shown(goal.release_command)))
    if by_index:
        steps += replaced_by_index(goal.volumes, _starts(_ordered(fresh), missing), retire)
        return Plan(steps=(*steps, *_remove([*retire, *leftovers])), notes=tuple(notes))
    if reason or strategy is Strategy.INSTANT:
        steps += [CreateReplica(index=index) for index in missing]
        steps += _stop(retire)
        steps += _start_all(fresh, missing)
        steps += _await_all(fresh, missing)
        steps += [Commit(), *_remove([*retire, *leftovers])]
        return Plan(steps=tuple(steps), notes=tuple(notes))
    if strategy is Strategy.CANARY and goal.replicas:
        if retire or any(replica.container_id in goal.prior for replica in old):
            steps += _canary(goal, fresh, missing)
            return Plan(steps=(*steps, Commit(), *_stop_and_remove(retire, leftovers)))
        notes.append("no earlier version is running to compare the canary with: all replicas start at once")
    if strategy in (Strategy.BLUE_GREEN, Strategy.CANARY):
        steps += [CreateReplica(index=index) for index in missing]
        steps += _start_all(fresh, missing)
        steps += _await_all(fresh, missing)
        return Plan(steps=(*steps, Commit(), *_stop_and_remove(retire, leftovers)), notes=tuple(notes))
    # As many replicas as ran when the operation began, or as the goal has if that is fewer; never fewer in between.
    floor = min(len(goal.prior), goal.replicas)
    return Plan(steps=(*steps, *_rolling(fresh, missing, retire, leftovers, floor)), notes=tuple(notes))


def roll_back(goal: Goal, observed: Sequence[Container], *, restore: bool) -> Plan:
    """Return to the replicas that ran when the operation began; remove only the new containers.

    The one at fault is kept instead, in the place of what an earlier failed deployment has left.

    With `restore` false, old replicas that were stopped are removed too: an `instant` deploy without
    `rollback_on_failure`.
    """
    plan = _roll_back(goal, observed, restore=restore)
    steps: list[Step] = []
    if goal.release_command:
        steps += [*kept_release(goal.at_fault, observed, goal.failed), RemoveRelease()]
    steps += plan.steps
    return Plan(steps=(*steps, *_remove(replaced(steps, goal.at_fault, goal.failed))), notes=plan.notes)


def _roll_back(goal: Goal, observed: Sequence[Container], *, restore: bool) -> Plan:
    new = [replica for replica in observed if replica.container_id not in goal.prior and _is_of(goal, replica)]
    prior = [replica for replica in observed if replica.container_id in goal.prior]
    keep, rest = kept(goal.at_fault, new)
    if not restore:
        fallen = [replica for replica in prior if not replica.is_up]
        return Plan(steps=(*_stop(_up(new)), *keep, *_remove([*rest, *fallen])))
    down = [replica for replica in prior if not replica.is_up and replica.state not in _BEING_REMOVED]
    if goal.replicas > 1 and image_volume_reason(goal.volumes, prior) and not stop_first_reason(goal.volumes, prior):
        return Plan(steps=(*restored_by_index(goal.volumes, _ordered(down), _up(new)), *keep, *_remove(rest)))
    starts: list[Step] = [StartReplica(replica=ref_of(r)) for r in down]
    if down:
        starts.append(AwaitHealthy(replicas=tuple(ref_of(r) for r in down)))
    if stop_first_reason(goal.volumes, prior) or image_volume_reason(goal.volumes, prior):
        return Plan(steps=(*_stop(_up(new)), *starts, *keep, *_remove(rest)))
    return Plan(steps=(*starts, *_stop(_up(new)), *keep, *_remove(rest)))


def scale(goal: Goal, observed: Sequence[Container], *, pace: Pace, committed: bool = False) -> Plan:
    """Run exactly `goal.replicas` replicas of the deployment; remove stopped ones first, then the newest."""
    fresh, _ = _split(goal, observed)
    order = sorted(fresh, key=lambda r: (not r.is_up, r.created_ns, r.index), reverse=True)
    surplus = order[: max(0, len(fresh) - goal.replicas)]
    if surplus:
        # Scaling down cannot fail a health check: commit first, so that after a kill it only ever continues.
        gone = {replica.container_id for replica in surplus}
        down = [replica for replica in surplus if not replica.is_up]
        rest = [replica for replica in fresh if replica.container_id not in gone]
        return Plan(steps=(Commit(), *_start_stopped(rest), *_stop_and_remove(_up(surplus), down)))
    if committed:
        return Plan(steps=())
    missing = _free_indexes(fresh, goal.replicas - len(fresh))
    notes = tuple(_volume_notes(goal, missing))
    steps: list[Step] = [*_prepare(goal, missing)]
    if pace is Pace.ROLLING:
        return Plan(steps=(*steps, *_rolling(fresh, missing, [], [], 0)), notes=notes)
    steps += [CreateReplica(index=index) for index in missing]
    steps += _start_all(fresh, missing)
    steps += _await_all(fresh, missing)
    return Plan(steps=(*steps, Commit()), notes=notes)


def roll_back_scale(goal: Goal, observed: Sequence[Container]) -> Plan:
    """Remove the replicas that a failed scale-up added."""
    new = [replica for replica in observed if replica.container_id not in goal.prior and _is_of(goal, replica)]
    return Plan(steps=(*_stop(_up(new)), *_remove(new)))


def stop(
    observed: Sequence[Container],
    *,
    remove: bool,
    spec: ServiceSpec | None = None,
    failed: Sequence[Container] = (),
) -> Plan:
    """Stop every container of a service. Commit first, so that after a kill it only ever continues.

    Stopped containers are stopped again: when the engine starts, it starts every container whose restart policy is
    `always`, however it was stopped.
    """
    down = [replica for replica in observed if not replica.is_up]
    if remove:
        stay = remaining(observed, spec)
        notes = (f"these volumes stay: {', '.join(stay)}",) if stay else ()
        steps = (*_stop_and_remove(_up(observed), down), *_remove(failed))
        return Plan(steps=(Commit(), *steps, ForgetService()), notes=notes)
    return Plan(steps=(Commit(), *_stop([replica for replica in observed if replica.state not in _BEING_REMOVED])))


def restart(observed: Sequence[Container], *, begun_ns: int, goal: Goal | None = None) -> Plan:
    """Restart replicas one after another; replicas started after `begun_ns` are done and only awaited.

    Replicas of `goal` that are missing are created.
    """
    steps: list[Step] = []
    for replica in _ordered(observed):
        if replica.state in _BEING_REMOVED:
            continue
        if not replica.is_up or (replica.started_ns or 0) < begun_ns:
            steps.append(RestartReplica(replica=ref_of(replica)))
        steps.append(AwaitHealthy(replicas=(ref_of(replica),)))
    if goal is not None:
        there = [replica for replica in observed if _is_of(goal, replica) and replica.state in _USABLE]
        missing = _free_indexes(there, goal.replicas - len(there))
        steps += [*_prepare(goal, missing), *(CreateReplica(index=index) for index in missing)]
        steps += [*_start_all([], missing), *_await_all([], missing)]
    return Plan(steps=(*steps, Commit()))


def canary_obstacle(deployment: Deployment, observed: Sequence[Container], volumes: ReplicaVolumes) -> str | None:
    """Why a canary of the deployment cannot run beside the running replicas; None when it can."""
    old = [r for r in observed if r.is_up and r.deployment_id != deployment.deployment_id]
    return stop_first_reason(volumes, old) or image_volume_reason(volumes, old)


def _shown(command: Sequence[str]) -> str:
    text = " ".join(shlex.join(command).split())
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _prepare(goal: Goal, missing: Sequence[int]) -> Iterable[Step]:
    if not missing:
        return
    spec = goal.deployment.spec
    if not goal.pinned:
        yield ObtainImage(image=str(spec.image))
    yield EnsureNetwork(project=spec.project_name)
    yield from goal.volumes.ensured(missing)


def _volume_notes(goal: Goal, missing: Sequence[int]) -> list[str]:
    is_unknown = bool(missing) and goal.volumes.image_paths is None
    return [*goal.volumes.shared, *([UNKNOWN_IMAGE_VOLUMES] if is_unknown else [])]


def _rolling(
    fresh: Sequence[Container],
    missing: Sequence[int],
    retire: Sequence[Container],
    leftovers: Sequence[Container],
    floor: int,
) -> Iterable[Step]:
    # Each healthy new replica replaces one old one; the last old ones stop after the commit. A plan made again halfway
    # finds some old replicas already gone: `floor` keeps it from stopping too many.
    queue = _ordered(retire)
    starts = _starts(_ordered(fresh), missing)
    for number, (ref, start) in enumerate(starts, start=1):
        yield from start
        yield AwaitHealthy(replicas=(ref,))
        if queue and number < len(starts) and number + len(queue) > floor:
            yield from _stop([queue.pop(0)])
    yield Commit()
    yield from _stop(queue)
    yield from _remove([*retire, *leftovers])


def _image_volume_indexes(goal: Goal, retire: Sequence[Container]) -> list[int]:
    """Where a new replica takes over the image volumes of an old one."""
    return sorted({replica.index for replica in retire if goal.volumes.shared_with(replica.index, replica)})


def _canary(goal: Goal, fresh: Sequence[Container], missing: Sequence[int]) -> Iterable[Step]:
    # `fresh` starts with the oldest running replicas, which may already have their share. The last step awaits all
    # replicas again.
    starts = _starts(fresh, missing)
    steps = goal.deployment.canary.steps
    begun = 0
    for number, step in enumerate(steps, start=1):
        is_last = number == len(steps)
        if number <= goal.stage and not is_last:
            continue
        needed = max(1, -(-goal.replicas * step.percent // 100))
        for _, start in starts[begun:needed]:
            yield from start
        refs = tuple(ref for ref, _ in starts[:needed])
        if awaited := refs[0 if is_last else begun :]:
            yield AwaitHealthy(replicas=awaited)
        yield Shift(replicas=refs, percent=step.percent)
        if step.hold_secs and number > goal.stage:
            yield Hold(number=number, replicas=refs, percent=step.percent, secs=step.hold_secs)
        begun = needed


def _starts(fresh: Sequence[Container], missing: Sequence[int]) -> list[tuple[Ref, list[Step]]]:
    """Every replica of the goal, with the steps that start it."""
    starts: list[tuple[Ref, list[Step]]] = []
    for replica in fresh:
        starts.append((ref_of(replica), [] if replica.is_up else [StartReplica(replica=ref_of(replica))]))
    for index in missing:
        starts.append((_new(index), [CreateReplica(index=index), StartReplica(replica=_new(index))]))
    return starts


def _split(goal: Goal, observed: Sequence[Container]) -> tuple[list[Container], list[Container]]:
    """The usable replicas of the goal, and all other containers of the service."""
    fresh, other = [], []
    for replica in observed:
        if _is_of(goal, replica) and replica.spec_hash == goal.spec_hash and replica.state in _USABLE:
            fresh.append(replica)
        else:
            other.append(replica)
    return fresh, other


def _is_of(goal: Goal, replica: Container) -> bool:
    return replica.deployment_id == goal.deployment.deployment_id


def _free_indexes(fresh: Sequence[Container], count: int, *, first: Sequence[int] = ()) -> list[int]:
    """So many indexes that no replica has, the lowest ones; before them those of `first`."""
    count = max(count, 0)
    taken = {replica.index for replica in fresh}
    lowest = range(1, len(taken) + count + 1)
    free = [index for index in dict.fromkeys([*first, *lowest]) if index not in taken]
    return sorted(free[:count])


def _start_all(fresh: Sequence[Container], missing: Sequence[int]) -> list[Step]:
    return [*_start_stopped(fresh), *(StartReplica(replica=_new(i)) for i in missing)]


def _start_stopped(replicas: Sequence[Container]) -> list[Step]:
    return [StartReplica(replica=ref_of(r)) for r in _ordered(replicas) if not r.is_up]


def _await_all(fresh: Sequence[Container], missing: Sequence[int]) -> list[Step]:
    refs = (*(ref_of(r) for r in _ordered(fresh)), *(_new(i) for i in missing))
    return [AwaitHealthy(replicas=refs)] if refs else []


def _stop_and_remove(up: Sequence[Container], down: Sequence[Container]) -> tuple[Step, ...]:
    return (*_stop(up), *_remove([*up, *down]))


def _stop(replicas: Sequence[Container]) -> list[Step]:
    return [StopReplicas(replicas=tuple(ref_of(r) for r in _ordered(replicas)))] if replicas else []


def _remove(replicas: Sequence[Container]) -> list[Step]:
    return [RemoveReplicas(replicas=tuple(ref_of(r) for r in _ordered(replicas)))] if replicas else []


def _new(index: int) -> Ref:
    return Ref(name=f"replica {index}", index=index)


def _up(replicas: Sequence[Container]) -> list[Container]:
    return [replica for replica in replicas if replica.is_up]


def _ordered(replicas: Sequence[Container]) -> list[Container]:
    return sorted(replicas, key=lambda replica: (replica.index, replica.created_ns))
