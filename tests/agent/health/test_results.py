"""Results of probes: the contract's items, bounded, and counted where they are lost."""

from __future__ import annotations

from syntra.agent.health.results import HealthResult, HealthResults
from syntra.health.result import ProbeResult
from syntra.model.ids import ServiceId


def result(number: int, *, ok: bool = True, status_code: int | None = 200) -> HealthResult:
    probe = ProbeResult(ok=ok, detail="status 503" if not ok else "", status_code=status_code, duration_secs=0.0125)
    return HealthResult(service_id=ServiceId(f"s{number}"), at=1_700_000_000.5, probe=probe)


def test_a_result_is_an_item_of_the_contract() -> None:
    assert result(1).to_payload() == {
        "service_id": "s1",
        "timestamp": "2023-11-14T22:13:20.500Z",
        "is_healthy": True,
        "response_time_ms": 12.5,
        "status_code": 200,
    }
    failed = result(1, ok=False, status_code=None).to_payload()
    assert (failed["is_healthy"], failed["error"], "status_code" in failed) == (False, "status 503", False)


def test_the_oldest_go_first_and_are_counted() -> None:
    results = HealthResults(most=3)
    for number in range(5):
        results.add(result(number))
    assert [kept.service_id for kept in results.drain()] == ["s2", "s3", "s4"]
    assert results.dropped == 2
    assert results.drain() == ()
