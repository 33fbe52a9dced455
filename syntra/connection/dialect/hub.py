"""The dialect of the deployed hub: the contract's messages, with shapes, units and expectations of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syntra.connection.codec import Envelope
from syntra.connection.dialect import hub_commands, hub_messages


class Hub:
    """`connection.dialect.contract.Dialect`. What the contract has as well passes unchanged."""

    name = "hub"

    def incoming(self, message: Envelope, now: float) -> Sequence[Envelope]:
        kind, payload = hub_commands.command(message.type, message.payload, now)
        if kind == message.type and payload is message.payload:
            return (message,)
        return (Envelope(id=message.id, type=kind, timestamp=message.timestamp, payload=payload),)

    def outgoing(self, message: Envelope) -> Sequence[Envelope]:
        return hub_messages.translated(message)


def is_stub(pending: Mapping[str, Any]) -> bool:
    """Whether an item of `hello_ack.pending_deployments` only names a deployment: nothing in it can be carried out."""
    return "queued_at" in pending and not any(key in pending for key in ("image", "service", "docker"))
