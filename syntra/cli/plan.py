"""`plan`: the steps that deploying a service file would take now; nothing changes."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, path, socket_path
from syntra.cli.reading import rows, text, texts
from syntra.cli.service_file import read_service
from syntra.cli.terminal import out, out_json, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, --json."""
    parser.add_argument(
        "file", metavar="FILE", type=path, help="service file: .yaml, .toml or .json; `-` reads YAML or JSON from stdin"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print."""
    payload = read_service(args.file)
    data = ask(socket_path(args), "plan", payload)
    if args.json:
        out_json(data)
        return ExitCode.OK
    steps = rows(data, "steps")
    out(printable(f"{payload['service_name']}: {text(data, 'strategy')}, {len(steps)} steps"))
    for index, step in enumerate(steps, 1):
        out(printable(f"{index:3}. {text(step, 'text')}"))
    for note in texts(data, "notes"):
        out(printable(f"note: {note}"))
    return ExitCode.OK
