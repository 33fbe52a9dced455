"""The client certificate that the control plane issues: when to ask for one, and which one to dial with. Pure.

The state of the newest certificate:

    NONE ──asked──▶ REQUESTED ──received──▶ RECEIVED ──hello_ack on it──▶ ACCEPTED
                        │                       │
                        └── refused, no answer ─┴── the control plane accepts only the old one ──▶ FAILED

- A received certificate is the *candidate*. The *current* one stays in use until a hello_ack came on a connection with
  the candidate: with TLS 1.3 the handshake succeeds before the server has verified it (RFC 8446 §2, figure 1).
- A candidate fails only when the control plane accepts the agent with another certificate or without one. So an outage
  costs no certificate.
- A current certificate that is refused or has expired does not strand the agent: it dials with its token alone, and
  asks for a new one if the control plane accepts that.

Times are seconds since the epoch, as in certificates.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from syntra.connection.messages import readable
from syntra.connection.retry import CLIENT_CERTIFICATE_REFUSED, DialFailure, FailureKind
from syntra.utils.frozen import frozen

CERT_ENROLMENT = "cert_enrolment"
"""The extension that allows `cert_request` and `cert_response`."""
CERT_REQUEST = "cert_request"
CERT_RESPONSE = "cert_response"
CSR_REFUSED = "CSR_REFUSED"
"""The error code of a `cert_response` that refuses the request itself."""

DAY_SECS = 86_400.0
RENEW_SECS = 30 * DAY_SECS
"""The contract's figure: renewal begins this long before the end, or in the last third of a shorter lifetime."""
ALERT_SECS = 14 * DAY_SECS
"""The contract's figure: an alert begins this long before the end."""
LIFETIME_SECS = 90 * DAY_SECS
"""The contract's lifetime. The figures above shrink in proportion for certificates that live shorter."""
SPREAD = 0.1
"""The part of the renewal period over which the servers of a fleet spread their requests."""
RETRY_FIRST_SECS = 60.0
RETRY_MAX_SECS = 6 * 3600.0
LEAST_PAUSE_SECS = 2.0
CANDIDATE_DIALS_MAX = 3
"""Dials with a candidate that end without a verdict, while the old certificate works, until the candidate fails."""
MAX_PEM_CHARS = 64 * 1024

_REFUSED_CODES = frozenset({401, 403, 4001})


class EnrolmentState(enum.Enum):
    NONE = "none"
    REQUESTED = "requested"
    RECEIVED = "received"
    ACCEPTED = "accepted"
    FAILED = "failed"


class Slot(enum.Enum):
    """What the agent presents in a dial. The values are the names of the files."""

    CANDIDATE = "candidate"
    CURRENT = "current"
    TOKEN_ALONE = "token"


@frozen
class CertificateFacts:
    """What a certificate says. `serial` is in hexadecimal, times are seconds since the epoch."""

    serial: str
    subject: str
    not_before: float
    not_after: float

    @property
    def lifetime(self) -> float:
        """How long it is valid, in seconds; never negative."""
        return max(0.0, self.not_after - self.not_before)


def renewal_at(facts: CertificateFacts) -> float:
    """When to ask for the next certificate: 30 days before the end, or later by up to 3 days.

    The delay comes from the serial number, which is random. So a fleet that enrolled at once does not renew at once,
    and a restart does not draw again.
    """
    period = min(RENEW_SECS, facts.lifetime / 3)
    jitter = int(facts.serial or "0", 16) % 1000 / 1000
    return facts.not_after - period + period * SPREAD * jitter


def alert_at(facts: CertificateFacts) -> float:
    """When the alert about the end begins: 14 days before it, in proportion for a shorter lifetime."""
    return facts.not_after - ALERT_SECS * min(1.0, facts.lifetime / LIFETIME_SECS)


def certificate_request(request_id: str, csr_pem: str) -> dict[str, Any]:
    """The payload of `cert_request`."""
    return {"request_id": request_id, "csr": csr_pem}


@frozen
class CertificateResponse:
    """The answer to `cert_request`: a chain in PEM, leaf first, or the reason of a refusal."""

    request_id: str
    certificate: str | None
    error: str = ""


def parse_response(payload: Mapping[str, Any]) -> CertificateResponse | None:
    """Parse the payload of `cert_response`. None when it has no request id; any other fault is a refusal."""
    request_id = payload.get("request_id")
    if not isinstance(request_id, str) or not request_id:
        return None
    certificate = payload.get("certificate")
    if payload.get("success") is True and isinstance(certificate, str) and 0 < len(certificate) <= MAX_PEM_CHARS:
        return CertificateResponse(request_id=request_id, certificate=certificate)
    error = payload.get("error")
    message = error.get("message") if isinstance(error, Mapping) else None
    reason = readable(message) if isinstance(message, str) and message else "no certificate was in the answer"
    return CertificateResponse(request_id=request_id, certificate=None, error=reason)


class Enrolment:
    """The state machine that the module describes. Attributes are read-only for callers."""

    def __init__(self, *, current: CertificateFacts | None = None, candidate: CertificateFacts | None = None) -> None:
        """`current` and `candidate` are the certificates on disk, so a kill loses no state."""
        self.current = current
        self.candidate = candidate
        self.state = EnrolmentState.NONE
        if current is not None:
            self.state = EnrolmentState.ACCEPTED
        if candidate is not None:
            self.state = EnrolmentState.RECEIVED
        self.problem = ""
        self.in_use: Slot | None = None
        """What the accepted connection presented; None while there is none."""
        self._failures = 0
        self._retry_at = self._earliest = 0.0
        self._next = Slot.CANDIDATE
        self._candidate_dials = 0
        self._candidate_refused = False
        self._current_refused = False

    # Dials

    def choose(self, now: float) -> Slot:
        """What to present in the next dial."""
        if self._next is Slot.CANDIDATE and self.candidate is not None:
            return Slot.CANDIDATE
        if self.current is None:
            return Slot.TOKEN_ALONE
        # After a refusal the two take turns: the clock of this server may be wrong, or the control plane was restored.
        expired = now >= self.current.not_after
        return Slot.TOKEN_ALONE if expired != self._current_refused else Slot.CURRENT

    def failed(self, slot: Slot, failure: DialFailure) -> bool:
        """A dial with `slot` ended without a hello_ack; returns whether another choice is worth a dial at once.

        The last choice is not: with the token alone, or with a certificate that the network keeps from its answer.
        """
        if failure.kind in (FailureKind.LOCAL, FailureKind.REDIAL):
            return False
        refused = _is_refused(failure)
        if slot is Slot.CANDIDATE:
            self._candidate_dials += 1
            self._candidate_refused = self._candidate_refused or refused
            self._next = Slot.CURRENT
            return True
        self._next = Slot.CANDIDATE
        if refused and self.current is not None:
            self._current_refused = not self._current_refused
        return refused and slot is Slot.CURRENT

    def accepted(self, slot: Slot, now: float) -> EnrolmentState:
        """A hello_ack came on a connection with `slot`; returns the new state.

        ACCEPTED with the candidate: the caller replaces the current certificate. FAILED: the caller deletes the
        candidate. RECEIVED: the caller tries the candidate in another dial.
        """
        self.in_use = slot
        self._next = Slot.CANDIDATE
        if slot is Slot.CANDIDATE and self.candidate is not None:
            self.current, self.candidate = self.candidate, None
            self.state, self.problem, self._failures, self._retry_at = EnrolmentState.ACCEPTED, "", 0, 0.0
            self._reset_candidate()
            self._current_refused = False
        elif self.candidate is not None and (self._candidate_refused or self._candidate_dials >= CANDIDATE_DIALS_MAX):
            self.candidate = None
            self._reset_candidate()
            self._fail("the control plane did not accept the certificate that it had issued", now)
        elif self.candidate is None and self.state is EnrolmentState.REQUESTED:
            self.state = EnrolmentState.ACCEPTED if self.current is not None else EnrolmentState.NONE
        return self.state

    def lost(self) -> None:
        """The accepted connection has ended. An answer can no longer arrive, so the next connection asks again."""
        self.in_use = None
        if self.state is EnrolmentState.REQUESTED:
            self.state = EnrolmentState.ACCEPTED if self.current is not None else EnrolmentState.NONE

    # Requests

    def request_at(self, now: float) -> float | None:
        """When to send the next request; None while one is under way or a candidate is being tried."""
        if self.state in (EnrolmentState.REQUESTED, EnrolmentState.RECEIVED):
            return None
        # Accepted with the token alone although there is a certificate: the control plane no longer knows it.
        needed = self.current is None or self.in_use is Slot.TOKEN_ALONE
        due = now if needed or self.current is None else max(renewal_at(self.current), self._earliest)
        return max(due, self._retry_at)

    def requested(self) -> None:
        """A request was sent."""
        self.state = EnrolmentState.REQUESTED

    def received(self, candidate: CertificateFacts, now: float) -> None:
        """The certificate came and is on disk."""
        self.candidate, self.state = candidate, EnrolmentState.RECEIVED
        # However far its begin lies in the past, it is used for half of its time.
        self._earliest = now + max(LEAST_PAUSE_SECS, (candidate.not_after - now) / 2)
        self._next = Slot.CANDIDATE
        self._reset_candidate()

    def refused(self, reason: str, now: float) -> None:
        """The request was refused, not answered, or its answer cannot be used."""
        self._fail(reason, now)

    def _fail(self, reason: str, now: float) -> None:
        self.state, self.problem = EnrolmentState.FAILED, reason
        delay = min(RETRY_MAX_SECS, RETRY_FIRST_SECS * 2.0 ** min(self._failures, 32))
        if self.current is not None:
            delay = min(delay, max(LEAST_PAUSE_SECS, self.current.lifetime / 10))
        self._failures += 1
        self._retry_at = now + delay

    def _reset_candidate(self) -> None:
        self._candidate_dials, self._candidate_refused = 0, False


def _is_refused(failure: DialFailure) -> bool:
    """Whether the failure may be about the certificate, and not about the network."""
    if failure.kind is FailureKind.TLS:
        return failure.detail.startswith(CLIENT_CERTIFICATE_REFUSED)
    return failure.kind in (FailureKind.CLOSE, FailureKind.HTTP) and failure.code in _REFUSED_CODES
