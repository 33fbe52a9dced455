"""The message `figures`, in which the agent tells the telemetry process one sample: readings as plain fields. Pure.

The agent writes it, so nothing here may import protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syntra.model.fields import Json
from syntra.model.figures import ContainerReading
from syntra.utils.file_systems import FileSystem
from syntra.utils.frozen import frozen
from syntra.utils.host_reading import Disk, HostReading, Interface


@frozen
class ContainerFigures:
    """One container of a sample."""

    identity: Mapping[str, str]
    """The fields of `processing.identity.Identity`."""
    name: str
    started_ns: int
    """Unix nanoseconds; its counters begin here."""
    restarts: int
    cpus_used: float | None
    """Cores in use since the sample before; None in the first."""
    reading: ContainerReading


@frozen
class FiguresMessage:
    """One sample. `resource` has the attributes of the host that its metrics and those of its containers share."""

    time_ns: int
    resource: Mapping[str, str]
    agent: Mapping[str, str]
    """Attributes of the agent, which names the host's metrics: `service.name` and so on."""
    host: HostReading | None
    containers: tuple[ContainerFigures, ...]


def message_fields(message: FiguresMessage) -> dict[str, Json]:
    """The message as JSON."""
    # `vars` copies nothing: a host may have hundreds of containers.
    containers: list[Any] = [{**vars(one), "reading": vars(one.reading)} for one in message.containers]
    host = None if message.host is None else _host_fields(message.host)
    return {**vars(message), "host": host, "containers": containers}


def _host_fields(host: HostReading) -> dict[str, Json]:
    disks: dict[str, Json] = {name: vars(disk) for name, disk in host.disks.items()}
    cards: dict[str, Json] = {name: vars(card) for name, card in host.interfaces.items()}
    systems: list[Json] = [vars(one) for one in host.file_systems]
    return {**vars(host), "disks": disks, "interfaces": cards, "file_systems": systems}


def parse_message(given: Mapping[str, Any]) -> FiguresMessage:
    """The message that `message_fields` wrote."""
    host = given["host"]
    return FiguresMessage(
        time_ns=given["time_ns"],
        resource=given["resource"],
        agent=given["agent"],
        host=None if host is None else _host(host),
        containers=tuple(
            ContainerFigures(**{**one, "reading": ContainerReading(**one["reading"])}) for one in given["containers"]
        ),
    )


def _host(given: Mapping[str, Any]) -> HostReading:
    return HostReading(
        **{
            **given,
            "disks": {name: Disk(**disk) for name, disk in given["disks"].items()},
            "interfaces": {name: Interface(**card) for name, card in given["interfaces"].items()},
            "file_systems": tuple(FileSystem(**one) for one in given["file_systems"]),
        }
    )
