"""Live changes of health checks: what they set, what they leave, and what is no change."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.health_change import HealthChange, parse_health_change, render_health_change
from syntra.model.spec import HealthKind, HealthSpec
from syntra.model.spec_payload import fingerprint
from tests.model.samples import spec

EXEC = HealthSpec(
    kind=HealthKind.EXEC, path="/", port=None, command=("ok",), interval=1, timeout=2, retries=4, start_period=5
)


def test_what_is_not_given_stays_as_the_deployment_asks_for() -> None:
    asked = HealthChange(interval=7.0, restart_unhealthy=True).applied(spec(health=EXEC)).health
    assert asked == HealthSpec(
        kind=HealthKind.EXEC,
        path="/",
        port=None,
        command=("ok",),
        interval=7,
        timeout=2,
        retries=4,
        start_period=5,
        restart_unhealthy=True,
    )


def test_a_path_makes_any_check_one_by_http() -> None:
    for health in (EXEC, None):
        asked = HealthChange(path="/ready").applied(spec(health=health)).health
        assert asked is not None
        assert (asked.kind, asked.path, asked.command) == (HealthKind.HTTP, "/ready", ())


def test_without_a_port_or_a_check_there_is_nothing_to_change() -> None:
    unportable = HealthChange(path="/ready").applied(spec(health=EXEC, port=None)).health
    assert unportable is not None and unportable.kind is HealthKind.EXEC
    assert HealthChange(path="/ready").applied(spec(port=None)).health is None
    assert HealthChange(interval=1.0).applied(spec()).health is None


def test_the_spec_itself_and_its_fingerprint_are_not_touched() -> None:
    given = spec(health=EXEC)
    before = fingerprint(given)
    HealthChange(path="/ready").applied(given)
    assert fingerprint(given) == before


def test_a_later_change_wins_field_by_field() -> None:
    first, second = HealthChange(path="/a", retries=2), HealthChange(path="/b", interval=3.0)
    assert second.over(first) == HealthChange(path="/b", retries=2, interval=3.0)


CHANGES = [
    HealthChange(path="/x"),
    HealthChange(path="/", interval=1.0, timeout=0.5, retries=1),
    HealthChange(restart_unhealthy=False),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_rendered_is_read_again(change: HealthChange) -> None:
    assert parse_health_change(Fields(render_health_change(change))) == change


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "path"),
        ({"path": "health"}, "path"),
        ({"path": 3}, "path"),
        ({"interval": 0}, "interval"),
        ({"interval_seconds": "soon"}, "interval_seconds"),
        ({"timeout": 601}, "timeout"),
        ({"retries": 0}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"restart_unhealthy": "yes"}, "restart_unhealthy"),
    ],
)
def test_what_is_wrong_is_named(payload: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse_health_change(Fields(payload))
    assert refused.value.field == field
