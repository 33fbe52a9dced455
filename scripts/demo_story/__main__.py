"""Runs the story and cleans up, however it ends: `python -m scripts.demo_story`, with the options of `scripts/demo`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from scripts.demo_story.errors import StoryFailed
from scripts.demo_story.runtime import PORT
from scripts.demo_story.runtimes import RUNTIMES, new_stage, stage_of
from scripts.demo_story.stage import AGENT_PROGRAM, Stage
from scripts.demo_story.story import Story

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOWN_LOG_LINES = 8


class Interrupted(BaseException):
    """A signal ends the story. A BaseException, so that no step handles it as a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main() -> int:
    """Run or clean up; returns the exit status: 0, 1 for a failed step, 128 + n for a signal."""
    parser = argparse.ArgumentParser(prog="scripts/demo", allow_abbrev=False)
    parser.add_argument("--runtime", choices=RUNTIMES, default="docker", help="where the service runs")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave the last version running")
    choice.add_argument("--clean", type=Path, metavar="DIR", help="remove what --keep left")
    args = parser.parse_args()
    if args.clean is not None:
        return _clean(args.clean)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    stage = new_stage(args.runtime)
    story = Story(stage, _tell)
    keep = args.keep
    status = 1
    try:
        status = _run(stage, story, keep=keep)
    except Interrupted as interrupted:
        print(f"interrupted by {interrupted}; cleaning up", file=sys.stderr)
        keep, status = False, 128 + interrupted.number
    finally:
        # Ignore further signals; the clean-up has its own deadline.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if keep:
            _show_around(stage, story)
        else:
            status = max(status, _clear(stage))
    return status


def _run(stage: Stage, story: Story, *, keep: bool) -> int:
    begun = time.monotonic()
    _tell(f"the service is {stage.names.service_id}; all state is in {stage.names.directory}")
    try:
        story.run(keep=keep)
    except StoryFailed as failed:
        print(f"failed after {time.monotonic() - begun:.1f} s: {failed}", file=sys.stderr)
        for line in stage.last_log_lines(SHOWN_LOG_LINES):
            print(f"  agent.log: {line[:500]}", file=sys.stderr)
        return 1
    _tell(f"{time.monotonic() - begun:5.1f} s  in all; every step did what it says")
    return 0


def _clear(stage: Stage) -> int:
    try:
        stage.clear()
    except (StoryFailed, OSError) as failed:
        print(f"cannot clean up: {failed}; try scripts/demo --clean {stage.names.directory}", file=sys.stderr)
        return 1
    _tell("cleaned up: the processes and everything that they made are gone")
    return 0


def _clean(directory: Path) -> int:
    try:
        return _clear(stage_of(directory))
    except StoryFailed as failed:
        print(f"cannot clean up: {failed}", file=sys.stderr)
        return 2


def _show_around(stage: Stage, story: Story) -> None:
    agent = f"{AGENT_PROGRAM} --socket {stage.agent_socket}"
    api = f"{stage.control_plane_url}/api/v1"
    operator = f'curl -H "Authorization: Bearer $(cat {stage.operator_token_path})"'
    address = next((c.address for c in stage.runtime.containers() if c.running), "ADDRESS")
    look = story.way.look()
    for line in (
        "",
        "everything is left running; look around:",
        f"  {agent} ps",
        f"  {agent} status",
        f"  {agent} logs --tail 5 {stage.names.service_id}",
        f"  {agent} exec {stage.names.service_id} -- ps",
        f"  {operator} {api}/servers",
        f"  {operator} {api}/servers/{stage.names.server_id}/commands?wait=20 \\",
        f"""    -d '{{"type": "scale", "payload": {{"service_id": "{stage.names.service_id}", "replicas": 1}}}}'""",
        f"  curl http://{address}:{PORT}/",
        *([f"  {look}"] if look else []),
        f"  ls {stage.names.directory}   # agent.toml, agent.log, control-plane.log and others",
        "and when done:",
        f"  scripts/demo --clean {stage.names.directory}",
    ):
        _tell(line)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _tell(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
