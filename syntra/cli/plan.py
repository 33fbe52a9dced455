"""`plan`: what a deploy of a service file would change, and its steps; nothing changes.

On a cluster it also shows what changes in each object, as a dry run of the API server says it.
"""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, path, socket_path
from syntra.cli.reading import Json, rows, text, texts
from syntra.cli.service_file import read_service
from syntra.cli.services import typed
from syntra.cli.terminal import out, out_json, printable
from syntra.utils.errors import AgentError

UNCHANGED = "none"
"""The action of a plan for a file that changes nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, --force, --manifests, --json."""
    parser.add_argument(
        "file", metavar="FILE", type=path, help="service file: .yaml, .toml or .json; `-` reads YAML or JSON from stdin"
    )
    parser.add_argument("--force", action="store_true", help="show the steps of `deploy --force`")
    parser.add_argument(
        "--manifests", action="store_true", help="print the objects that a cluster would get, as YAML, and nothing else"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print."""
    payload = read_service(args.file)
    typed(str(payload["service_id"]), str(payload["service_name"]))
    data = ask(
        socket_path(args), "plan", {**payload, "force": args.force or args.manifests, "manifests": args.manifests}
    )
    if args.json:
        out_json(data)
    elif args.manifests:
        show_manifests(data)
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
    for line in _object_lines(data):
        out(printable(line))
    for note in texts(data, "notes"):
        out(printable(f"note: {note}"))


def show_manifests(data: Json) -> None:
    """The objects as YAML documents, with the values of secrets hidden."""
    import yaml

    manifests = [one["manifest"] for one in rows(data, "objects") if "manifest" in one]
    if not manifests:
        raise AgentError("cannot show manifests: this runtime is no cluster; use plan without --manifests")
    out(yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True).rstrip())


def _object_lines(data: Json) -> list[str]:
    found = []
    for one in rows(data, "objects"):
        changes = texts(one, "changes")
        if changes:
            found.append(f"{text(one, 'object')}: {changes[0] if len(changes) == 1 else ''}".rstrip())
            found += [f"  {change}" for change in changes if len(changes) > 1]
    return found


def change_texts(data: Json) -> list[str]:
    """What changes, a sentence for each setting."""
    return [text(change, "text") for change in rows(data, "changes")]
