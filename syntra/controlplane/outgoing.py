"""Turns a body of the API into a command: fills in ids, and checks that an agent would accept the frame. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from syntra.connection.codec import MAX_NAME_CHARS, Envelope, decode, encode
from syntra.connection.errors import MalformedFrame, UnencodableMessage
from syntra.controlplane.fleet import DEPLOY, OutgoingCommand
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, as_mapping
from syntra.model.ids import deployment_id, request_id
from syntra.model.spec_payload import parse_deployment

_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def outgoing_command(server_id: str, body: Mapping[str, object], fresh_id: str, limit_bytes: int) -> OutgoingCommand:
    """The command in `{"type", "payload"?}`. Any type is accepted, so that commands of newer agents can be sent too.

    A deploy must be one that an agent can parse: one that lacks what it needs is not queued. `fresh_id` replaces a
    missing `request_id`, and with a prefix a deploy's missing `deployment_id`. A ping has its id in the envelope only.
    Raises InvalidField.
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
        parse_deployment(Fields(payload, "payload"))

    _check_frame(Envelope(id=request, type=type_, timestamp="", payload=payload), limit_bytes)
    return OutgoingCommand(
        request_id=request,
        server_id=server_id,
        type=type_,
        deployment_id=deployment,
        service_id=_service_id(given),
        payload=payload,
    )


def _service_id(payload: Fields) -> str | None:
    """The service id of the current shape, or of the older shape, which has it under `service`."""
    found = payload.optional_text("service_id")
    _, nested = payload.raw("service")
    if found is None and isinstance(nested, Mapping):
        found = Fields(nested, payload.at("service")).optional_text("id")
    return found[:MAX_NAME_CHARS] if found is not None else None


def _check_frame(envelope: Envelope, limit_bytes: int) -> None:
    try:
        frame = encode(envelope)
        decode(frame)
    except (MalformedFrame, UnencodableMessage) as exc:
        raise InvalidField("payload", f"agents would refuse it: {exc}") from exc
    if len(frame) > limit_bytes:
        raise InvalidField("payload", f"{len(frame)} bytes as a frame are more than {limit_bytes}")
