"""The services that send: one entry each, found by the bytes of a resource and the sender's identity. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from syntra.telemetry.processing.identity import UNKNOWN_SERVICE, Identity, decode_resource, identified, text_attribute
from syntra.telemetry.processing.red import CellBudget, Cells, Recent, Watched
from syntra.telemetry.sampling.sampler import Sampler, Share
from syntra.telemetry.signals import Signal

OTHER_SERVICE = "other"
_CACHED_RESOURCES = 2048
_LARGEST_CACHED = 8192
_LONGEST_NAME = 256
_NAMING = ("service.name", "service.namespace", "syntra.service.id", "syntra.project")


class Service:
    """What the pipeline knows of one service. Plain attributes for the loop over spans."""

    def __init__(
        self, key: str, resource: Mapping[str, str], number: int, budget: CellBudget, traces: Share, logs: Share
    ) -> None:
        self.key = key
        self.resource = resource
        """The attributes that name it in RED metrics."""
        self.suffix = number.to_bytes(4, "big")
        """Distinguishes its verdicts from those of other services about the same trace."""
        self.cells = Cells(budget)
        self.watched = Watched(self.cells)
        self.recent = Recent()
        self.traces = traces
        self.logs = logs
        # By the signals' names: hashing a member of an Enum runs Python code.
        self.received = {signal.value: 0 for signal in Signal}
        self.kept = {signal.value: 0 for signal in Signal}
        self.idle_ticks = 0
        self.received_before = 0
        self._logs_before = 0
        self.logs_per_sec = 0.0

    def count_logs(self, elapsed_secs: float) -> None:
        """Update the rate of log records since the last call."""
        received = self.received[Signal.LOGS.value]
        self.logs_per_sec = (received - self._logs_before) / elapsed_secs
        self._logs_before = received

    @property
    def name(self) -> str:
        """Its `service.name`."""
        return self.resource["service.name"]


class Sender:
    """A resource as it was sent, resolved: its service, and the resource to keep."""

    __slots__ = ("_attributes", "encoded", "resource", "service")

    def __init__(self, service: Service, resource: Resource, encoded: bytes) -> None:
        self.service = service
        self.resource = resource
        self.encoded = encoded
        self._attributes: Mapping[str, object] | None = None

    def attributes(self) -> Mapping[str, object]:
        """The resource's attributes with scalar values, for errors."""
        if self._attributes is None:
            found: dict[str, object] = {}
            for attribute in self.resource.attributes:
                kind = attribute.value.WhichOneof("value")
                if kind in {"string_value", "bool_value", "int_value", "double_value"}:
                    found.setdefault(attribute.key, getattr(attribute.value, kind))
            self._attributes = found
        return self._attributes


class Services:
    """All services, at most `limit` of them and one more, `other`, which counts the rest."""

    def __init__(self, traces: Sampler, logs: Sampler, *, limit: int, budget: CellBudget) -> None:
        self._traces = traces
        self._logs = logs
        self._limit = limit
        self._budget = budget
        self._numbers = 0
        self._senders: dict[int, tuple[Identity | None, dict[bytes, Sender]]] = {}
        """By the id of the identity, which is held with it: hashing an identity takes a microsecond."""
        self._cached = 0
        self.known: dict[str, Service] = {}

    def senders(self, identity: Identity | None) -> dict[bytes, Sender]:
        """The senders known with this identity, by their resource as it was sent."""
        known = self._senders.get(id(identity))
        if known is None:
            if len(self._senders) >= _CACHED_RESOURCES:
                self._forget_senders()
            known = self._senders[id(identity)] = (identity, {})
        return known[1]

    def sender(self, identity: Identity | None, encoded: bytes) -> Sender:
        """Resolve an encoded resource. Raises BadData if it cannot be decoded."""
        found = self.senders(identity).get(encoded)
        if found is not None:
            return found
        resource = decode_resource(encoded)
        kept = encoded
        if identity is not None:
            resource = identified(resource, identity)
            kept = resource.SerializeToString()
        made = Sender(self._service(resource), resource, kept)
        if self._cached >= _CACHED_RESOURCES:
            self._forget_senders()
        if len(encoded) <= _LARGEST_CACHED:
            self.senders(identity)[encoded] = made
            self._cached += 1
        return made

    def _service(self, resource: Resource) -> Service:
        named = {name: text_attribute(resource, name)[:_LONGEST_NAME] for name in _NAMING}
        named["service.name"] = named["service.name"] or UNKNOWN_SERVICE
        key = "/".join(named.values())
        known = self.known.get(key)
        if known is None and len(self.known) >= self._limit:
            named = {"service.name": OTHER_SERVICE}
            key = OTHER_SERVICE
            known = self.known.get(key)
        if known is None:
            self._numbers += 1
            traces, logs = self._traces.share(key), self._logs.share(key)
            known = self.known[key] = Service(key, named, self._numbers, self._budget, traces, logs)
        return known

    def age(self, idle_limit: int) -> None:
        """Count an interval for each service; forget a service that has sent nothing for `idle_limit` of them."""
        for service in list(self.known.values()):
            total = sum(service.received.values())
            service.idle_ticks = service.idle_ticks + 1 if total == service.received_before else 0
            service.received_before = total
            if service.idle_ticks >= idle_limit:
                self._forget(service)

    def _forget(self, service: Service) -> None:
        del self.known[service.key]
        self._traces.forget(service.key)
        self._logs.forget(service.key)
        for key in list(service.cells):
            service.cells.remove(key)
        self._forget_senders()

    def _forget_senders(self) -> None:
        self._senders.clear()
        self._cached = 0
