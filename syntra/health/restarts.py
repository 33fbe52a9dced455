"""When to restart an unhealthy replica, and when to recreate or start one that is gone or down. Pure.

Each replica of a service has a slot. A slot with a problem gets an attempt 1 s after the problem was first seen, or
after the previous attempt. The delay doubles with every attempt up to 5 min, and is 1 s again after 10 min without a
problem. Also:

- a service that is stopped or has an operation in progress is left to that operation;
- a container that the engine will restart or remove by itself is left to the engine;
- a restart never takes down the last serving replica, and a service restarts one replica at a time: the next one waits
  until the previous one is healthy or its delay is over. Starting a stopped replica takes nothing down and does not
  wait for others.

A failed observation is not an empty one: do not call `decide` while the engine does not answer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from syntra.health.result import bounded
from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.status import Health
from syntra.utils.frozen import frozen

FIRST_DELAY_SECS = 1.0
MOST_DELAY_SECS = 300.0
RESET_SECS = 600.0
_MOST_ATTEMPTS = 20  # 2^20 s is far beyond the longest delay

_DOWN = frozenset({ContainerState.CREATED, ContainerState.EXITED})


@frozen
class Desired:
    """The desired state of a service."""

    service_id: ServiceId
    deployment_id: DeploymentId
    replicas: int
    restart_unhealthy: bool
    """Whether the spec enables restarts of unhealthy replicas. Stopped and missing replicas are always restored."""
    stopped: bool = False
    busy: bool = False
    """An operation of the service runs or is queued."""


@frozen
class Seen:
    """The observed state of a replica. `serving`: traffic or names resolve to it now, whatever its health."""

    replica: Container
    health: Health
    serving: bool


@frozen
class RestartUnhealthy:
    """Restart a running container."""

    service_id: ServiceId
    container_id: ContainerId
    index: int
    reason: str


@frozen
class StartDown:
    """Start a container that is not running."""

    service_id: ServiceId
    container_id: ContainerId
    index: int
    reason: str


@frozen
class CreateMissing:
    """Create and start replica `index`; `remove` is a dead container to remove first."""

    service_id: ServiceId
    deployment_id: DeploymentId
    index: int
    remove: ContainerId | None
    reason: str


Action = RestartUnhealthy | StartDown | CreateMissing


class Restarts:
    """Remembers attempts. Call `decide` after every change and at `next_at`; more calls change nothing."""

    def __init__(self) -> None:
        self._services: dict[ServiceId, dict[int, _Slot]] = {}
        self._next_at: float | None = None

    @property
    def next_at(self) -> float | None:
        """When the same observation would first give another decision; None when never."""
        return self._next_at

    def next_attempt(self, now: float, service_id: ServiceId, index: int) -> float | None:
        """When the next attempt for a replica is due, if its problem lasts; None when nothing is known of it."""
        slot = self._services.get(service_id, {}).get(index)
        if slot is None:
            return None
        return max(now if slot.failing_since is None else slot.failing_since, slot.attempted_at) + slot.delay

    def decide(self, now: float, desired: Iterable[Desired], seen: Iterable[Seen]) -> list[Action]:
        """The actions to take now; each counts as an attempt. `now` is in seconds on a monotonic clock.

        `desired` must contain all services and `seen` all their replicas: whatever is missing is forgotten.
        """
        replicas: dict[ServiceId, list[Seen]] = {}
        for one in seen:
            replicas.setdefault(one.replica.service_id, []).append(one)
        self._next_at = None
        actions: list[Action] = []
        kept: dict[ServiceId, dict[int, _Slot]] = {}
        for service in desired:
            slots = self._services.get(service.service_id, {})
            if service.stopped:
                continue
            kept[service.service_id] = slots
            if service.busy:
                for slot in slots.values():
                    slot.reset()
                continue
            actions += self._service(now, service, replicas.get(service.service_id, []), slots)
        self._services = kept
        return actions

    def _service(self, now: float, service: Desired, seen: Sequence[Seen], slots: dict[int, _Slot]) -> list[Action]:
        there = [one for one in seen if one.replica.deployment_id == service.deployment_id]
        used = {one.replica.index for one in there}
        # Surplus replicas are ignored: the operation that was interrupted will remove them.
        there.sort(key=lambda one: (not one.replica.is_up, one.replica.created_ns, one.replica.index))
        del there[service.replicas :]
        free = (index for index in itertools.count(1) if index not in used)
        missing = list(itertools.islice(free, service.replicas - len(there)))
        by_index = {one.replica.index: one for one in reversed(there)}
        for index in slots.keys() - by_index.keys() - set(missing):
            del slots[index]
        for index in (*by_index, *missing):
            slots.setdefault(index, _Slot())
        actions: list[Action] = [
            _create(service, index, None, f"replica {index} is gone")
            for index in missing
            if self._attempt(now, slots[index])
        ]
        unhealthy = []
        for index, one in sorted(by_index.items()):
            slot, state = slots[index], one.replica.state
            if state in _DOWN or state is ContainerState.DEAD:
                if self._attempt(now, slot):
                    actions.append(_restore(service, one.replica))
            elif state is not ContainerState.RUNNING or (
                one.health is Health.UNHEALTHY and not service.restart_unhealthy
            ):
                slot.reset()  # the engine will act, or a person has paused it on purpose
            elif one.health is Health.UNHEALTHY:
                slot.failing(now)
                unhealthy.append(one)
            else:
                slot.healthy(now)
                if slot.attempts and slot.healthy_since is not None:
                    self._decide_again(slot.healthy_since + RESET_SECS)
        return actions + self._restart_one(now, service, unhealthy, seen, slots)

    def _restart_one(
        self,
        now: float,
        service: Desired,
        unhealthy: Sequence[Seen],
        seen: Sequence[Seen],
        slots: dict[int, _Slot],
    ) -> list[Action]:
        serving = sum(one.serving for one in seen)
        health = {one.replica.index: one.health for one in seen if one.replica.deployment_id == service.deployment_id}
        # Replicas without traffic first, then those with the fewest attempts.
        for one in sorted(unhealthy, key=lambda o: (o.serving, slots[o.replica.index].attempts, o.replica.index)):
            if one.serving and serving == 1:
                continue
            trials = [
                slot.trial_ends
                for index, slot in slots.items()
                if index != one.replica.index and slot.trial_ends > now and health.get(index) is not Health.HEALTHY
            ]
            if trials:
                self._decide_again(max(trials))
                continue
            slot = slots[one.replica.index]
            if self._attempt(now, slot):
                slot.trial_ends = now + slot.delay
                reason = f"replica {one.replica.index} is unhealthy"
                return [
                    RestartUnhealthy(
                        service_id=service.service_id,
                        container_id=one.replica.container_id,
                        index=one.replica.index,
                        reason=reason,
                    )
                ]
        return []

    def _attempt(self, now: float, slot: _Slot) -> bool:
        """Whether the slot's next attempt is due; if so, it is counted."""
        slot.failing(now)
        due = slot.due
        if due > now:
            self._decide_again(due)
            return False
        slot.attempts = min(slot.attempts + 1, _MOST_ATTEMPTS)
        slot.attempted_at = now
        self._decide_again(now + slot.delay)
        return True

    def _decide_again(self, at: float) -> None:
        self._next_at = at if self._next_at is None else min(self._next_at, at)


class _Slot:
    """The memory of one replica's slot."""

    __slots__ = ("attempted_at", "attempts", "failing_since", "healthy_since", "trial_ends")

    def __init__(self) -> None:
        self.attempts = 0
        self.attempted_at = -math.inf
        self.trial_ends = -math.inf
        self.failing_since: float | None = None
        self.healthy_since: float | None = None

    @property
    def delay(self) -> float:
        return min(FIRST_DELAY_SECS * 2.0**self.attempts, MOST_DELAY_SECS)

    @property
    def due(self) -> float:
        assert self.failing_since is not None, "cannot happen: only a failing slot is due"
        return max(self.failing_since, self.attempted_at) + self.delay

    def healthy(self, now: float) -> None:
        self.failing_since = None
        if self.healthy_since is None:
            self.healthy_since = now
        if now - self.healthy_since >= RESET_SECS:
            self.attempts = 0

    def failing(self, now: float) -> None:
        self.healthy_since = None
        if self.failing_since is None:
            self.failing_since = now

    def reset(self) -> None:
        """Something else acts on the replica: earlier observations are no longer valid."""
        self.healthy_since = self.failing_since = None


def _restore(service: Desired, replica: Container) -> Action:
    word = replica.state.value
    if replica.state is not ContainerState.CREATED and replica.exit_code is not None:
        word = f"{word} with code {replica.exit_code}"
    reason = f"replica {replica.index} is {word}"
    if replica.error:
        reason += f": {replica.error}"
    if replica.state is ContainerState.DEAD:
        return _create(service, replica.index, replica.container_id, reason)
    return StartDown(
        service_id=service.service_id,
        container_id=replica.container_id,
        index=replica.index,
        reason=bounded(reason),
    )


def _create(service: Desired, index: int, remove: ContainerId | None, reason: str) -> Action:
    return CreateMissing(
        service_id=service.service_id,
        deployment_id=service.deployment_id,
        index=index,
        remove=remove,
        reason=bounded(reason),
    )
