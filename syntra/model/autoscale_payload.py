"""The `autoscale` section of a service: from and to payloads. Every key is ours and optional."""

from __future__ import annotations

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.spec import Autoscale

MAX_REPLICAS = 1000


def parse_autoscale(config: Fields | None) -> Autoscale | None:
    """What a `config` section asks for. Raises InvalidField."""
    section = config.section("autoscale") if config is not None else None
    if section is None:
        return None
    least = section.integer("min", default=1, low=1, high=MAX_REPLICAS)
    most = section.integer("max", low=1, high=MAX_REPLICAS)
    if most < least:
        raise InvalidField(section.at("max"), f"is below min, which is {least}")
    return Autoscale(least=least, most=most, cpu_percent=section.integer("cpu_percent", default=80, low=1, high=1000))


def render_autoscale(autoscale: Autoscale) -> dict[str, Json]:
    """The payload shape."""
    return {"min": autoscale.least, "max": autoscale.most, "cpu_percent": autoscale.cpu_percent}
