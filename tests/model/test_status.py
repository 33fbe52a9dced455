"""The observed side: which states serve, and which ends are ends."""

from __future__ import annotations

from syntra.model.container import ContainerState
from syntra.model.status import DeployState, ExecResult
from tests.model.samples import SECRET
from tests.runtime.containers.world import replica


def test_a_container_is_up_while_the_engine_keeps_it_so() -> None:
    up = {state for state in ContainerState if replica(state=state).is_up}
    assert up == {ContainerState.RUNNING, ContainerState.RESTARTING, ContainerState.PAUSED}


def test_a_deployment_ends_running_failed_or_rolled_back() -> None:
    ends = {state.value for state in DeployState if state.is_terminal}
    assert ends == {"running", "failed", "rolled_back"}


def test_the_output_of_an_exec_is_not_shown() -> None:
    assert SECRET not in repr(ExecResult(exit_code=0, stdout=SECRET.encode(), stderr=SECRET.encode()))
