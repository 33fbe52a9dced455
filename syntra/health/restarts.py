"""When to restart a replica that is unhealthy, and when to bring back one that is gone or down. Pure.

Each replica of a service has a place. A place that is not well gets a next attempt 1 s after it was first seen so, or
after the attempt before; that delay doubles with every attempt up to 5 min, and is 1 s again after 10 min of being
well. Within this:

- a service that is stopped or has an operation under way is left alone: the operation knows better;
- what the engine is about to restart or remove by itself is left to it;
- a restart never takes away the last replica that serves, and a service restarts one replica at a time: the next one
  waits until the one before is healthy or has had its delay. Starting what is down takes nothing away and does not
  wait for others.

An observation that failed is not an empty one: while the engine does not answer, nothing may be decided.
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
    """A service as it is meant to be."""

    service_id: ServiceId
    deployment_id: DeploymentId
    replicas: int
    restart_unhealthy: bool
    """Whether the spec asks for it. What is down or gone is brought back in any case."""
    stopped: bool = False
    busy: bool = False
    """An operation of the service runs or waits."""


@frozen
class Seen:
    """A replica as it is. `serving` says that traffic or names lead to it now, whatever its health."""

    replica: Container
    health: Health
    serving: bool


@frozen
class RestartUnhealthy:
    """Restart a running container."""

    service_id: ServiceId
    container_id: ContainerId
    reason: str


@frozen
class StartDown:
    """Start a container that is there and down."""

    service_id: ServiceId
    container_id: ContainerId
    reason: str


@frozen
class CreateMissing:
    """Create and start replica `index`; `remove` is a dead container that is in the way."""

    service_id: ServiceId
    deployment_id: DeploymentId
    index: int
    remove: ContainerId | None
    reason: str


Action = RestartUnhealthy | StartDown | CreateMissing


class Restarts:
    """Remembers attempts. Ask whenever something changed, and at `next_at`; asking more often changes nothing."""

    def __init__(self) -> None:
        self._services: dict[ServiceId, dict[int, _Place]] = {}
        self._next_at: float | None = None

    @property
    def next_at(self) -> float | None:
        """When the same picture would first lead to another decision; None when never."""
        return self._next_at

    def decide(self, now: float, desired: Iterable[Desired], seen: Iterable[Seen]) -> list[Action]:
        """What to do now; each action returned counts as an attempt. `now` is seconds on a clock that does not go back.

        `desired` are all services there are, `seen` all their replicas: what is missing in either is forgotten.
        """
        replicas: dict[ServiceId, list[Seen]] = {}
        for one in seen:
            replicas.setdefault(one.replica.service_id, []).append(one)
        self._next_at = None
        actions: list[Action] = []
        kept: dict[ServiceId, dict[int, _Place]] = {}
        for service in desired:
            places = self._services.get(service.service_id, {})
            if service.stopped:
                continue
            kept[service.service_id] = places
            if service.busy:
                for place in places.values():
                    place.disturbed()
                continue
            actions += self._service(now, service, replicas.get(service.service_id, []), places)
        self._services = kept
        return actions

    def _service(self, now: float, service: Desired, seen: Sequence[Seen], places: dict[int, _Place]) -> list[Action]:
        there = [one for one in seen if one.replica.deployment_id == service.deployment_id]
        used = {one.replica.index for one in there}
        # Those beyond the number are none of ours: an operation that was cut short will retire them.
        there.sort(key=lambda one: (not one.replica.is_up, one.replica.created_ns, one.replica.index))
        del there[service.replicas :]
        free = (index for index in itertools.count(1) if index not in used)
        missing = list(itertools.islice(free, service.replicas - len(there)))
        by_index = {one.replica.index: one for one in reversed(there)}
        for index in places.keys() - by_index.keys() - set(missing):
            del places[index]
        for index in (*by_index, *missing):
            places.setdefault(index, _Place())
        actions: list[Action] = [
            _create(service, index, None, f"replica {index} is gone")
            for index in missing
            if self._attempt(now, places[index])
        ]
        unhealthy = []
        for index, one in sorted(by_index.items()):
            place, state = places[index], one.replica.state
            if state in _DOWN or state is ContainerState.DEAD:
                if self._attempt(now, place):
                    actions.append(_bring_back(service, one.replica))
            elif state is not ContainerState.RUNNING or (
                one.health is Health.UNHEALTHY and not service.restart_unhealthy
            ):
                place.disturbed()  # the engine's turn, or nobody's: another hand pauses on purpose
            elif one.health is Health.UNHEALTHY:
                place.unwell(now)
                unhealthy.append(one)
            else:
                place.well(now)
                if place.attempts and place.well_since is not None:
                    self._look_again(place.well_since + RESET_SECS)
        return actions + self._restart_one(now, service, unhealthy, seen, places)

    def _restart_one(
        self,
        now: float,
        service: Desired,
        unhealthy: Sequence[Seen],
        seen: Sequence[Seen],
        places: dict[int, _Place],
    ) -> list[Action]:
        serving = sum(one.serving for one in seen)
        health = {one.replica.index: one.health for one in seen if one.replica.deployment_id == service.deployment_id}
        # First what costs nothing, then what was tried least.
        for one in sorted(unhealthy, key=lambda o: (o.serving, places[o.replica.index].attempts, o.replica.index)):
            if one.serving and serving == 1:
                continue
            trials = [
                place.trial_ends
                for index, place in places.items()
                if index != one.replica.index and place.trial_ends > now and health.get(index) is not Health.HEALTHY
            ]
            if trials:
                self._look_again(max(trials))
                continue
            place = places[one.replica.index]
            if self._attempt(now, place):
                place.trial_ends = now + place.delay
                reason = f"replica {one.replica.index} is unhealthy"
                return [
                    RestartUnhealthy(
                        service_id=service.service_id, container_id=one.replica.container_id, reason=reason
                    )
                ]
        return []

    def _attempt(self, now: float, place: _Place) -> bool:
        """Whether the place's next attempt is due; then it counts as made."""
        place.unwell(now)
        due = place.due
        if due > now:
            self._look_again(due)
            return False
        place.attempts = min(place.attempts + 1, _MOST_ATTEMPTS)
        place.attempted_at = now
        self._look_again(now + place.delay)
        return True

    def _look_again(self, at: float) -> None:
        self._next_at = at if self._next_at is None else min(self._next_at, at)


class _Place:
    """What is remembered of one replica's place."""

    __slots__ = ("attempted_at", "attempts", "trial_ends", "unwell_since", "well_since")

    def __init__(self) -> None:
        self.attempts = 0
        self.attempted_at = -math.inf
        self.trial_ends = -math.inf
        self.unwell_since: float | None = None
        self.well_since: float | None = None

    @property
    def delay(self) -> float:
        return min(FIRST_DELAY_SECS * 2.0**self.attempts, MOST_DELAY_SECS)

    @property
    def due(self) -> float:
        assert self.unwell_since is not None, "cannot happen: only what is unwell is due"
        return max(self.unwell_since, self.attempted_at) + self.delay

    def well(self, now: float) -> None:
        self.unwell_since = None
        if self.well_since is None:
            self.well_since = now
        if now - self.well_since >= RESET_SECS:
            self.attempts = 0

    def unwell(self, now: float) -> None:
        self.well_since = None
        if self.unwell_since is None:
            self.unwell_since = now

    def disturbed(self) -> None:
        """Somebody else is at it: what was seen before says nothing about after."""
        self.well_since = self.unwell_since = None


def _bring_back(service: Desired, replica: Container) -> Action:
    word = replica.state.value
    if replica.state is not ContainerState.CREATED and replica.exit_code is not None:
        word = f"{word} with code {replica.exit_code}"
    reason = f"replica {replica.index} is {word}"
    if replica.error:
        reason += f": {replica.error}"
    if replica.state is ContainerState.DEAD:
        return _create(service, replica.index, replica.container_id, reason)
    return StartDown(service_id=service.service_id, container_id=replica.container_id, reason=bounded(reason))


def _create(service: Desired, index: int, remove: ContainerId | None, reason: str) -> Action:
    return CreateMissing(
        service_id=service.service_id,
        deployment_id=service.deployment_id,
        index=index,
        remove=remove,
        reason=bounded(reason),
    )
