"""Errors of a runtime, as the executor distinguishes them.

RuntimeFailure
├── RuntimeUnavailable   the runtime did not answer; the same step may succeed later
└── StepFailed           the runtime answered and refused; `code` is the contract's error code
    └── ExecTimedOut     a command ran longer than it may
"""

from __future__ import annotations

from syntra.model.ids import ContainerId
from syntra.utils.errors import AgentError

# The code of a StepFailed: a stopped container cannot start because its network was removed. It must be recreated.
NETWORK_GONE = "NETWORK_GONE"


class RuntimeFailure(AgentError):
    """A runtime could not do what the agent requested. `code` is the contract's error code."""

    code: str


class RuntimeUnavailable(RuntimeFailure):
    """The engine is unreachable or failed during the call; whether the call had an effect is unknown until observed."""

    code = "RUNTIME_UNAVAILABLE"


class StepFailed(RuntimeFailure):
    """A step was refused or failed permanently. `container_id`, if set, is the container whose logs may explain it.

    `details` is the runtime's own text where the sentence is not that.
    """

    def __init__(self, code: str, sentence: str, *, container_id: ContainerId | None = None, details: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.details = details
        self.container_id = container_id


class ExecTimedOut(StepFailed):
    """A command outlived its deadline; what it wrote until then is the beginning of its output."""

    def __init__(
        self, sentence: str, *, container_id: ContainerId | None, stdout: bytes, stderr: bytes, truncated: bool
    ) -> None:
        super().__init__("EXEC_TIMEOUT", sentence, container_id=container_id)
        self.stdout = stdout
        self.stderr = stderr
        self.truncated = truncated


def first_of(failures: BaseExceptionGroup[RuntimeFailure]) -> RuntimeFailure:
    """The first failure of a group, however deep."""
    first = failures.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
