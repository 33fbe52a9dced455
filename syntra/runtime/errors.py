"""What can go wrong in a runtime, as the executor tells it apart.

RuntimeFailure
├── RuntimeUnavailable   the runtime did not answer; the same step may work later
└── StepFailed           the runtime answered and refused; `code` is the contract's error code
"""

from __future__ import annotations

from syntra.model.ids import ContainerId
from syntra.utils.errors import AgentError


class RuntimeFailure(AgentError):
    """A runtime could not do what it was asked. `code` is the contract's error code."""

    code: str


class RuntimeUnavailable(RuntimeFailure):
    """The engine cannot be reached or went away in mid-call; what it did of that call is unknown until observed."""

    code = "RUNTIME_UNAVAILABLE"


class StepFailed(RuntimeFailure):
    """One step was refused or failed for good. `container_id` is whose last lines may tell more, when there is one."""

    def __init__(self, code: str, sentence: str, *, container_id: ContainerId | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.container_id = container_id
