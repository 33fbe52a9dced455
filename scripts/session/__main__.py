"""Records the session: `python -m scripts.session [--check]`."""

from __future__ import annotations

import argparse
import difflib
import getpass
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.session.steady import Steady
from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal
from tests.engine import busybox_image, cleanup, new_token

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/session.md"
COLUMNS = 160
NAME = "shop"
TOP = """\
# A session

One service from its first file to its end, on Docker, as a terminal shows it. `scripts/record-session` runs the
commands with a real agent and writes this file. Times, ids, durations and figures are replaced by fixed ones; all else
is real.
"""


class Recorder:
    """Runs commands in a folder and keeps what a reader of the document sees."""

    def __init__(self, agent: AgentProcess, folder: Path, token: str) -> None:
        self._agent, self._folder = agent, folder
        self._token = token
        self._steady = Steady(token, NAME, getpass.getuser())
        self.text = TOP

    def say(self, text: str) -> None:
        """A paragraph between the commands."""
        self.text += f"\n{text}\n"

    def run(self, *commands: str, answers: Sequence[tuple[str, str]] = ()) -> None:
        """Commands, without the program's name; raises SystemExit when one fails.

        `answers`: a text to wait for, and what is typed then.
        """
        shown: list[str] = []
        for command in commands:
            words = command.replace(f"{NAME}/", f"{self._token}/").split()
            ended = run_in_terminal(
                [*AGENT, "--socket", str(self._agent.socket), *words],
                columns=COLUMNS,
                answers=[(asked, typed.replace(f"{NAME}/", f"{self._token}/")) for asked, typed in answers],
            )
            if ended.code != 0:
                raise SystemExit(f"`syntra-agent {command}` ended with {ended.code}:\n{ended.text}")
            lines = ended.text.rstrip("\n").split("\n")
            shown += [f"$ syntra-agent {command}", *self._steady.text([line.rstrip() for line in lines])]
        self._block(shown)

    def change(self, name: str, *changes: tuple[str, str]) -> None:
        """Edit a file as a person does; raises SystemExit when a text to change is not in it."""
        path = self._folder / name
        text = path.read_text()
        for old, new in changes:
            if old not in text:
                raise SystemExit(f"cannot edit {name}: it has no `{old}`")
            text = text.replace(old, new.replace(NAME, self._token))
        path.write_text(text)

    def show(self, name: str) -> None:
        """A file, as `cat` prints it."""
        self._block([f"$ cat {name}", *self._steady.file((self._folder / name).read_text())])

    def _block(self, lines: list[str]) -> None:
        self.text += "\n```\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n"


def story(there: Recorder) -> None:
    """The commands, in the order of the document."""
    there.say("Write a service file, and set in it what this service needs:")
    there.run("init web.yml", answers=[("image", f"{NAME}/web:1\n"), ("port", "8080\n"), ("domain", "\n")])
    there.change(
        "web.yml",
        ("replicas: 1", "replicas: 2"),
        ("# project: shop ", f"project: {NAME} "),
        ("# health_check: /health ", "health_check: /health "),
    )
    there.show("web.yml")
    there.say("See what a deploy would do, and deploy:")
    there.run("plan web.yml", "deploy web.yml")
    there.say("Look at it:")
    there.run("ps", "ps web", "logs web --tail 2 --no-log-prefix")
    there.say(f"Set `image: {NAME}/web:2` in the file, and deploy the new version:")
    there.change("web.yml", ("/web:1", "/web:2"))
    there.run("plan web.yml", "deploy web.yml", "deployments web")
    there.say("Go back:")
    there.run("rollback web --yes", "status web", "events web")
    there.say("Stop it, start it again, and remove it:")
    there.run("stop web", "ps", "up web", "rm web", "ps")


def recorded() -> str:
    """The document as the commands give it now."""
    token = new_token()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            for version in "12":
                busybox_image(f"{token}/web:{version}", f"v{version}")
            with AgentProcess(folder / "agent", config="[runtime]\nmin_healthy_secs = 1\n") as agent:
                os.chdir(folder)
                there = Recorder(agent, folder, token)
                story(there)
        finally:
            os.chdir(before)
            cleanup(token)
    return there.text


def main() -> int:
    """Write the document, or compare it."""
    parser = argparse.ArgumentParser(prog="scripts/record-session", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    is_check = parser.parse_args().check
    text = recorded()
    if not is_check:
        DOCUMENT.write_text(text)
        return 0
    differences = list(
        difflib.unified_diff(
            DOCUMENT.read_text().splitlines(), text.splitlines(), "docs/session.md", "now", lineterm=""
        )
    )
    print("\n".join(differences))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
