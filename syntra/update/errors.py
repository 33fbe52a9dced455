"""The error of an update that was refused or failed."""

from __future__ import annotations

from syntra.utils.errors import AgentError


class UpdateError(AgentError):
    """The update was refused or failed; the agent that runs is as it was.

    `reason` and `next_step` are the two halves of the sentence. `code` is `UPDATE_REFUSED` where trying again changes
    nothing, `UPDATE_FAILED` where it may help.
    """

    code = "UPDATE_REFUSED"

    def __init__(self, reason: str, next_step: str, code: str = code) -> None:
        super().__init__(f"cannot update the agent: {reason}; {next_step}")
        self.reason = reason
        self.next_step = next_step
        self.code = code
