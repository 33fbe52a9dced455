"""The lease by which one agent of several with the same id acts in a cluster (coordination.k8s.io/v1).

It works as leader election in client-go (tools/leaderelection), and has its durations. The holder renews the lease.
Another agent takes it when it has not changed for its duration, as that agent's own clock measures: clocks of machines
differ. The holder stops to change anything when it could not renew for `RENEW_WITHIN_SECS`, which is before another
may take the lease. It ends only when another has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.names import MANAGED_BY, MANAGER, OWNER, label_value
from syntra.runtime.kubernetes.objects import Object, integer, mapping, text
from syntra.runtime.kubernetes.resources import LEASE
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import format_ns

log = logging.getLogger(__name__)

DURATION_SECS = 15
RENEW_WITHIN_SECS = 10.0
RETRY_SECS = 2.0
# Twice within the time above, at less than half of the calls that renewing at each retry would take.
RENEW_EVERY_SECS = 5.0
CALL_SECS = 5.0


class LeaseLost(AgentError):
    """Another agent has taken the lease. This one must end."""


def may_take(found: Object, holder: str, *, unchanged_secs: float) -> bool:
    """Whether `holder` may take a lease that has not changed for so long. Pure."""
    current = text(found, "spec", "holderIdentity")
    duration = integer(found, "spec", "leaseDurationSeconds", default=DURATION_SECS)
    return current in ("", holder) or unchanged_secs >= duration


def taken(found: Object, holder: str, *, now_ns: int) -> Object:
    """The lease as its holder writes it; with an empty holder, it is released. Pure.

    It keeps the resource version, so that the API server refuses it when another process has changed the lease.
    """
    spec = mapping(found, "spec")
    is_kept = text(spec, "holderIdentity") == holder
    times: Object = {"renewTime": _micro_time(now_ns)}
    times["acquireTime"] = spec.get("acquireTime") if is_kept else times["renewTime"]
    changes: Object = {
        "holderIdentity": holder,
        # As client-go: a released lease is free at once.
        "leaseDurationSeconds": DURATION_SECS if holder else 1,
        "leaseTransitions": integer(spec, "leaseTransitions") + (0 if is_kept or not holder else 1),
    }
    return {**found, "spec": {**spec, **times, **changes}}


class Lease:
    """`run` it from the start to the end, and `release` it then. `turn` is set once this agent may act.

    `holder` names this agent; it stays the same when the agent is started again, and no other agent has it.
    """

    def __init__(
        self,
        client: KubernetesClient,
        *,
        namespace: str,
        owner: str,
        holder: str,
        # Unlike the monotonic clock it counts the time that the machine is suspended.
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.turn = asyncio.Event()
        self._client = client
        self._namespace = namespace
        self._owner = owner
        self._name = f"syntra-agent-{label_value(owner).lower()}"
        self._holder = holder
        self._clock = clock
        self._wall_ns = wall_ns
        self._known: Object = {}
        self._known_since = 0.0
        self._renewed_at = 0.0
        self._problem = ""

    @property
    def hindrance(self) -> str:
        """Why this agent may not change anything now; empty when it may."""
        if not self.turn.is_set():
            return self._problem or f"this agent does not hold {self} yet; try again"
        unrenewed = self._clock() - self._renewed_at
        if unrenewed < RENEW_WITHIN_SECS:
            return ""
        why = f" ({self._problem})" if self._problem else ""
        return f"{self} was not renewed for {unrenewed:.0f} s{why}; nothing is changed until it is"

    @property
    def standby(self) -> str:
        """Why this agent has not begun to act; empty once it has, and while that is not known yet."""
        return "" if self.turn.is_set() else self._problem

    def __str__(self) -> str:
        return f"lease {self._namespace}/{self._name}"

    async def run(self) -> None:
        """Take the lease as soon as possible and keep it until cancelled. Raises LeaseLost."""
        while True:
            before = self._problem
            try:
                is_held = await self._look()
                if is_held:
                    self._problem = ""
            except RuntimeFailure as failed:
                is_held = False
                self._problem = str(failed)
            if self._problem and self._problem != before:
                log.warning("agent does not hold the lease", extra={"lease": str(self), "reason": self._problem})
            await asyncio.sleep(RENEW_EVERY_SECS if is_held else RETRY_SECS)

    async def release(self) -> None:
        """Let another agent take the lease at once. Without an answer, it takes it later."""
        if not self.turn.is_set():
            return
        self.turn.clear()
        try:
            await self._put(taken(self._known, "", now_ns=self._wall_ns()))
        except RuntimeFailure as failed:
            log.info("lease is not released", extra={"lease": str(self), "reason": str(failed)})

    async def _look(self) -> bool:
        """Take, keep or watch the lease; whether this agent holds it now."""
        if self.turn.is_set():
            # The usual renewal is one call: no other agent changes the lease while it is renewed in time.
            try:
                return await self._take()
            except ApiRefusal as refused:
                if not refused.is_conflict and not refused.is_not_found:
                    raise
        await self._read()
        holder = text(self._known, "spec", "holderIdentity")
        if self.turn.is_set() and holder not in ("", self._holder):
            raise LeaseLost(f"cannot act any longer: agent {holder} has taken {self}; this agent ends, start it again")
        if not may_take(self._known, self._holder, unchanged_secs=self._clock() - self._known_since):
            self._problem = (
                f"another agent with the same id acts: {holder} holds {self}; this one waits; send commands to that "
                "one, or stop it"
            )
            return False
        try:
            return await self._take()
        except ApiRefusal as refused:
            if not refused.is_conflict:
                raise
            # Another agent was faster; the next look says which.
            return False

    async def _read(self) -> None:
        path = LEASE.path(self._namespace, self._name)
        try:
            found = await self._client.call("GET", path, deadline=CALL_SECS, what=f"read {self}")
        except ApiRefusal as refused:
            if not refused.is_not_found:
                raise
            found = {}
        if not self._known or _version(found) != _version(self._known):
            self._known, self._known_since = found, self._clock()

    async def _take(self) -> bool:
        # It counts from before the call: the API server may have stored it at any moment since.
        asked_at = self._clock()
        self._keep(await self._put(taken(self._known or self._new(), self._holder, now_ns=self._wall_ns())))
        self._renewed_at = asked_at
        if not self.turn.is_set():
            log.info("agent holds the lease", extra={"lease": str(self), "holder": self._holder})
            self.turn.set()
        return True

    async def _put(self, lease: Object) -> Object:
        is_new = not _version(lease)
        path = LEASE.path(self._namespace, None if is_new else self._name)
        method = "POST" if is_new else "PUT"
        return await self._client.call(method, path, body=lease, deadline=CALL_SECS, what=f"take {self}")

    def _keep(self, lease: Object) -> None:
        self._known, self._known_since = lease, self._clock()

    def _new(self) -> Object:
        labels: Object = {MANAGED_BY: MANAGER, OWNER: label_value(self._owner)}
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace, "labels": labels},
            "spec": {},
        }


def _version(lease: Object) -> str:
    return text(lease, "metadata", "resourceVersion")


def _micro_time(ns: int) -> str:
    """A time as MicroTime is written (apimachinery, meta/v1/micro_time.go)."""
    return format_ns(ns).removesuffix("Z")[:-3] + "Z"
