"""Attributes and other values of OTLP as plain values, and which service and deployment a resource means. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

SERVICE_ID = "syntra.service.id"
DEPLOYMENT_ID = "syntra.deployment.id"
SERVICE_NAME = "service.name"

Scalar = str | int | float | bool


def flat(attributes: Iterable[KeyValue]) -> dict[str, Scalar]:
    """Attributes as a flat map of text, numbers and booleans, as the contract has them.

    Lists and maps become JSON text, bytes base64, numbers that JSON lacks the text that OTLP/JSON has for them. An
    attribute without a value is left out.
    """
    out: dict[str, Scalar] = {}
    for attribute in attributes:
        value = attribute.value
        kind = value.WhichOneof("value")
        if kind == "string_value":
            out[attribute.key] = value.string_value
        elif kind == "int_value":
            out[attribute.key] = value.int_value
        elif kind == "bool_value":
            out[attribute.key] = value.bool_value
        elif kind is not None:
            made = plain(value)
            out[attribute.key] = orjson.dumps(made).decode() if isinstance(made, (list, dict)) else made
    return out


def plain(value: AnyValue) -> Any:
    """A value as JSON has it: None, text, a finite number, a boolean, a list or a map."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: plain(item.value) for item in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value":
        return number(value.double_value)
    return None if kind is None else getattr(value, kind)


def number(value: float) -> float | str:
    """A double, or its name in OTLP/JSON when JSON has no number for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def text(value: AnyValue) -> str:
    """A value as text: text itself, anything else as JSON, and no value as empty text."""
    if value.WhichOneof("value") == "string_value":
        return value.string_value
    made = plain(value)
    return "" if made is None else made if isinstance(made, str) else orjson.dumps(made).decode()


def identity(resource: Mapping[str, object]) -> tuple[str, str]:
    """The service id and the deployment id of a resource; the service's name replaces an id that is not given."""
    service = resource.get(SERVICE_ID) or resource.get(SERVICE_NAME) or ""
    return str(service), str(resource.get(DEPLOYMENT_ID) or "")
