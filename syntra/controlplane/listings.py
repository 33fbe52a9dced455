"""The API's listings, read and rendered in the thread of the store, so that memory holds one record and the answer."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.controlplane import views
from syntra.controlplane.pages import json_bytes, page
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store


def servers(store: Store, after: str, connected: Mapping[str, str], limits: Limits) -> bytes:
    """Servers by id. `connected` has the times since when the connected ones are."""
    records = (
        (server.server_id, views.server_view(server, connected.get(server.server_id)))
        for server in store.servers(after)
    )
    found = page(records, after, max_bytes=limits.answer_bytes, max_records=limits.answer_records)
    return found.answer("servers", {})


def alerts(store: Store, server_id: str, after: int, limits: Limits) -> bytes:
    """A server's alerts, oldest first."""
    records = ((entry.seq, views.alert_view(entry)) for entry in store.alerts(server_id, after))
    found = page(records, after, max_bytes=limits.answer_bytes, max_records=limits.answer_records)
    return found.answer("alerts", {})


def deployment(store: Store, deployment_id: str, after: int, head: Mapping[str, object], limits: Limits) -> bytes:
    """A deployment: the members of `head`, and its events, oldest first."""
    records = ((entry.seq, views.event_view(entry)) for entry in store.events(deployment_id, after))
    room = limits.answer_bytes - len(json_bytes(head))
    return page(records, after, max_bytes=room, max_records=limits.answer_records).answer("events", head)


def log_lines(store: Store, request_id: str, after: int, limits: Limits) -> bytes:
    """Lines of a log subscription, and `done` once no more lines come."""
    state = store.log_state(request_id, after)
    records = ((line.seq, views.log_line_view(line)) for line in store.log_lines(request_id, after))
    found = page(records, after, max_bytes=limits.answer_bytes, max_records=limits.answer_records)
    return found.answer("lines", {"done": state is not None and state.done and not found.more})
