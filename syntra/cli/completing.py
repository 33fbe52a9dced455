"""Answers the shell's question what may come next, with argcomplete: verbs, options, services, deployments, files.

The shell's function, which `completion` prints, runs this program with _ARGCOMPLETE set. Only the parser of the verb in
the line is built. Without an agent, or with one that is slow, there is nothing to suggest.
"""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable, Iterable, Mapping

import argcomplete
from argcomplete.completers import FilesCompleter, SuppressCompleter

from syntra.cli.agent_client import AgentConnection, await_response
from syntra.cli.controlplane_options import REMOTE, add_api
from syntra.cli.options import add_common, path, socket_path
from syntra.cli.parser import Parser
from syntra.cli.reading import Json, rows, text
from syntra.cli.services import chosen
from syntra.cli.verbs import SUMMARIES, load
from syntra.utils.errors import AgentError

AGENT_SECS = 0.5
"""Longest wait for each step of asking the agent: a person waits for the key's effect."""

Completer = Callable[..., Iterable[str]]


def complete() -> None:
    """Print the suggestions for COMP_LINE where argcomplete wants them, and exit."""
    words = os.environ.get("COMP_LINE", "").split()
    argcomplete.autocomplete(parser_of(words), always_complete_options=False, default_completer=SuppressCompleter())


def parser_of(words: list[str]) -> argparse.ArgumentParser:
    """One parser for the whole line; of the verbs, only those among the words have their arguments."""
    top = Parser(prog="syntra-agent")
    add_common(top, top=True)
    top.add_argument("--version", action="version", version="", help="show the version")
    verbs = top.add_subparsers(metavar="VERB")
    for name, summary in SUMMARIES.items():
        parser = verbs.add_parser(name, help=summary)
        if name == "controlplane" and name in words:
            _add_actions(parser, words)
        elif name in words:
            _add_verb(parser, name, _COMPLETERS)
    for action in top._actions:
        _choose(action, {})
    return top


def _add_actions(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """The actions of `controlplane`. What they are about is on another server, which the local agent does not know."""
    add_common(parser, top=False)
    add_api(parser)
    actions = parser.add_subparsers(metavar="ACTION")
    for name in ("token", "servers", *REMOTE):
        action = actions.add_parser(name, help=SUMMARIES.get(name, name))
        if name in words and name in REMOTE:
            _add_verb(action, name, {})
            add_api(action)


def _add_verb(parser: argparse.ArgumentParser, name: str, completers: Mapping[str, Completer]) -> None:
    add_common(parser, top=False)
    load(name).add_arguments(parser)
    for action in parser._actions:
        _choose(action, completers)


def _choose(action: argparse.Action, completers: Mapping[str, Completer]) -> None:
    completer: Completer | None = completers.get(action.dest)
    if completer is None and action.type is path:
        completer = FilesCompleter()
    if completer is not None:
        action.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it


def _services(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The names of services; with the project where a name alone is not enough."""
    services = _listed(parsed_args)
    names = [text(one, "service_name", text(one, "service_id")) for one in services]
    return [
        name if names.count(name) == 1 else f"{text(one, 'project_name')}/{name}"
        for one, name in zip(services, names, strict=True)
    ]


def _deployments(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The deployments of the service in the line, newest first."""
    given = getattr(parsed_args, "service", None) or next(iter(getattr(parsed_args, "services", None) or ()), None)
    if given is None:
        return []
    try:
        service_id = text(chosen(_listed(parsed_args), given)[0], "service_id")
    except AgentError:
        return []
    known = rows(_asked(parsed_args, "list_deployments", {"service_id": service_id}), "deployments")
    return list(dict.fromkeys(text(one, "deployment_id") for one in known))


_COMPLETERS: Mapping[str, Completer] = {
    "service": _services,
    "services": _services,
    "to": _deployments,
    "deployment": _deployments,
}


def _listed(parsed_args: argparse.Namespace) -> list[Json]:
    return rows(_asked(parsed_args, "list_services", {}), "services")


def _asked(parsed_args: argparse.Namespace, kind: str, payload: Json) -> Json:
    """The agent's answer; nothing without one, since a suggestion is no place for an error."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        opened.settimeout(AGENT_SECS)
        opened.connect(str(socket_path(parsed_args)))
        with AgentConnection(opened) as connection:
            return await_response(connection, connection.send(kind, payload), timeout=AGENT_SECS)
    except (AgentError, OSError):
        return {}
    finally:
        opened.close()
