"""`plan`: what a deploy of a service file would change, and its steps; nothing changes."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, path, socket_path
from syntra.cli.reading import Json, rows, text, texts
from syntra.cli.service_file import read_service
from syntra.cli.services import typed
from syntra.cli.terminal import out, out_json, printable

UNCHANGED = "none"
"""The action of a plan for a file that changes nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, --force, --json."""
    parser.add_argument(
        "file", metavar="FILE", type=path, help="service file: .yaml, .toml or .json; `-` reads YAML or JSON from stdin"
    )
    parser.add_argument("--force", action="store_true", help="show the steps of `deploy --force`")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print."""
    payload = read_service(args.file)
    typed(str(payload["service_id"]), str(payload["service_name"]))
    data = ask(socket_path(args), "plan", {**payload, "force": args.force})
    if args.json:
        out_json(data)
    else:
        show_plan(data, str(payload["service_name"]))
    return ExitCode.OK


def show_plan(data: Json, name: str) -> None:
    """The changes, the steps, the notes."""
    action = text(data, "action")
    if action == UNCHANGED:
        out(printable(f"{name}: no changes"))
        return
    steps = rows(data, "steps")
    how = "scale only" if action == "scale" else text(data, "strategy")
    out(printable(f"{name}: {'new service, ' if action == 'create' else ''}{how}, {len(steps)} steps"))
    for change in change_texts(data):
        out(printable(f"  {change}"))
    for index, step in enumerate(steps, 1):
        out(printable(f"{index:3}. {text(step, 'text')}"))
    for note in texts(data, "notes"):
        out(printable(f"note: {note}"))


def change_texts(data: Json) -> list[str]:
    """What changes, a sentence for each setting."""
    return [text(change, "text") for change in rows(data, "changes")]
