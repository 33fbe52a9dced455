"""The dialect of the deployed hub: contract messages with other shapes, units and expectations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syntra.connection.codec import Envelope
from syntra.connection.dialect import hub_commands, hub_messages


class Hub:
    """Implements `contract.Dialect`. Messages that the contract has too pass unchanged."""

    name = "hub"

    def incoming(self, message: Envelope, now: float) -> Sequence[Envelope]:
        kind, payload = hub_commands.command(message.type, message.payload, now)
        if kind == message.type and payload is message.payload:
            return (message,)
        return (Envelope(id=message.id, type=kind, timestamp=message.timestamp, payload=payload),)

    def outgoing(self, message: Envelope) -> Sequence[Envelope]:
        return hub_messages.translated(message)


def is_stub(pending: Mapping[str, Any]) -> bool:
    """Whether an item of `hello_ack.pending_deployments` only names a deployment, so that it cannot be carried out."""
    return "queued_at" in pending and not any(key in pending for key in ("image", "service", "docker"))
