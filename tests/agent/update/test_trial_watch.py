"""A version on trial ends itself, is kept, or is found to blame, on a real directory of versions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syntra.agent.update.trial_watch import TrialWatch
from syntra.update import layout
from syntra.update.settle import NO_CONNECTION, NO_ENGINE, settle
from syntra.update.state import Outcome
from syntra.update.state_file import read_state
from syntra.update.trial import Trial
from syntra.utils.errors import AgentError
from tests.update.conftest import installed

DEADLINE = 20.0


class Rig:
    """The agent `running`, and what surrounds it."""

    def __init__(self, root: Path, running: str, *, connected: bool = True, engine: bool = True) -> None:
        self.ended: list[str] = []
        self.outcomes: list[Outcome] = []
        self.rejected = 0
        self._engine = engine
        self.watch = TrialWatch(
            root,
            running,
            settle(root, running, 1.0),
            ping=self._ping,
            is_connected=lambda: connected,
            end=self.ended.append,
            confirm_secs=0,
            timeout_secs=0.1,
            on_outcome=self._outcome,
            on_rejected=self._rejected,
        )

    async def run(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.watch.run()

    async def _ping(self) -> None:
        if not self._engine:
            raise AgentError("cannot reach the engine: no; start it")

    async def _outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    async def _rejected(self) -> None:
        self.rejected += 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """1.3.0 is on trial after 1.2.0, which was connected; 1.0.0 is older."""
    root = installed(tmp_path / "opt", tmp_path, "1.0.0")
    for version in ("1.2.0", "1.3.0"):
        layout.install_version(root, version, tmp_path / "first")
    layout.write_trial(root, Trial(to_version="1.3.0", from_version="1.2.0", was_connected=True, starts=1))
    return root


async def test_a_version_in_order_is_kept_and_the_one_before_it_too(root: Path) -> None:
    rig = Rig(root, "1.3.0")
    await rig.run()
    assert [outcome.sentence for outcome in rig.outcomes] == ["updated from 1.2.0 to 1.3.0"]
    assert layout.read_trial(root) is None
    assert sorted(path.name for path in (root / "versions").iterdir()) == ["1.2.0", "1.3.0"]
    assert read_state(root).installed == "1.3.0"
    assert rig.ended == []


@pytest.mark.parametrize(("connected", "engine", "reason"), [(False, True, NO_CONNECTION), (True, False, NO_ENGINE)])
async def test_a_version_that_is_not_in_order_ends_itself_and_says_why(
    root: Path, connected: bool, engine: bool, reason: str
) -> None:
    rig = Rig(root, "1.3.0", connected=connected, engine=engine)
    await rig.run()
    assert rig.ended == [reason]
    trial = layout.read_trial(root)
    assert trial is not None
    assert (trial.starts, trial.reason) == (1, reason)


@pytest.mark.parametrize(("connected", "is_rejected"), [(True, True), (False, False)])
async def test_the_old_version_rejects_the_new_one_only_if_it_is_in_order_itself(
    root: Path, connected: bool, is_rejected: bool
) -> None:
    layout.add_reason(root, NO_CONNECTION)
    layout.link(root, layout.CURRENT, "1.2.0")
    rig = Rig(root, "1.2.0", connected=connected)
    await rig.run()
    assert ("1.3.0" in read_state(root).rejected) is is_rejected
    assert rig.rejected == int(is_rejected)
    outcome = read_state(root).outcome
    assert outcome is not None
    assert outcome.result == ("rolled_back" if is_rejected else "undecided")


async def test_without_a_trial_nothing_is_judged(root: Path) -> None:
    layout.remove_trial(root)
    rig = Rig(root, "1.3.0", connected=False, engine=False)
    await rig.run()
    assert (rig.ended, rig.outcomes) == ([], [])
