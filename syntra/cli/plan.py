"""`plan`: what a deploy of a service file would change, and its steps; nothing changes.

On a cluster it also shows what changes in each object, as a dry run of the API server says it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import Json, rows, text, texts
from syntra.cli.service_sources import Source, add_files, read_sources
from syntra.cli.several import Result, run_each
from syntra.cli.terminal import out, out_json, printable
from syntra.utils.errors import AgentError

UNCHANGED = "none"
"""The action of a plan for a file that changes nothing."""
_WORDS = {UNCHANGED: "no changes", "create": "new", "scale": "scales"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE…, --expand, --env-file, --force, --manifests, --json."""
    add_files(parser)
    parser.add_argument("--force", action="store_true", help="show the steps of `deploy --force`")
    parser.add_argument(
        "--manifests", action="store_true", help="print the objects that a cluster would get, as YAML, and nothing else"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print."""
    sources = read_sources(args)
    socket = socket_path(args)
    # What `kubectl apply -f -` reads has documents only.
    is_reported = args.json or not args.manifests
    return run_each(sources, lambda source: _plan(socket, source, args), as_json=args.json, is_reported=is_reported)


def _plan(socket: Path, source: Source, args: argparse.Namespace) -> Result:
    data = ask(socket, "plan", {**source.payload, "force": args.force or args.manifests, "manifests": args.manifests})
    if args.json:
        out_json(data)
    elif args.manifests:
        show_manifests(data)
    else:
        show_plan(data, source.name)
    return Result(word=_WORDS.get(text(data, "action"), "changes"), code=ExitCode.OK)


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
    out(yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True, explicit_start=True).rstrip())


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
