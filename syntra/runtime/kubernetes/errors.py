"""Failures of calls to the Kubernetes API, as the executor distinguishes them.

RuntimeUnavailable
└── ClusterUnavailable    the API server did not answer, or asked to try again later
StepFailed
└── ApiRefusal            the API server refused the call; `status` and `reason` are those of its Status object
"""

from __future__ import annotations

from syntra.runtime.errors import RuntimeUnavailable, StepFailed

# Reasons of Status objects (apimachinery, meta/v1/types.go) that callers distinguish.
NOT_FOUND = "NotFound"
ALREADY_EXISTS = "AlreadyExists"
CONFLICT = "Conflict"
EXPIRED = "Expired"
NAMESPACE_TERMINATING = "NamespaceTerminating"
"""A cause in the details of a Status object (core/v1, `NamespaceTerminatingCause`)."""

_CODES = {400: "INVALID_PAYLOAD", 401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "CONFLICT"}


class ClusterUnavailable(RuntimeUnavailable):
    """The API server did not answer. `sent` says whether the call may have had an effect."""

    def __init__(self, address: str, reason: str, *, sent: bool = False) -> None:
        super().__init__(
            f"cannot reach the Kubernetes API at {address}: {reason}; check the cluster and the kubeconfig"
        )
        self.sent = sent


class ApiRefusal(StepFailed):
    """A status of 400 or above that trying again does not change."""

    def __init__(
        self, status: int, reason: str, message: str, *, what: str, causes: frozenset[str] = frozenset()
    ) -> None:
        """`causes` are the reasons in the Status object's details."""
        if NAMESPACE_TERMINATING in causes:
            code, step = "CONFLICT", "wait until the namespace is gone, and try again"
        else:
            code = "INVALID_PAYLOAD" if _is_invalid(status, message) else _CODES.get(status, "RUNTIME_ERROR")
            step = _next_step(status, reason)
        super().__init__(code, f"cannot {what}: {message}; {step}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_not_found(self) -> bool:
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Another client changed the object, or owns one of its fields."""
        return self.status == 409

    @property
    def is_expired(self) -> bool:
        """A watch or list began at a resource version that the API server has forgotten."""
        return self.status == 410 or self.reason == EXPIRED


def is_temporary(status: int, message: str) -> bool:
    """Whether a call with this answer may succeed later, unchanged.

    An apply with an unknown field or a duplicate key is answered with 500, and never succeeds.
    """
    return status == 429 or (status >= 500 and not _is_invalid(status, message))


def _is_invalid(status: int, message: str) -> bool:
    return status == 422 or (status == 500 and "failed to create typed patch object" in message)


def _next_step(status: int, reason: str) -> str:
    if status == 403:
        return "give the agent's user this right (`syntra-agent install --kubernetes --print` shows all of them)"
    if status == 401:
        return "check the token or certificate in the kubeconfig"
    if reason == CONFLICT:
        return "try again"
    return "correct the service and deploy it again"
