"""The alert about the end of the client certificate."""

from __future__ import annotations

import json
from pathlib import Path

from syntra.agent.alerts.certificate import CertificateWatch
from syntra.agent.alerts.disks import DiskWatch, Usage
from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.messages import Reports
from syntra.connection.enrolment import DAY_SECS, CertificateFacts
from tests.agent.fake_engine import FakeEngine
from tests.agent.journal.opened import opened


def lasting(end_day: float) -> CertificateFacts:
    return CertificateFacts(
        serial="1", subject="CN=srv_1", not_before=(end_day - 90) * DAY_SECS, not_after=end_day * DAY_SECS
    )


async def test_an_alert_begins_fourteen_days_before_the_end_and_ends_with_a_new_certificate(tmp_path: Path) -> None:
    async with opened(tmp_path) as found:
        journal = found.journal
        facts: list[CertificateFacts | None] = [None]
        day = 0.0
        ledger = AlertLedger(journal, Reports("srv_1"), clock=lambda: day * DAY_SECS)
        watch = CertificateWatch(ledger, lambda: facts[0], clock=lambda: day * DAY_SECS)
        disks = DiskWatch(ledger, FakeEngine(), tmp_path, usage=lambda path: Usage(device=1, percent=10.0))
        await watch.check()
        facts[0] = lasting(90)
        for today, open_alerts in (
            (75.9, []),
            (76.1, ["warning"]),
            (80, ["warning"]),
            (88, ["critical"]),
            (91, ["critical"]),
        ):
            day = today
            await watch.check()
            # The alerts of disks have the same type, and must not end this one.
            await disks.check()
            assert [alert["severity"] for alert in ledger.shown()] == open_alerts
        facts[0] = lasting(180)
        await watch.check()
        assert ledger.shown() == []
        payloads = [json.loads(item.text)["payload"] for item in await journal.outbox.pending(10)]
        assert [payload["type"] for payload in payloads] == ["resource_critical"] * 3
        assert [payload["metadata"].get("recovered") for payload in payloads] == [None, None, True]
        assert payloads[0]["metadata"]["resource"] == "certificate:control-plane"
        assert "13.9 days are left" in payloads[0]["message"]
