"""The `autoscale` section of a deploy."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.spec import Autoscale
from syntra.model.spec_payload import fingerprint, parse_deployment, render_deployment
from tests.model.samples import current_payload


def with_autoscale(section: object, **config: Any) -> Fields:
    payload = current_payload()
    # A host port is for one replica.
    payload["networking"]["expose_port"] = None
    payload["config"] |= {**config, **({"autoscale": section} if section is not None else {})}
    return Fields(payload)


def test_it_is_read_and_rendered_back_and_keeps_the_replicas_within_it() -> None:
    read = parse_deployment(with_autoscale({"min": 3, "max": 6, "cpu_percent": 60}, replicas=1))
    assert read.spec.autoscale == Autoscale(least=3, most=6, cpu_percent=60)
    assert read.spec.replicas == 3
    assert parse_deployment(Fields(render_deployment(read))) == read
    assert parse_deployment(with_autoscale({"max": 2}, replicas=9)).spec.replicas == 2


def test_no_container_differs_by_it() -> None:
    plain, scaled = parse_deployment(with_autoscale(None)), parse_deployment(with_autoscale({"max": 4}))
    assert fingerprint(plain.spec) == fingerprint(scaled.spec)
    assert "autoscale" not in render_deployment(plain)["config"]  # type: ignore[operator]  # rendered as a mapping


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ({}, "max"),
        ({"min": 0, "max": 2}, "min"),
        ({"min": 5, "max": 2}, "max"),
        ({"max": 2, "cpu_percent": 0}, "cpu_percent"),
        ({"max": "many"}, "max"),
    ],
)
def test_a_mistake_names_its_field(section: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField, match=rf"autoscale\.{field}"):
        parse_deployment(with_autoscale(section))
