"""From desired and observed to steps. Pure; nothing here does anything.

Every plan is level-based: it is computed from what is there now, not from what was done before, and planning again
after any prefix of the steps gives the rest. That is what makes an agent killed at any engine call able to go on:
it observes and plans again. For the same reason undoing is a plan of its own (`unwind`) and not a list of inverse
steps: after a kill nobody knows which steps happened, but everybody can look.

Two rules hold for every plan:
- what serves is stopped only after what replaces it is proven (start-first), except where two cannot run side by
  side (a host port, a volume with a single writer) or the strategy is `instant`; then the note says so;
- before `Commit` nothing is removed that served when the operation began, so `unwind` can bring it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syntra.model.command import Pace
from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment, ServiceSpec, Strategy
from syntra.runtime.containers.steps import (
    AwaitHealthy,
    CreateReplica,
    EnsureNetwork,
    EnsureVolume,
    ObtainImage,
    RemoveReplicas,
    RestartReplica,
    Shift,
    StartReplica,
    StopReplicas,
)
from syntra.runtime.runtime import Commit, ForgetService, Hold, Plan, Ref, Step
from syntra.utils.frozen import frozen

_USABLE = (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.RESTARTING, ContainerState.EXITED)
# What the engine has begun to remove cannot be started, stopped or updated.
_GOING = (ContainerState.REMOVING, ContainerState.DEAD)


@frozen
class Goal:
    """What a deploy, rollback or scale is to reach.

    `spec_hash` tells replicas of this very spec from others under the same deployment id. `prior` are the containers
    that were up when the operation began: they are what `unwind` returns to. `pinned` says that the image is already
    here under a tag of ours. `stage` is how many steps of a canary are over.
    """

    deployment: Deployment
    spec_hash: str
    replicas: int
    prior: frozenset[ContainerId] = frozenset()
    pinned: bool = False
    stage: int = 0


def deploy(goal: Goal, observed: Sequence[Container], *, committed: bool = False) -> Plan:
    """Bring up the goal's replicas and retire every other container of the service.

    With `committed` the new ones are proven already and only retiring is left.
    """
    fresh, old = _split(goal, observed)
    # The same deployment asked for with fewer replicas: those that are up and came first stay.
    fresh.sort(key=lambda replica: (not replica.is_up, replica.created_ns, replica.index))
    old += fresh[goal.replicas :]
    del fresh[goal.replicas :]
    retire = _up(old)
    leftovers = [replica for replica in old if not replica.is_up]
    if committed:
        return Plan(steps=_stop_and_remove(retire, leftovers))
    notes: list[str] = []
    strategy = goal.deployment.strategy
    reason = stop_first_reason(goal.deployment.spec, retire)
    if reason and strategy is not Strategy.INSTANT:
        notes.append(f"the old container stops before the new one starts: {reason}")
    missing = _free_indexes(fresh, goal.replicas - len(fresh))
    steps: list[Step] = [*_prepare(goal, missing)]
    if reason or strategy is Strategy.INSTANT:
        steps += [CreateReplica(index=index) for index in missing]
        steps += _stop(retire)
        steps += _start_all(fresh, missing)
        steps += _await_all(fresh, missing)
        steps += [Commit(), *_remove([*retire, *leftovers])]
        return Plan(steps=tuple(steps), notes=tuple(notes))
    if strategy is Strategy.CANARY and goal.replicas:
        if retire or any(replica.container_id in goal.prior for replica in old):
            steps += _by_share(goal, fresh, missing)
            return Plan(steps=(*steps, Commit(), *_stop_and_remove(retire, leftovers)))
        notes.append("no earlier version is running to compare the canary with: all replicas start at once")
    if strategy in (Strategy.BLUE_GREEN, Strategy.CANARY):
        steps += [CreateReplica(index=index) for index in missing]
        steps += _start_all(fresh, missing)
        steps += _await_all(fresh, missing)
        return Plan(steps=(*steps, Commit(), *_stop_and_remove(retire, leftovers)), notes=tuple(notes))
    # As many as served when the operation began, or as are wanted when that is fewer: serving never drops below it.
    floor = min(len(goal.prior), goal.replicas)
    return Plan(steps=(*steps, *_one_by_one(fresh, missing, retire, leftovers, floor)))


def unwind(goal: Goal, observed: Sequence[Container], *, restore: bool) -> Plan:
    """Return to what served when the operation began; the new containers are the only loss.

    With `restore` false the old ones that were stopped stay down and go too: an `instant` deploy without
    `rollback_on_failure` asked for that.
    """
    new = [replica for replica in observed if replica.container_id not in goal.prior and _is_of(goal, replica)]
    prior = [replica for replica in observed if replica.container_id in goal.prior]
    if not restore:
        fallen = [replica for replica in prior if not replica.is_up]
        return Plan(steps=(*_stop(_up(new)), *_remove([*new, *fallen])))
    down = [replica for replica in prior if not replica.is_up and replica.state not in _GOING]
    starts: list[Step] = [StartReplica(replica=_ref(r)) for r in down]
    if down:
        starts.append(AwaitHealthy(replicas=tuple(_ref(r) for r in down)))
    if stop_first_reason(goal.deployment.spec, prior):
        return Plan(steps=(*_stop(_up(new)), *starts, *_remove(new)))
    return Plan(steps=(*starts, *_stop(_up(new)), *_remove(new)))


def scale(goal: Goal, observed: Sequence[Container], *, pace: Pace, committed: bool = False) -> Plan:
    """Run exactly `goal.replicas` of what is deployed; of too many, what is down goes first, then the newest."""
    fresh, _ = _split(goal, observed)
    order = sorted(fresh, key=lambda r: (not r.is_up, r.created_ns, r.index), reverse=True)
    surplus = order[: max(0, len(fresh) - goal.replicas)]
    if surplus:
        # Going down has nothing to prove: it is decided first, so that a kill in between only ever continues.
        gone = {replica.container_id for replica in surplus}
        down = [replica for replica in surplus if not replica.is_up]
        rest = [replica for replica in fresh if replica.container_id not in gone]
        return Plan(steps=(Commit(), *_revive(rest), *_stop_and_remove(_up(surplus), down)))
    if committed:
        return Plan(steps=())
    missing = _free_indexes(fresh, goal.replicas - len(fresh))
    steps: list[Step] = [*_prepare(goal, missing)]
    if pace is Pace.ROLLING:
        return Plan(steps=(*steps, *_one_by_one(fresh, missing, [], [], 0)))
    steps += [CreateReplica(index=index) for index in missing]
    steps += _start_all(fresh, missing)
    steps += _await_all(fresh, missing)
    return Plan(steps=(*steps, Commit()))


def unwind_scale(goal: Goal, observed: Sequence[Container]) -> Plan:
    """Remove the replicas that a failed scale-up added."""
    new = [replica for replica in observed if replica.container_id not in goal.prior and _is_of(goal, replica)]
    return Plan(steps=(*_stop(_up(new)), *_remove(new)))


def stop(observed: Sequence[Container], *, remove: bool) -> Plan:
    """Stop every container of a service; decided first, so that a kill in between only ever continues.

    Those that are down already are stopped too: the engine starts any container whose restart policy is `always`
    when it starts itself, however it went down.
    """
    down = [replica for replica in observed if not replica.is_up]
    if remove:
        return Plan(steps=(Commit(), *_stop_and_remove(_up(observed), down), ForgetService()))
    return Plan(steps=(Commit(), *_stop([replica for replica in observed if replica.state not in _GOING])))


def restart(observed: Sequence[Container], *, begun_ns: int) -> Plan:
    """Restart replicas one after another; those started after `begun_ns` have had their turn and are only awaited."""
    steps: list[Step] = []
    for replica in _ordered(observed):
        if replica.state in _GOING:
            continue
        if not replica.is_up or (replica.started_ns or 0) < begun_ns:
            steps.append(RestartReplica(replica=_ref(replica)))
        steps.append(AwaitHealthy(replicas=(_ref(replica),)))
    return Plan(steps=(*steps, Commit()))


def stop_first_reason(spec: ServiceSpec, old: Sequence[Container]) -> str | None:
    """Why the old and the new cannot run side by side, or None when they can."""
    if spec.host_port is not None and any(spec.host_port in replica.host_ports for replica in old):
        return f"host port {spec.host_port} can be held by one container at a time"
    if spec.replicas <= 1:
        for volume in spec.volumes:
            source = volume.host_path or volume.name
            if not volume.read_only and any(source in replica.writable_mounts for replica in old):
                return f"volume {source} has a single writer"
    return None


def canary_obstacle(deployment: Deployment, observed: Sequence[Container]) -> str | None:
    """Why a canary of the deployment cannot run beside what is up now; None when it can."""
    old = [r for r in observed if r.is_up and r.deployment_id != deployment.deployment_id]
    return stop_first_reason(deployment.spec, old)


def _prepare(goal: Goal, missing: Sequence[int]) -> Iterable[Step]:
    if not missing:
        return
    spec = goal.deployment.spec
    if not goal.pinned:
        yield ObtainImage(image=str(spec.image))
    yield EnsureNetwork(project=spec.project_name)
    for name in sorted({volume.name for volume in spec.volumes if not volume.host_path}):
        yield EnsureVolume(name=name)


def _one_by_one(
    fresh: Sequence[Container],
    missing: Sequence[int],
    retire: Sequence[Container],
    leftovers: Sequence[Container],
    floor: int,
) -> Iterable[Step]:
    # One new replica, proven, takes the place of one old; the last old ones go after the commit. A plan made again in
    # the middle sees that some old ones have gone for replicas that are proven already: hence the floor.
    queue = _ordered(retire)
    turns = _turns(_ordered(fresh), missing)
    for number, (ref, start) in enumerate(turns, start=1):
        yield from start
        yield AwaitHealthy(replicas=(ref,))
        if queue and number < len(turns) and number + len(queue) > floor:
            yield from _stop([queue.pop(0)])
    yield Commit()
    yield from _stop(queue)
    yield from _remove([*retire, *leftovers])


def _by_share(goal: Goal, fresh: Sequence[Container], missing: Sequence[int]) -> Iterable[Step]:
    # `fresh` begins with those that are up and came first: they may have their share already. The last step proves all
    # of them once more.
    turns = _turns(fresh, missing)
    steps = goal.deployment.canary.steps
    begun = 0
    for number, step in enumerate(steps, start=1):
        is_last = number == len(steps)
        if number <= goal.stage and not is_last:
            continue
        needed = max(1, -(-goal.replicas * step.percent // 100))
        for _, start in turns[begun:needed]:
            yield from start
        refs = tuple(ref for ref, _ in turns[:needed])
        if awaited := refs[0 if is_last else begun :]:
            yield AwaitHealthy(replicas=awaited)
        yield Shift(replicas=refs, percent=step.percent)
        if step.hold_secs and number > goal.stage:
            yield Hold(number=number, replicas=refs, percent=step.percent, secs=step.hold_secs)
        begun = needed


def _turns(fresh: Sequence[Container], missing: Sequence[int]) -> list[tuple[Ref, list[Step]]]:
    """Every replica of the goal, with the steps that bring it up."""
    turns: list[tuple[Ref, list[Step]]] = []
    for replica in fresh:
        turns.append((_ref(replica), [] if replica.is_up else [StartReplica(replica=_ref(replica))]))
    for index in missing:
        turns.append((_new(index), [CreateReplica(index=index), StartReplica(replica=_new(index))]))
    return turns


def _split(goal: Goal, observed: Sequence[Container]) -> tuple[list[Container], list[Container]]:
    """Replicas of the goal that can be used, and everything else of the service."""
    fresh, other = [], []
    for replica in observed:
        if _is_of(goal, replica) and replica.spec_hash == goal.spec_hash and replica.state in _USABLE:
            fresh.append(replica)
        else:
            other.append(replica)
    return fresh, other


def _is_of(goal: Goal, replica: Container) -> bool:
    return replica.deployment_id == goal.deployment.deployment_id


def _free_indexes(fresh: Sequence[Container], count: int) -> list[int]:
    taken = {replica.index for replica in fresh}
    free = (index for index in range(1, len(taken) + max(count, 0) + 1) if index not in taken)
    return [index for index, _ in zip(free, range(max(count, 0)), strict=False)]


def _start_all(fresh: Sequence[Container], missing: Sequence[int]) -> list[Step]:
    return [*_revive(fresh), *(StartReplica(replica=_new(i)) for i in missing)]


def _revive(replicas: Sequence[Container]) -> list[Step]:
    return [StartReplica(replica=_ref(r)) for r in _ordered(replicas) if not r.is_up]


def _await_all(fresh: Sequence[Container], missing: Sequence[int]) -> list[Step]:
    refs = (*(_ref(r) for r in _ordered(fresh)), *(_new(i) for i in missing))
    return [AwaitHealthy(replicas=refs)] if refs else []


def _stop_and_remove(up: Sequence[Container], down: Sequence[Container]) -> tuple[Step, ...]:
    return (*_stop(up), *_remove([*up, *down]))


def _stop(replicas: Sequence[Container]) -> list[Step]:
    return [StopReplicas(replicas=tuple(_ref(r) for r in _ordered(replicas)))] if replicas else []


def _remove(replicas: Sequence[Container]) -> list[Step]:
    return [RemoveReplicas(replicas=tuple(_ref(r) for r in _ordered(replicas)))] if replicas else []


def _ref(replica: Container) -> Ref:
    return Ref(name=replica.name, index=replica.index, container_id=replica.container_id)


def _new(index: int) -> Ref:
    return Ref(name=f"replica {index}", index=index)


def _up(replicas: Sequence[Container]) -> list[Container]:
    return [replica for replica in replicas if replica.is_up]


def _ordered(replicas: Sequence[Container]) -> list[Container]:
    return sorted(replicas, key=lambda replica: (replica.index, replica.created_ns))
