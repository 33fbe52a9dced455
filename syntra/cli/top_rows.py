"""The rows of `top`: chosen, sorted and as text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syntra.cli import table
from syntra.cli.reading import UNKNOWN, Json, number, rows, section, text
from syntra.cli.terminal import printable
from syntra.utils.frozen import frozen

HEADERS = (
    *("service", "cpu", "memory", "of limit", "net in", "net out", "disk read", "disk write", "restarts"),
    *("req/s", "err/s", "p95", "logs/s", "status"),
)
SORTS = ("cpu", "memory", "network", "disk", "restarts", "requests", "errors", "p95", "logs", "name")


@frozen
class Row:
    """One line: a service, or one of its replicas."""

    cells: tuple[str, ...]
    is_replica: bool


def chosen(data: Json, filtered_by: str, sort: str) -> list[Json]:
    """The services whose project, name or id has this text, the largest first; by name upwards."""
    found = [service for service in rows(data, "services") if filtered_by in f"{_named(service)} {_id(service)}"]
    found.sort(key=_named)
    if sort != "name":
        found.sort(key=lambda service: _VALUES[sort](service) or 0.0, reverse=True)
    return found


def lines(services: Sequence[Json], *, with_replicas: bool) -> list[Row]:
    """A row for each service, and one for each replica below it."""
    found: list[Row] = []
    for service in services:
        containers = rows(service, "containers")
        found.append(Row(cells=_service(service, containers), is_replica=False))
        if with_replicas:
            found += [Row(cells=_replica(one), is_replica=True) for one in containers]
    return found


def host_line(data: Json) -> str:
    """The host in one line."""
    host = section(data, "host")
    cpu, used, free = (number(host, name) for name in ("cpu_usage_percent", "memory_used_mb", "memory_available_mb"))
    load = host.get("load")
    loads = " ".join(f"{value:.2f}" for value in load if isinstance(value, float)) if isinstance(load, list) else ""
    memory = (
        f"{table.memory(used)} of {table.memory(used + free)}" if used is not None and free is not None else UNKNOWN
    )
    return f"host: cpu {_percent(cpu)}, memory {memory}, load {loads or UNKNOWN}; {text(data, 'timestamp')}"


def _named(service: Json) -> str:
    name, project = text(service, "service_name", _id(service)), text(service, "project_name", "")
    return f"{project}/{name}" if project else name


def _id(service: Json) -> str:
    return text(service, "service_id")


def _sum(service: Json, *names: str) -> float | None:
    """The sum of these figures over all replicas; None when no replica has one."""
    found = [value for one in rows(service, "containers") for name in names if (value := number(one, name)) is not None]
    return sum(found) if found else None


_NETWORK = ("network_rx_bytes_per_sec", "network_tx_bytes_per_sec")
_DISK = ("block_read_bytes_per_sec", "block_write_bytes_per_sec")
_VALUES: dict[str, Callable[[Json], float | None]] = {
    "cpu": lambda service: _sum(service, "cpu_percent"),
    "memory": lambda service: _sum(service, "memory_used_mb"),
    "network": lambda service: _sum(service, *_NETWORK),
    "disk": lambda service: _sum(service, *_DISK),
    "restarts": lambda service: number(service, "restarts"),
    "requests": lambda service: number(service, "requests_per_sec"),
    "errors": lambda service: number(service, "errors_per_sec"),
    "p95": lambda service: number(service, "p95_ms"),
    "logs": lambda service: number(service, "logs_per_sec"),
}


def _service(service: Json, containers: Sequence[Json]) -> tuple[str, ...]:
    used = _sum(service, "memory_used_mb")
    limits = [number(one, "memory_limit_mb") for one in containers if number(one, "memory_used_mb") is not None]
    limit = sum(value for value in limits if value is not None) if limits and None not in limits else None
    p95 = number(service, "p95_ms")
    return (
        printable(_named(service)),
        _percent(_sum(service, "cpu_percent")),
        UNKNOWN if used is None else table.memory(used),
        _percent(100 * used / limit if used is not None and limit else None),
        *(_speed(_sum(service, name)) for name in (*_NETWORK, *_DISK)),
        text(service, "restarts"),
        _rate(number(service, "requests_per_sec")),
        _rate(number(service, "errors_per_sec")),
        UNKNOWN if p95 is None else f"{p95:.1f} ms",
        _rate(number(service, "logs_per_sec")),
        printable(text(service, "status")),
    )


def _replica(container: Json) -> tuple[str, ...]:
    used = number(container, "memory_used_mb")
    return (
        "  " + printable(text(container, "container_name")),
        _percent(number(container, "cpu_percent")),
        UNKNOWN if used is None else table.memory(used),
        _percent(number(container, "memory_percent")),
        *(_speed(number(container, name)) for name in (*_NETWORK, *_DISK)),
        text(container, "restart_count"),
        # Requests and log lines are known of the service as a whole.
        *(UNKNOWN,) * 4,
        printable(text(container, "status")),
    )


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}%"


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def _speed(value: float | None) -> str:
    return UNKNOWN if value is None else f"{table.size(value)}/s"
