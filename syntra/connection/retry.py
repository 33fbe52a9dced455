"""When to dial again, and how to describe the failure. Pure: randomness is an argument.

Three policies:
- BACKOFF  for failures that pass without help: 1 s, doubling to the maximum.
- SLOW     for failures that a person must fix: 30 s, doubling to 600 s.
- REFUSED  for a token that the control plane rejects: SLOW, then hourly after six refusals without an acceptance.
           Workloads keep running; the agent never exits because of a refusal.

Every delay has full jitter, applied after the cap: applied before, a fleet at the cap would dial in step. The backoff
resets only after a connection has been READY for a minute: a control plane that accepts and disconnects is in trouble.
A READY connection usually breaks for the whole fleet at once, so the first wait after it is spread over 5 s.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from syntra.connection.messages import readable
from syntra.utils.frozen import frozen

Uniform = Callable[[float, float], float]
"""`random.Random.uniform`, or a fake."""

FIRST_DELAY_SECS = 1.0
LOST_READY_SPREAD_SECS = 5.0
STABLE_AFTER_SECS = 60.0
SLOW_FIRST_SECS = 30.0
SLOW_MAX_SECS = 600.0
REFUSALS_UNTIL_HOURLY = 6
HOURLY_SECS = 3600.0
RETRY_AFTER_MAX_SECS = 3600.0
"""The longest Retry-After that is obeyed. A typing error there would lose the server for days."""

CLIENT_CERTIFICATE_REFUSED = "it did not accept this agent's client certificate"
"""How the detail of a TLS failure begins when the control plane has refused the client certificate."""


class FailureKind(enum.Enum):
    """What ended a dial or its connection."""

    NETWORK = "network"  # no TCP, no answer, connection broken
    HTTP = "http"  # an HTTP status instead of the upgrade; `code` is the status
    PROXY = "proxy"
    TLS = "tls"  # one side rejected a certificate
    CLOSE = "close"  # a WebSocket close; `code` is the close code
    REFUSED_HELLO = "refused_hello"  # hello_ack with accepted = false
    LOCAL = "local"  # the agent could not dial, for example because it had no hello payload
    REDIAL = "redial"  # the agent wants a new connection; nothing failed


@frozen
class DialFailure:
    """Why a dial or its connection ended. `detail` is a short phrase without secrets."""

    kind: FailureKind
    detail: str = ""
    code: int | None = None
    retry_after_secs: float | None = None


class RetryPolicy(enum.Enum):
    BACKOFF = "backoff"
    SLOW = "slow"
    REFUSED = "refused"


@frozen
class Verdict:
    """What to do after a failure: the policy, a sentence for status and log, and whether a person must act."""

    policy: RetryPolicy
    sentence: str
    loud: bool = False
    retry_after_secs: float | None = None


def classify(failure: DialFailure) -> Verdict:
    """Choose the policy and the sentence for a failure."""
    detail = readable(failure.detail)
    match failure.kind:
        case FailureKind.HTTP:
            return _classify_status(failure.code or 0, detail, failure.retry_after_secs)
        case FailureKind.CLOSE:
            return _classify_close(failure.code or 1006, detail)
        case FailureKind.TLS:
            return _slow(f"cannot establish TLS with the control plane: {detail}")
        case FailureKind.REFUSED_HELLO:
            reason = detail or "no reason was given"
            return _slow(f"the control plane refused this agent: {reason}; check the server's entry there")
        case FailureKind.LOCAL:
            text = f"cannot dial the control plane: {detail}; retrying"
            return Verdict(policy=RetryPolicy.BACKOFF, sentence=text, loud=True)
        case FailureKind.PROXY:
            text = f"cannot reach the control plane through the proxy: {detail}; check HTTPS_PROXY and NO_PROXY"
            return Verdict(policy=RetryPolicy.BACKOFF, sentence=text, loud=True)
        case FailureKind.REDIAL:
            return Verdict(policy=RetryPolicy.BACKOFF, sentence=f"dialling again: {detail}")
        case FailureKind.NETWORK:
            return _unreachable(detail)


def _classify_status(status: int, detail: str, retry_after_secs: float | None) -> Verdict:
    said = f"HTTP {status}" + (f" ({detail})" if detail else "")
    if status in (401, 403):
        return _refused(f"the token was refused: {said}; check control_plane.token and server_id")
    if status == 429 or status >= 500:
        text = f"cannot reach the control plane: it answered {said}; retrying"
        return Verdict(policy=RetryPolicy.BACKOFF, sentence=text, retry_after_secs=retry_after_secs)
    # Load balancers answer 404 while they have no backend, so a 404 often passes without help.
    text = f"cannot reach the control plane: it answered {said} instead of a WebSocket; check the endpoint"
    return Verdict(policy=RetryPolicy.BACKOFF, sentence=text, loud=True, retry_after_secs=retry_after_secs)


def _classify_close(code: int, detail: str) -> Verdict:
    said = f"close code {code}" + (f" ({detail})" if detail else "")
    match code:
        case 4001:
            return _refused(f"the token was refused: {said}; check control_plane.token and server_id")
        case 4003:
            return _refused(f"the hello was refused: {said}; update the agent")
        case 4002:
            return _slow(f"the hello was refused: {said}; update the agent")
        case 1006:
            return _unreachable(detail or "the connection broke")
        case 1009:
            text = f"cannot keep the connection: a frame was too large, {said}; retrying"
            return Verdict(policy=RetryPolicy.BACKOFF, sentence=text, loud=True)
        case _:
            return Verdict(policy=RetryPolicy.BACKOFF, sentence=f"the connection was closed: {said}; retrying")


def _unreachable(detail: str) -> Verdict:
    return Verdict(policy=RetryPolicy.BACKOFF, sentence=f"cannot reach the control plane: {detail}; retrying")


def _slow(sentence: str) -> Verdict:
    return Verdict(policy=RetryPolicy.SLOW, sentence=sentence, loud=True)


def _refused(sentence: str) -> Verdict:
    return Verdict(policy=RetryPolicy.REFUSED, sentence=sentence, loud=True)


class Backoff:
    """Computes the delay before the next dial. One per agent; it outlives connections."""

    def __init__(self, *, uniform: Uniform, max_delay_secs: float = 60.0) -> None:
        self._uniform = uniform
        self._max = max_delay_secs
        self._attempts = 0
        self._slow = 0
        self._refusals = 0
        self.failures = 0
        """Failures since a connection was last READY."""

    def delay(self, verdict: Verdict, *, ready_for_secs: float | None) -> float:
        """Seconds to wait after a failure. `ready_for_secs`: how long the connection was READY; None if never."""
        if ready_for_secs is not None:
            self._slow = self._refusals = self.failures = 0
            if ready_for_secs >= STABLE_AFTER_SECS:
                self._attempts = 0
        self.failures += 1
        window = self._window(verdict.policy, lost_ready=ready_for_secs is not None)
        wait = self._uniform(0.0, window)
        if verdict.retry_after_secs is not None:
            # Add the jitter to Retry-After: the control plane said "not before".
            wait += min(max(verdict.retry_after_secs, 0.0), RETRY_AFTER_MAX_SECS)
        return wait

    def _window(self, policy: RetryPolicy, *, lost_ready: bool) -> float:
        match policy:
            case RetryPolicy.BACKOFF:
                window = _doubled(FIRST_DELAY_SECS, self._attempts, self._max)
                self._attempts += 1
                return min(self._max, max(window, LOST_READY_SPREAD_SECS)) if lost_ready else window
            case RetryPolicy.SLOW:
                self._slow += 1
                return _doubled(SLOW_FIRST_SECS, self._slow - 1, SLOW_MAX_SECS)
            case RetryPolicy.REFUSED:
                self._refusals += 1
                if self._refusals > REFUSALS_UNTIL_HOURLY:
                    return HOURLY_SECS
                return _doubled(SLOW_FIRST_SECS, self._refusals - 1, SLOW_MAX_SECS)


def _doubled(first: float, times: int, cap: float) -> float:
    return min(cap, first * 2.0 ** min(times, 32))
