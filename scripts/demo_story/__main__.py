"""Runs the story and cleans up, however it ends: `python -m scripts.demo_story [--keep | --clean DIR]`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from scripts.demo_story.engine import PORT, Engine
from scripts.demo_story.errors import StoryFailed
from scripts.demo_story.stage import AGENT_PROGRAM, Names, Stage
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
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave the last version running")
    choice.add_argument("--clean", type=Path, metavar="DIR", help="remove what --keep left")
    args = parser.parse_args()
    engine = Engine(os.environ.get("ENGINE_SOCKET", "/var/run/docker.sock"))
    if args.clean is not None:
        return _clean(args.clean, engine)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    stage = Stage.new(engine)
    keep = args.keep
    status = 1
    try:
        status = _run(stage, keep=keep)
    except Interrupted as interrupted:
        print(f"interrupted by {interrupted}; cleaning up", file=sys.stderr)
        keep, status = False, 128 + interrupted.number
    finally:
        # Ignore further signals; the clean-up has its own deadline.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if keep:
            _show_around(stage)
        else:
            status = max(status, _clear(stage))
    return status


def _run(stage: Stage, *, keep: bool) -> int:
    begun = time.monotonic()
    _tell(f"the service is {stage.names.service_id}; all state is in {stage.names.directory}")
    try:
        Story(stage, _tell).run(keep=keep)
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
    _tell("cleaned up: the processes, the network, the registry and its images are gone")
    return 0


def _clean(directory: Path, engine: Engine) -> int:
    try:
        return _clear(Stage(Names.of(directory), engine))
    except StoryFailed as failed:
        print(f"cannot clean up: {failed}", file=sys.stderr)
        return 2


def _show_around(stage: Stage) -> None:
    agent = f"{AGENT_PROGRAM} --socket {stage.agent_socket}"
    api = f"{stage.control_plane_url}/api/v1"
    operator = f'curl -H "Authorization: Bearer $(cat {stage.operator_token_path})"'
    address = next((c.address for c in stage.engine.containers(stage.names.service_id) if c.running), "ADDRESS")
    through = stage.proxy_port and [f'  curl -H "Host: {stage.names.host}" http://127.0.0.1:{stage.proxy_port}/']
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
        *(through or ()),
        f"  ls {stage.names.directory}   # agent.toml, agent.log, control-plane.log, registry.log",
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
