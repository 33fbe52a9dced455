"""A sample as records for the pipeline. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from syntra.telemetry.collect.figures.container import add_container
from syntra.telemetry.collect.figures.message import FiguresMessage
from syntra.telemetry.collect.figures.metrics import ResourceMetrics
from syntra.telemetry.collect.figures.system import add_system
from syntra.telemetry.signals import Record, Signal

CONTAINERS_IN_ONE = 32
"""The most containers of one record, so that no record becomes large."""


def records(message: FiguresMessage, attributes: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Iterator[Record]:
    """The host's record, then those of the containers. `attributes` gives the resource of an identity."""
    if message.host is not None:
        resource = {**message.agent, **message.resource}
        metrics = ResourceMetrics(resource, start_ns=message.host.booted_ns, time_ns=message.time_ns)
        add_system(metrics, message.host)
        yield _record([metrics])
    rest = iter(message.containers)
    while some := list(islice(rest, CONTAINERS_IN_ONE)):
        made = []
        for one in some:
            resource = {**attributes(one.identity), "container.name": one.name, **message.resource}
            metrics = ResourceMetrics(resource, start_ns=one.started_ns, time_ns=message.time_ns)
            add_container(metrics, one, message.time_ns)
            made.append(metrics)
        yield _record(made)


def _record(made: Sequence[ResourceMetrics]) -> Record:
    data = b"".join(metrics.encoded() for metrics in made)
    return Record(signal=Signal.METRICS, items=sum(metrics.points for metrics in made), data=data)
