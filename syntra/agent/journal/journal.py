"""Commands and operations as rows; the desired state of services is in `desired`.

The calls for one command: `accept` (row, operation and acknowledgement in one commit) → `begin` → `step`… → `commit`
(the new state becomes the service's) → `finish` (the report, once). `find` returns the answer for a repeated id.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from syntra.agent.journal import budget
from syntra.agent.journal.canary import CanaryRows
from syntra.agent.journal.database import JournalAccess, JournalError
from syntra.agent.journal.desired import DesiredState, put_service
from syntra.agent.journal.episodes import EpisodeStore
from syntra.agent.journal.events import EventRows
from syntra.agent.journal.health_changes import HEALTH_CHANGES, drop_for_deploy
from syntra.agent.journal.outbox import Outbox
from syntra.agent.journal.pauses import PAUSES
from syntra.agent.journal.rows import Remembered, ServiceRow, Unfinished
from syntra.agent.journal.secrets import SecretRows
from syntra.agent.journal.service_values import ServiceValues
from syntra.model.fields import Json
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.spec import Deployment

log = logging.getLogger(__name__)

# Request ids are kept for longer than a control plane repeats them.
KEPT_COMMANDS = 20_000
KEPT_COMMAND_SECS = 14 * 24 * 3600.0
# Of a service, newest first, for the reason of a failed deployment.
REPORTS_SEARCHED = 20
_PRUNE_EVERY = 100


class Journal(DesiredState):
    """Commands and operations, and the desired state. Every method is one transaction."""

    def __init__(self, database: JournalAccess, outbox: Outbox) -> None:
        super().__init__(database, outbox)
        self.canary = CanaryRows(database, outbox)
        self.health_changes = ServiceValues(HEALTH_CHANGES, database, outbox)
        self.pauses = ServiceValues(PAUSES, database, outbox)
        self.episodes = EpisodeStore(database, outbox)
        self.events = EventRows(database)
        self.secrets = SecretRows(database)
        self._accepted = 0
        # Bytes of answers since the budget was last checked.
        self._added = 0

    @property
    def warning(self) -> str:
        """A sentence while the disk is full; else empty."""
        return self._database.warning

    def without_disk(self) -> Journal:
        """The same journal for a command that must work on a full disk, because it frees space."""
        return Journal(self._database.without_disk(), self.outbox)

    async def find(self, request_id: RequestId) -> Remembered | None:
        """The stored answer for a request id; None when the id is new."""

        def read(connection: sqlite3.Connection) -> Remembered | None:
            row = connection.execute(
                "SELECT response, report, state FROM commands WHERE request_id = ?", (request_id,)
            ).fetchone()
            if row is None:
                return None
            response = self._readable(row[0], f"response/{request_id}")
            report = self._readable(row[1], f"report/{request_id}")
            is_forgotten = row[2] == "done" and response is None and report is None
            return Remembered(response=response, report=report, is_forgotten=is_forgotten)

        return await self._database.transact(read)

    async def failure_of(self, service_id: ServiceId, deployment_id: DeploymentId) -> str:
        """Why the last try of a deployment failed, as it was reported; empty when that is no longer kept."""

        def read(connection: sqlite3.Connection) -> str:
            rows = connection.execute(
                "SELECT request_id, report FROM commands WHERE service_id = ? AND kind IN ('deploy', 'rollback') "
                "AND report IS NOT NULL ORDER BY done_at DESC LIMIT ?",
                (service_id, REPORTS_SEARCHED),
            ).fetchall()
            for request_id, sealed in rows:
                report = self._readable(sealed, f"report/{request_id}") or {}
                error = report.get("error")
                if report.get("deployment_id") == deployment_id and isinstance(error, dict):
                    return str(error.get("message") or "")
            return ""

        return await self._database.transact(read)

    async def accept(
        self,
        request_id: RequestId,
        *,
        kind: str,
        service_id: ServiceId,
        origin: str,
        payload: Mapping[str, Json],
        response: Mapping[str, Json] | None,
        deployment: Deployment | None,
        is_operation: bool,
        messages: Sequence[str],
        deployment_id: DeploymentId | None = None,
    ) -> None:
        """Store a command, before its work begins, together with its acknowledgement.

        `deployment` is a new one to store. `deployment_id` names one that is stored already; `trim` then spares it.
        """

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO commands (request_id, kind, service_id, origin, state, payload, response, received_at) "
                "VALUES (?, ?, ?, ?, 'running', ?, ?, ?)",
                (
                    request_id,
                    kind,
                    service_id,
                    origin,
                    self._sealed(payload, f"payload/{request_id}"),
                    self._sealed(response, f"response/{request_id}"),
                    time.time(),
                ),
            )
            if is_operation:
                connection.execute(
                    "INSERT INTO operations (request_id, service_id, deployment_id, phase, prior, reason) "
                    "VALUES (?, ?, ?, 'waiting', '[]', '')",
                    (request_id, service_id, deployment.deployment_id if deployment else deployment_id or ""),
                )
            if deployment is not None:
                self._keep_spec(connection, deployment)
            self.outbox.put(connection, messages)
            self._accepted += 1
            if self._accepted % _PRUNE_EVERY == 1:
                _prune(connection)
                budget.forget_answers(connection)

        await self._write(write)

    async def begin(
        self, request_id: RequestId, prior: frozenset[ContainerId], messages: Sequence[str], at: float | None = None
    ) -> None:
        """Store that the operation started, now or `at` (epoch seconds). `prior`: the containers running then."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE operations SET phase = 'running', prior = ?, begun_at = ? WHERE request_id = ?",
                (json.dumps(sorted(prior)), time.time() if at is None else at, request_id),
            )
            self.outbox.put(connection, messages)

        await self._write(write)

    async def set_prior(self, request_id: RequestId, prior: frozenset[ContainerId]) -> None:
        """Replace the containers to return to, after one of them was created again."""
        await self._write(
            lambda connection: connection.execute(
                "UPDATE operations SET prior = ? WHERE request_id = ?", (json.dumps(sorted(prior)), request_id)
            )
        )

    async def step(self, request_id: RequestId, position: int, text: str, messages: Sequence[str]) -> None:
        """Store a step before it is performed."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO steps VALUES (?, ?, ?, ?)", (request_id, position, text, time.time()))
            self.outbox.put(connection, messages)

        await self._write(write)

    async def begin_rollback(self, request_id: RequestId, reason: Mapping[str, Json]) -> None:
        """Store that the operation failed and rolls back; `reason` is the failure to report."""
        sealed = self._database.seal(json.dumps(reason).encode(), f"reason/{request_id}").hex()
        await self._write(
            lambda connection: connection.execute(
                "UPDATE operations SET phase = 'unwinding', reason = ? WHERE request_id = ?", (sealed, request_id)
            )
        )

    async def commit(self, request_id: RequestId, service: ServiceRow) -> bool:
        """Change service state and operation phase in one transaction. Returns False when the operation rolls back."""

        def write(connection: sqlite3.Connection) -> bool:
            rolling_back = "SELECT 1 FROM operations WHERE request_id = ? AND phase = 'unwinding'"
            if connection.execute(rolling_back, (request_id,)).fetchone():
                return False
            connection.execute("UPDATE operations SET phase = 'committed' WHERE request_id = ?", (request_id,))
            put_service(connection, service)
            drop_for_deploy(connection, service.service_id, request_id)
            connection.execute(
                # Later than every other, even after the clock was set back: rollback relies on this order.
                "UPDATE deployments SET succeeded = 1, at = max(?1, coalesce((SELECT max(at) + 0.001 "
                "FROM deployments WHERE service_id = ?2 AND deployment_id != ?3), 0)) "
                "WHERE service_id = ?2 AND deployment_id = ?3",
                (time.time(), service.service_id, service.deployment_id),
            )
            return True

        return await self._database.transact(write)

    async def finish(
        self,
        request_id: RequestId,
        *,
        response: Mapping[str, Json] | None,
        report: Mapping[str, Json] | None,
        messages: Sequence[str],
        also: Callable[[sqlite3.Connection], object] | None = None,
    ) -> None:
        """End the command: store its report, and its answer unless it has one, and send them once.

        `also` writes more rows in the same transaction.
        """

        answer = self._sealed(response, f"response/{request_id}")
        said = self._sealed(report, f"report/{request_id}")

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM operations WHERE request_id = ?", (request_id,))
            connection.execute("DELETE FROM steps WHERE request_id = ?", (request_id,))
            connection.execute(
                "UPDATE commands SET state = 'done', payload = NULL, done_at = ?, report = ?, "
                "response = coalesce(response, ?) WHERE request_id = ?",
                (time.time(), said, answer, request_id),
            )
            self._keep_to_budget(connection, len(answer or b"") + len(said or b""))
            if also is not None:
                also(connection)
            self.outbox.put(connection, messages)

        await self._write(write)

    async def answer(self, request_id: RequestId, response: Mapping[str, Json], messages: Sequence[str]) -> None:
        """Answer a command that is still running. No effect when it has an answer."""

        def write(connection: sqlite3.Connection) -> None:
            changed = connection.execute(
                "UPDATE commands SET response = ? WHERE request_id = ? AND response IS NULL",
                (self._sealed(response, f"response/{request_id}"), request_id),
            ).rowcount
            if changed:
                self.outbox.put(connection, messages)

        await self._write(write)

    async def unfinished(self) -> list[Unfinished]:
        """Unfinished operations, in the order they were accepted."""

        def read(connection: sqlite3.Connection) -> list[Unfinished]:
            rows = connection.execute(
                "SELECT c.request_id, c.kind, c.origin, c.payload, o.phase, o.prior, o.begun_at, o.reason, o.stage "
                "FROM operations o JOIN commands c USING (request_id) ORDER BY o.sequence"
            ).fetchall()
            return [
                Unfinished(
                    request_id=RequestId(row[0]),
                    kind=row[1],
                    origin=row[2],
                    payload=self._opened(row[3], f"payload/{row[0]}") or {},
                    phase=row[4],
                    prior=frozenset(ContainerId(item) for item in json.loads(row[5])),
                    begun_at=row[6],
                    reason=self._database.unseal(bytes.fromhex(row[7]), f"reason/{row[0]}").decode() if row[7] else "",
                    stage=row[8],
                )
                for row in rows
            ]

        return await self._database.transact(read)

    async def is_busy(self, service_id: ServiceId) -> bool:
        """Whether an operation of the service waits or is under way."""
        return await self._database.transact(
            lambda connection: (
                connection.execute("SELECT 1 FROM operations WHERE service_id = ?", (service_id,)).fetchone()
                is not None
            )
        )

    async def interrupted(self) -> list[tuple[RequestId, str, str]]:
        """Commands without an operation (exec) that have no answer: id, kind, origin."""

        def read(connection: sqlite3.Connection) -> list[tuple[RequestId, str, str]]:
            rows = connection.execute(
                "SELECT request_id, kind, origin FROM commands WHERE state = 'running' "
                "AND request_id NOT IN (SELECT request_id FROM operations)"
            ).fetchall()
            return [(RequestId(row[0]), row[1], row[2]) for row in rows]

        return await self._database.transact(read)

    def _keep_to_budget(self, connection: sqlite3.Connection, added: int) -> None:
        self._added += added
        if self._added > budget.SLACK_BYTES:
            self._added = 0
            budget.forget_answers(connection)

    def _readable(self, sealed: bytes | None, context: str) -> Mapping[str, Json] | None:
        # A damaged answer must not make the agent repeat the work.
        try:
            return self._opened(sealed, context)
        except (JournalError, ValueError) as broken:
            log.error("answer is unreadable", extra={"reason": str(broken)})
            return None


def _prune(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM commands WHERE state = 'done' AND (done_at < ? OR request_id IN "
        "(SELECT request_id FROM commands WHERE state = 'done' ORDER BY done_at DESC LIMIT -1 OFFSET ?))",
        (time.time() - KEPT_COMMAND_SECS, KEPT_COMMANDS),
    )
