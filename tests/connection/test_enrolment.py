"""When to ask for a certificate, which one to dial with, and what the answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.connection.enrolment import (
    CANDIDATE_DIALS_MAX,
    DAY_SECS,
    MAX_PEM_CHARS,
    RETRY_MAX_SECS,
    CertificateFacts,
    Enrolment,
    EnrolmentState,
    Slot,
    alert_at,
    parse_response,
    renewal_at,
)
from syntra.connection.retry import CLIENT_CERTIFICATE_REFUSED, DialFailure, FailureKind

REFUSED = DialFailure(kind=FailureKind.TLS, detail=f"{CLIENT_CERTIFICATE_REFUSED} (unknown ca)")
REVOKED = DialFailure(kind=FailureKind.CLOSE, code=4001)
AWAY = DialFailure(kind=FailureKind.NETWORK)


def days(begin: float, end: float, serial: str = "0") -> CertificateFacts:
    return CertificateFacts(serial=serial, subject="CN=srv_1", not_before=begin * DAY_SECS, not_after=end * DAY_SECS)


@pytest.mark.parametrize(
    ("serial", "lifetime", "renewed"),
    [("0", 90, 60.0), (f"{999:x}", 90, 62.997), ("0", 3, 2.0), (f"{500:x}", 3, 2.05), ("0", 365, 335.0), ("0", 0, 0.0)],
)
def test_renewal_begins_thirty_days_before_the_end_or_in_the_last_third(
    serial: str, lifetime: float, renewed: float
) -> None:
    assert renewal_at(days(0, lifetime, serial)) / DAY_SECS == pytest.approx(renewed)


@pytest.mark.parametrize(("lifetime", "alert"), [(90, 76.0), (365, 351.0), (9, 7.6)])
def test_the_alert_begins_fourteen_days_before_the_end(lifetime: float, alert: float) -> None:
    assert alert_at(days(0, lifetime)) / DAY_SECS == pytest.approx(alert)


def test_the_first_certificate_is_asked_for_at_once_and_accepted_by_a_hello_ack() -> None:
    enrolment = Enrolment()
    assert enrolment.choose(0.0) is Slot.TOKEN_ALONE
    assert enrolment.accepted(Slot.TOKEN_ALONE, 5.0) is EnrolmentState.NONE
    assert enrolment.request_at(5.0) == 5.0
    enrolment.requested()
    assert enrolment.request_at(6.0) is None
    enrolment.received(days(0, 90), 6.0)
    assert (enrolment.state, enrolment.current) == (EnrolmentState.RECEIVED, None)
    assert enrolment.request_at(6.0) is None
    enrolment.lost()
    assert enrolment.choose(7.0) is Slot.CANDIDATE
    assert enrolment.accepted(Slot.CANDIDATE, 8.0) is EnrolmentState.ACCEPTED
    assert (enrolment.current, enrolment.candidate, enrolment.in_use) == (days(0, 90), None, Slot.CANDIDATE)
    assert enrolment.request_at(8.0) == 60 * DAY_SECS


def test_a_refused_candidate_fails_once_the_old_certificate_is_accepted() -> None:
    enrolment = Enrolment(current=days(0, 90), candidate=days(60, 150))
    assert enrolment.choose(0.0) is Slot.CANDIDATE
    enrolment.failed(Slot.CANDIDATE, REFUSED)
    assert enrolment.choose(0.0) is Slot.CURRENT
    # The old one fails, too: it may be the control plane's fault.
    enrolment.failed(Slot.CURRENT, AWAY)
    assert (enrolment.state, enrolment.choose(0.0)) == (EnrolmentState.RECEIVED, Slot.CANDIDATE)
    enrolment.failed(Slot.CANDIDATE, AWAY)
    assert enrolment.accepted(Slot.CURRENT, 100.0) is EnrolmentState.FAILED
    assert (enrolment.candidate, enrolment.current) == (None, days(0, 90))
    assert "did not accept" in enrolment.problem
    assert enrolment.choose(100.0) is Slot.CURRENT
    assert enrolment.request_at(100.0) == pytest.approx(60 * DAY_SECS)


def test_an_outage_costs_no_candidate_until_it_failed_often_enough() -> None:
    enrolment = Enrolment(current=days(0, 90), candidate=days(60, 150))
    for _ in range(CANDIDATE_DIALS_MAX - 1):
        assert enrolment.choose(0.0) is Slot.CANDIDATE
        enrolment.failed(Slot.CANDIDATE, AWAY)
        assert enrolment.accepted(Slot.CURRENT, 0.0) is EnrolmentState.RECEIVED
        enrolment.lost()
    enrolment.failed(Slot.CANDIDATE, AWAY)
    assert enrolment.accepted(Slot.CURRENT, 0.0) is EnrolmentState.FAILED


def test_a_failure_of_the_agent_itself_is_no_verdict() -> None:
    enrolment = Enrolment(current=days(0, 90), candidate=days(60, 150))
    for kind in (FailureKind.LOCAL, FailureKind.REDIAL):
        enrolment.failed(Slot.CANDIDATE, DialFailure(kind=kind))
    assert enrolment.choose(0.0) is Slot.CANDIDATE
    assert enrolment.accepted(Slot.CURRENT, 0.0) is EnrolmentState.RECEIVED


@pytest.mark.parametrize("refusal", [REFUSED, REVOKED, DialFailure(kind=FailureKind.HTTP, code=403)])
def test_a_refused_current_certificate_takes_turns_with_the_token_alone(refusal: DialFailure) -> None:
    enrolment = Enrolment(current=days(0, 90))
    assert enrolment.choose(0.0) is Slot.CURRENT
    # Another TLS failure is that of the control plane's own certificate.
    for failure in (AWAY, DialFailure(kind=FailureKind.TLS, detail="its certificate is not accepted: expired")):
        assert not enrolment.failed(Slot.CURRENT, failure)
        assert enrolment.choose(0.0) is Slot.CURRENT
    assert enrolment.failed(Slot.CURRENT, refusal)
    assert enrolment.choose(0.0) is Slot.TOKEN_ALONE
    assert not enrolment.failed(Slot.TOKEN_ALONE, refusal)
    assert enrolment.choose(0.0) is Slot.CURRENT
    enrolment.failed(Slot.CURRENT, refusal)
    enrolment.accepted(Slot.TOKEN_ALONE, 50.0)
    assert enrolment.request_at(50.0) == 50.0


def test_an_expired_certificate_is_presented_only_after_the_token_alone_was_refused() -> None:
    enrolment = Enrolment(current=days(0, 90))
    now = 91 * DAY_SECS
    assert enrolment.choose(now) is Slot.TOKEN_ALONE
    enrolment.failed(Slot.TOKEN_ALONE, REVOKED)
    assert enrolment.choose(now) is Slot.CURRENT


def test_requests_that_fail_wait_longer_each_time() -> None:
    enrolment, waits = Enrolment(), []
    for _ in range(12):
        enrolment.requested()
        enrolment.refused("no", 1000.0)
        at = enrolment.request_at(1000.0)
        assert at is not None
        waits.append(at - 1000.0)
    assert waits[:3] == [60.0, 120.0, 240.0]
    assert waits[-1] == RETRY_MAX_SECS
    assert enrolment.problem == "no"


def test_a_connection_that_ends_before_the_answer_counts_as_no_failure() -> None:
    for current, state in ((None, EnrolmentState.NONE), (days(0, 90), EnrolmentState.ACCEPTED)):
        enrolment = Enrolment(current=current)
        enrolment.requested()
        enrolment.lost()
        assert enrolment.state is state


def test_a_certificate_that_begins_in_the_far_past_is_not_renewed_in_a_loop() -> None:
    enrolment, now = Enrolment(), 1000 * DAY_SECS
    enrolment.received(days(0, 1002), now)
    enrolment.accepted(Slot.CANDIDATE, now)
    assert enrolment.request_at(now) == 1001 * DAY_SECS


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"success": False, "error": {"code": "CSR_REFUSED", "message": "not\nthis"}}, "not this"),
        ({"success": True}, "no certificate was in the answer"),
        ({"success": True, "certificate": 7}, "no certificate was in the answer"),
        ({"success": True, "certificate": "x" * (MAX_PEM_CHARS + 1)}, "no certificate was in the answer"),
        ({"success": False, "certificate": "PEM", "error": "no"}, "no certificate was in the answer"),
        ({}, "no certificate was in the answer"),
    ],
)
def test_an_answer_without_a_certificate_is_a_refusal(payload: dict[str, Any], error: str) -> None:
    response = parse_response({"request_id": "cert-1", **payload})
    assert response is not None
    assert response.certificate is None
    assert " ".join(response.error.split()) == error


def test_an_answer_to_no_request_is_nothing() -> None:
    assert parse_response({"success": True, "certificate": "PEM"}) is None
    assert parse_response({"request_id": 7}) is None
    response = parse_response({"request_id": "cert-1", "success": True, "certificate": "PEM"})
    assert response is not None
    assert (response.certificate, response.error) == ("PEM", "")
