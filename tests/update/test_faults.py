"""An update that is killed, or meets a full disk, before each of its steps: an agent that starts is always left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from syntra.update import layout
from syntra.update.errors import UpdateError
from syntra.update.settle import OUTSIDE, confirm, reject, settle
from syntra.update.state_file import read_state
from syntra.update.swap import Step
from syntra.update.trial import Finding
from tests.engine import missing
from tests.update.conftest import installed, tree, update, updater
from tests.update.release_site import ReleaseSite, stand_in

NEW = stand_in("1.3.0", "echo started")
# Runs an update in a process of its own, which kills itself before one step.
KILLED = """
import os, signal, sys
from pathlib import Path
from syntra.update.build_target import build_target
from syntra.update.decide import Wanted
from syntra.update.transfer import Transfer
from syntra.update.updater import Installation, Updater

root, url, roots, fatal = sys.argv[1:]

def before(step):
    if step.name == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

installation = Installation(root=Path(root), running="1.2.0", target=build_target())
one = Updater(installation, base_url=url, root_keys_file=Path(roots), before=before)
with one.lock():
    decision = one.check(Wanted(channel="stable"), Transfer(20))
    one.prepare(decision, Transfer(20), lambda count: None)
    one.swap(decision.version, was_connected=False)
"""


def start(root: Path) -> str:
    """What a service manager does: `boot-check`, then the current program. Returns the version that started."""
    subprocess.run([root / "boot-check"], check=True, timeout=20, capture_output=True)
    ended = subprocess.run([root / "current/syntra-agent", "version"], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, ended
    version = layout.linked(root, "current")
    assert version is not None
    assert f'"{version}"' in ended.stdout
    return version


@pytest.mark.parametrize("step", Step, ids=lambda step: step.name)
def test_a_kill_before_any_step_leaves_an_agent_that_starts_and_can_be_updated(
    root: Path, site: ReleaseSite, tmp_path: Path, step: Step
) -> None:
    site.publish("1.3.0", NEW)
    arguments = [str(root), site.url, str(site.roots_file(tmp_path)), step.name]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=60, check=False, capture_output=True)
    assert ended.returncode == -9, ended.stderr
    assert start(root) == "1.2.0"
    found = settle(root, "1.2.0", 1.0)
    assert found.finding is (Finding.INTERRUPTED if layout.linked(root, "previous") else found.finding)
    state = read_state(root)
    if step is not Step.RECORD:
        assert state.outcome is not None
        assert (state.outcome.result, state.outcome.to_version) == ("interrupted", "1.3.0")
    assert settle(root, "1.2.0", 2.0).finding is Finding.NOTHING
    assert not (root / "staging").exists()
    assert not list((root / "versions").glob(".*"))
    # The same again, to the end.
    assert update(updater(root, site, tmp_path)) == "1.3.0"
    assert start(root) == "1.3.0"
    assert settle(root, "1.3.0", 3.0).finding is Finding.ON_TRIAL
    outcome = confirm(root, "1.3.0", 4.0)
    assert outcome is not None
    assert outcome.sentence == "updated from 1.2.0 to 1.3.0"
    assert start(root) == "1.3.0"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 24 MiB; the test fills it."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        missing("cannot mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no free byte."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.parametrize("step", Step, ids=lambda step: step.name)
def test_a_disk_that_fills_before_any_step_leaves_an_agent_that_starts(
    small_disk: Path, site: ReleaseSite, tmp_path: Path, step: Step
) -> None:
    root = installed(small_disk / "opt", tmp_path)
    # Larger than what a filesystem still has in pages that it has given out.
    site.publish("1.3.0", NEW + b"#" + os.urandom(300_000))

    def before(now: Step) -> None:
        if now is step:
            fill(small_disk)

    try:
        version = update(updater(root, site, tmp_path, before))
    except UpdateError as failed:
        version = ""
        assert "free space" in str(failed)
    assert start(root) == (version or "1.2.0")
    if version:
        for _ in range(3):
            start(root)
        # Bringing the previous version back needs no space either.
        assert start(root) == "1.2.0"
    else:
        before_again = tree(root / "versions")
        assert before_again <= {"1.2.0", "1.2.0/syntra-agent", "1.3.0", "1.3.0/syntra-agent"}
    (small_disk / "filler").unlink()
    settle(root, "1.2.0", 1.0)
    assert not (root / "staging").exists()
    assert start(root) == "1.2.0"


def test_too_little_space_is_found_before_the_download(small_disk: Path, site: ReleaseSite, tmp_path: Path) -> None:
    root = installed(small_disk / "opt", tmp_path)
    (small_disk / "filler").write_bytes(bytes(10 << 20))
    site.publish("1.3.0", NEW)
    with pytest.raises(UpdateError, match=r"MiB are free .* and the update needs 16 MiB; free space"):
        update(updater(root, site, tmp_path))
    assert not any("tar.gz" in path for path in site.asked)


def test_a_version_that_did_not_hold_is_rejected_with_its_own_reason(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", NEW)
    update(updater(root, site, tmp_path))
    for _ in range(3):
        assert start(root) == "1.3.0"
    layout.add_reason(root, "it lost its mind")
    assert start(root) == "1.2.0"
    found = settle(root, "1.2.0", 5.0)
    assert found.finding is Finding.ROLLED_BACK
    state = read_state(root)
    assert state.rejected == {"1.3.0": "it lost its mind"}
    assert state.outcome is not None
    assert state.outcome.sentence == "version 1.3.0 was rolled back to 1.2.0: it lost its mind"
    assert not state.is_reported


@pytest.mark.parametrize("reason", OUTSIDE)
def test_a_reason_outside_the_version_leaves_it_undecided(
    root: Path, site: ReleaseSite, tmp_path: Path, reason: str
) -> None:
    site.publish("1.3.0", NEW)
    update(updater(root, site, tmp_path))
    for _ in range(3):
        start(root)
        layout.add_reason(root, reason)
    assert start(root) == "1.2.0"
    assert settle(root, "1.2.0", 5.0).is_undecided
    assert read_state(root).rejected == {}
    # The old version is in order after all.
    reject(root, "1.3.0", reason)
    state = read_state(root)
    assert state.rejected == {"1.3.0": reason}
    assert state.outcome is not None
    assert state.outcome.result == "rolled_back"
