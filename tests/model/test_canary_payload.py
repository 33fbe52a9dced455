"""Canaries in payloads: defaults, the step to 100 % that is added, and mistakes by the path of their field."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.spec import Canary, CanaryStep, Deployment, Strategy
from syntra.model.spec_payload import fingerprint, parse_deployment, render_deployment
from tests.model.samples import current_payload, deployment


def parse(canary: object = None, strategy: str = "canary") -> Deployment:
    return parse_deployment(Fields({**current_payload(), "strategy": strategy, "canary": canary}))


def steps(*pairs: tuple[int, float]) -> tuple[CanaryStep, ...]:
    return tuple(CanaryStep(percent=percent, hold_secs=secs) for percent, secs in pairs)


@pytest.mark.parametrize("section", [None, {}, {"steps": []}, {"steps": None, "max_error_percent": None}])
def test_without_a_word_it_is_ten_percent_for_a_minute_then_half_for_another(section: object) -> None:
    found = parse(section)
    assert found.strategy is Strategy.CANARY
    assert found.canary == Canary(
        steps=steps((10, 60.0), (50, 60.0), (100, 0.0)), max_error_percent=None, min_requests=20
    )


def test_the_step_to_all_requests_is_added_where_it_is_missing() -> None:
    assert parse({"steps": [{"percent": 5, "hold_seconds": "2m"}]}).canary.steps == steps((5, 120.0), (100, 0.0))
    assert parse({"steps": [{"percent": 5}, {"percent": 100, "hold_seconds": 7.5}]}).canary.steps == steps(
        (5, 0.0), (100, 7.5)
    )


def test_limits_are_read() -> None:
    found = parse({"max_error_percent": 0, "min_requests": 1}).canary
    assert (found.max_error_percent, found.min_requests) == (0.0, 1)


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ([], "canary"),
        ("10%", "canary"),
        ({"steps": {}}, "canary.steps"),
        ({"steps": [{"percent": n} for n in range(1, 22)]}, "canary.steps"),
        ({"steps": [10]}, "canary.steps[0]"),
        ({"steps": [{}]}, "canary.steps[0].percent"),
        ({"steps": [{"percent": 0}]}, "canary.steps[0].percent"),
        ({"steps": [{"percent": 101}]}, "canary.steps[0].percent"),
        ({"steps": [{"percent": 2.5}]}, "canary.steps[0].percent"),
        ({"steps": [{"percent": 10}, {"percent": 10}]}, "canary.steps[1].percent"),
        ({"steps": [{"percent": 50}, {"percent": 10}]}, "canary.steps[1].percent"),
        ({"steps": [{"percent": 100}, {"percent": 100}]}, "canary.steps[1].percent"),
        ({"steps": [{"percent": 10, "hold_seconds": -1}]}, "canary.steps[0].hold_seconds"),
        ({"steps": [{"percent": 10, "hold_seconds": 86401}]}, "canary.steps[0].hold_seconds"),
        ({"steps": [{"percent": 10, "hold_seconds": "soon"}]}, "canary.steps[0].hold_seconds"),
        ({"max_error_percent": -0.1}, "canary.max_error_percent"),
        ({"max_error_percent": 101}, "canary.max_error_percent"),
        ({"max_error_percent": True}, "canary.max_error_percent"),
        ({"min_requests": 0}, "canary.min_requests"),
        ({"min_requests": 1.5}, "canary.min_requests"),
    ],
)
@pytest.mark.parametrize("strategy", ["canary", "rolling"])
def test_a_mistake_is_named_by_its_field_whatever_the_strategy(section: object, field: str, strategy: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(section, strategy)
    assert caught.value.field == field


def test_other_strategies_take_no_part_in_it_and_their_payload_does_not_speak_of_it() -> None:
    found = parse({"steps": [{"percent": 7}], "min_requests": 3}, "rolling")
    assert found.canary == Canary()
    assert "canary" not in render_deployment(found)


def test_what_is_rendered_reads_back() -> None:
    rendered: dict[str, Any] = {
        "steps": [{"percent": 7, "hold_seconds": 3.0}, {"percent": 100, "hold_seconds": 0.0}],
        "max_error_percent": 2.5,
        "min_requests": 9,
    }
    assert render_deployment(parse(rendered))["canary"] == rendered


def test_how_a_deployment_takes_over_is_none_of_its_containers_settings() -> None:
    # The digits of a release before there were canaries: containers made by it are recognised.
    assert fingerprint(deployment().spec) == "479466352115dc74"
    assert fingerprint(parse().spec) == fingerprint(parse(strategy="rolling").spec)
    assert dataclasses.replace(parse(), strategy=Strategy.ROLLING, canary=Canary()) == parse(strategy="rolling")
