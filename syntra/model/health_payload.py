"""Health checks from and to the payloads of the wire contract."""

from __future__ import annotations

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.spec import HealthKind, HealthSpec


def parse_health(source: Fields, port: int | None) -> HealthSpec | None:
    """The section `health_check`, if there is one; raises InvalidField. `port` is the service's."""
    check = source.section("health_check")
    if check is None:
        return None
    kinds = {kind.value: kind for kind in HealthKind}
    implied = HealthKind.EXEC if check.has("command") else HealthKind.HTTP if check.has("path") else HealthKind.TCP
    kind = check.choice("type", among=kinds, default=implied)
    path = check_path(check)
    check_port = check.integer("port", low=1, high=65535) if check.has("port") else None
    command = _command(check)
    if kind is HealthKind.EXEC and not (command and command[0]):
        raise InvalidField(check.at("command"), "is missing; an exec health check needs one")
    if kind is not HealthKind.EXEC and check_port is None and port is None:
        raise InvalidField(
            check.at("port"), f"is missing; a health check by {kind.value} needs a port here or in config.port"
        )
    return HealthSpec(
        kind=kind,
        path=path,
        port=check_port,
        command=command,
        interval=check_interval(check),
        timeout=check_timeout(check),
        retries=check_retries(check),
        start_period=check.number("start_period_seconds", "start_period", default=0.0, low=0, high=3600),
        restart_unhealthy=check.boolean("restart_unhealthy", default=False),
    )


def render_health(health: HealthSpec) -> dict[str, Json]:
    """The payload shape of a health check."""
    return {
        "type": health.kind.value,
        "path": health.path,
        "port": health.port,
        "command": list(health.command),
        "interval_seconds": health.interval,
        "timeout_seconds": health.timeout,
        "retries": health.retries,
        "start_period_seconds": health.start_period,
        # Only when it is asked for: containers are recognised by the fingerprint of this.
        **({"restart_unhealthy": True} if health.restart_unhealthy else {}),
    }


def check_path(check: Fields) -> str:
    """The path that a check by HTTP asks for; `/` when none is given."""
    path = check.text("path", default="/")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise InvalidField(check.at("path"), f"{path[:60]!r} is not a path (starts with `/`, ASCII without spaces)")
    return path


def check_interval(check: Fields) -> float:
    """Seconds from one probe to the next."""
    return check.number("interval_seconds", "interval", default=10.0, low=0.1, high=3600)


def check_timeout(check: Fields) -> float:
    """Seconds that one probe may take."""
    return check.number("timeout_seconds", "timeout", default=5.0, low=0.1, high=600)


def check_retries(check: Fields) -> int:
    """Failures in a row that count."""
    return check.integer("retries", default=3, low=1, high=100)


def _command(check: Fields) -> tuple[str, ...]:
    _, value = check.raw("command")
    if isinstance(value, str):
        return ("/bin/sh", "-c", value) if value else ()
    return check.texts("command") if value is not None else ()
