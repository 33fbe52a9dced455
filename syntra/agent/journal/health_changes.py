"""Overrides of health checks: one per service, until the next deploy or the service's removal."""

from __future__ import annotations

import sqlite3

from syntra.agent.journal.service_values import ValueTable
from syntra.model.health_change import parse_health_change, render_health_change
from syntra.model.ids import RequestId, ServiceId

HEALTH_CHANGES = ValueTable(
    name="health_changes", column="change", context="health", parse=parse_health_change, render=render_health_change
)


def drop_for_deploy(connection: sqlite3.Connection, service_id: ServiceId, request_id: RequestId) -> None:
    """Delete the override, in the transaction that commits a deploy. Other operations keep it."""
    connection.execute(
        "DELETE FROM health_changes WHERE service_id = ? "
        "AND EXISTS (SELECT 1 FROM commands WHERE request_id = ? AND kind = 'deploy')",
        (service_id, request_id),
    )
