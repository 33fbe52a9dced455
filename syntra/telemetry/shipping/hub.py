"""Telemetry in the shape of the deployed hub: `metrics`, `logs` and `events` beside `data` in `telemetry_batch`. Pure.

The hub reads nothing from `data`, and shows neither traces nor the metrics of applications. Errors become events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from syntra.telemetry.shipping.contract_batches import Payload
from syntra.telemetry.shipping.frame_limits import Limits, Oversized, chunks, escaped

Item = Mapping[str, Any]

_MAX_EVENT_CHARS = 1000


def log(item: Item, server_id: str, container_ids: Mapping[str, str]) -> dict[str, Any]:
    """A log item of the contract as the hub has it. `container_ids` has the container of a service id."""
    made: dict[str, Any] = {
        "timestamp": item["timestamp"],
        "level": item["level"],
        "message": item["message"],
        "source": "container",
        "server_id": server_id,
    }
    service_id, attributes = item["service_id"], item["attributes"]
    container_id = attributes.get("container.id") or container_ids.get(service_id)
    if container_id:
        made["container_id"] = str(container_id)
    if service_id:
        made["service_id"] = service_id
    fields = {**attributes, **{key: item[key] for key in ("trace_id", "span_id") if key in item}}
    if fields:
        made["fields"] = fields
    return made


def event(item: Item, server_id: str, container_ids: Mapping[str, str]) -> dict[str, Any]:
    """An error item of the contract as an event."""
    service_id, deployment_id = item.get("service_id"), item.get("deployment_id")
    made: dict[str, Any] = {
        "timestamp": item.get("timestamp", ""),
        "type": "error",
        "server_id": server_id,
        "message": f"{item.get('type', 'Error')}: {item.get('message', '')}"[:_MAX_EVENT_CHARS],
        "severity": "error",
    }
    if service_id:
        made["service_id"] = service_id
        if service_id in container_ids:
            made["container_id"] = container_ids[service_id]
    if deployment_id:
        made["deployment_id"] = deployment_id
    return made


def payloads(
    *,
    logs: Iterable[Item],
    errors: Iterable[Item],
    events: Iterable[Item] = (),
    server: Item | None,
    containers: Sequence[Item],
    server_id: str,
    agent_id: str,
    container_ids: Mapping[str, str],
    new_id: Callable[[], str],
    limits: Limits | None = None,
) -> Iterator[Payload | Oversized]:
    """Split telemetry into payloads for the hub, each small enough for one frame.

    `logs` and `errors` are items of the contract; `events`, `server` and `containers` are in the hub's own shape. The
    figures are in the first payload, and `metrics` is left out of the others and when there are no figures.
    """
    figures: dict[str, Any] = {}
    if server is not None:
        figures["server"] = server
    if containers:
        figures["containers"] = list(containers)
    entries = [
        *([("metrics", figures)] if figures else []),
        *(("logs", log(item, server_id, container_ids)) for item in logs),
        *(("events", event(item, server_id, container_ids)) for item in errors),
        *(("events", item) for item in events),
    ]
    for chunk in chunks(entries, limits or Limits(), escaped):
        if isinstance(chunk, Oversized):
            yield chunk
            continue
        payload: dict[str, Any] = {"batch_id": new_id(), "agent_id": agent_id, "compression": "none"}
        if chunk[0].name == "metrics":
            payload["metrics"] = chunk[0].item
        payload["logs"] = [entry.item for entry in chunk if entry.name == "logs"]
        payload["events"] = [entry.item for entry in chunk if entry.name == "events"]
        yield Payload(payload=payload, items=len(payload["logs"]) + len(payload["events"]))
