"""From an API body to a command: ids filled in, and proved to fit the wire. Pure but for the random ids given to it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from syntra.connection.codec import Envelope, decode, encode
from syntra.connection.errors import MalformedFrame, UnencodableMessage
from syntra.controlplane.fleet import DEPLOY, Order
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, as_mapping
from syntra.model.ids import deployment_id, request_id

_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def order_for(server_id: str, body: Mapping[str, object], fresh_id: str, limit_bytes: int) -> Order:
    """The command in `{"type", "payload"?}`. Any type is taken: what a newer agent knows, an older control plane sends.

    A missing `request_id`, and a deploy's missing `deployment_id`, become ones made of `fresh_id`. A ping carries its
    id in the envelope only. Raises InvalidField.
    """
    fields = Fields(body)
    type_ = fields.text("type")
    if _TYPE.fullmatch(type_) is None:
        raise InvalidField("type", "is not a message type (lower-case words)")
    path, value = fields.raw("payload")
    payload = dict(as_mapping(path, value)) if value is not None else {}
    given = Fields(payload, "payload")

    request = request_id("payload.request_id", given.text("request_id", default=fresh_id))
    if type_ != "ping":
        payload["request_id"] = request
    deployment: str | None = None
    if type_ == DEPLOY:
        deployment = deployment_id("payload.deployment_id", given.text("deployment_id", default=f"dep_{fresh_id}"))
        payload["deployment_id"] = deployment

    _prove(Envelope(id=request, type=type_, timestamp="", payload=payload), limit_bytes)
    return Order(
        request_id=request,
        server_id=server_id,
        type=type_,
        deployment_id=deployment,
        service_id=_service_id(given),
        payload=payload,
    )


def _service_id(payload: Fields) -> str | None:
    """The service in the current shape, or in the older one that nests it under `service`."""
    found = payload.optional_text("service_id")
    _, nested = payload.raw("service")
    if found is None and isinstance(nested, Mapping):
        return Fields(nested, payload.at("service")).optional_text("id")
    return found


def _prove(envelope: Envelope, limit_bytes: int) -> None:
    try:
        frame = encode(envelope)
        decode(frame)
    except (MalformedFrame, UnencodableMessage) as exc:
        raise InvalidField("payload", f"no agent would take it: {exc}") from exc
    if len(frame) > limit_bytes:
        raise InvalidField("payload", f"{len(frame)} bytes as a frame are more than {limit_bytes}")
