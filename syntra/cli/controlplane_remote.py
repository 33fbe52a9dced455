"""`controlplane servers`, and the verbs that ask a server's agent over a control plane, such as `controlplane ps`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from syntra.cli import table
from syntra.cli.as_typed import over_control_plane
from syntra.cli.controlplane_client import Api, CallRefused, checked_url, operator_token, quoted
from syntra.cli.controlplane_options import DEFAULT_LISTEN, OPTIONS, REMOTE, URL_VARIABLE, add_api, given_api
from syntra.cli.exec_words import VALUED, split_exec
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_common, add_json
from syntra.cli.parser import Parser
from syntra.cli.reading import UNKNOWN, Json, rows, section, text
from syntra.cli.terminal import out, out_json, printable
from syntra.cli.verbs import SUMMARIES, load

_CREATE = "run `syntra-agent controlplane token create --server NAME`"


def run(action: str, words: Sequence[str], given: argparse.Namespace) -> int:
    """Run an action with its own words. `given` has the options before it."""
    is_verb = action in REMOTE
    summary = f"{SUMMARIES[action]}, on a server behind a control plane" if is_verb else "list the servers"
    parser = Parser(prog=f"syntra-agent controlplane {action}", description=f"{summary[0].upper()}{summary[1:]}.")
    add_common(parser, top=False)
    add_api(parser)
    command: list[str] = []
    if is_verb:
        verb = load(action)
        verb.add_arguments(parser)
        if action == "exec":
            words, command = split_exec(words, VALUED | OPTIONS)
    else:
        add_json(parser)
    parser.shorten_usage()
    args = parser.parse_args(list(words), given)
    api = _api(args)
    if not is_verb:
        return _servers(api, as_json=args.json)
    args.command = command
    over_control_plane(REMOTE, given_api(args))
    if action == "exec" and (args.interactive or args.tty):
        raise CliError(
            "cannot pass a terminal or input through a control plane; leave out -i and -t, or run it on the server",
            ExitCode.USAGE,
        )
    server = _server(api, args.server)
    if action == "deploy" and server.get("connected") is not True:
        return _queue(api, server, args)
    # Imported here: `servers` needs no threads.
    from syntra.cli.controlplane_bridge import Bridge

    with Bridge(api, text(server, "server_id")) as bridge:
        args.socket = bridge.path
        try:
            return int(load(action).run(args))
        except CliError as shown:
            raise bridge.failed or shown from shown


def _api(args: argparse.Namespace) -> Api:
    url = args.url or os.environ.get(URL_VARIABLE) or f"http://{DEFAULT_LISTEN}"
    data_dir: Path = args.data_dir
    return Api(url=checked_url(url), token=operator_token(args.token_file, data_dir), certificates=args.ca_file)


def _server(api: Api, given: str | None) -> Json:
    """The server that is meant. Raises CliError."""
    if given is not None:
        try:
            return api.call("GET", f"/api/v1/servers/{quoted(given)}")
        except CallRefused as refused:
            if refused.code != "NOT_FOUND":
                raise
    known = list(api.pages("/api/v1/servers", "servers"))
    found = [one for one in known if given is None or text(one, "name") == given]
    if len(found) == 1:
        return found[0]
    names = ", ".join(text(one, "server_id") for one in (found or known)[:10])
    if not known:
        raise CliError(f"cannot find a server: there is none yet; {_CREATE}")
    if not found:
        raise CliError(f"cannot find server {given}: the control plane has {names}; give one of them")
    raise CliError(f"cannot choose a server: there are several; give --server with one of {names}", ExitCode.USAGE)


def _queue(api: Api, server: Json, args: argparse.Namespace) -> ExitCode:
    """Leave a deploy for a server that is away; its agent gets it when it connects."""
    server_id = text(server, "server_id")
    if not args.detach:
        raise CliError(
            f"cannot deploy to {server_id}: it is not connected; add --detach to leave the deploy until it is",
            ExitCode.UNAVAILABLE,
        )
    from syntra.cli.deploy import registry_auth
    from syntra.cli.person import person
    from syntra.cli.service_sources import read_sources

    auth = registry_auth(args)
    for source in read_sources(args):
        payload = {**source.payload, "requested_by": person(), **({"registry_auth": auth} if auth else {})}
        if args.timeout is not None:
            payload["timeout_seconds"] = max(1.0, args.timeout)
        body = {"type": "deploy", "payload": payload}
        accepted = api.call("POST", f"/api/v1/servers/{quoted(server_id)}/commands", body)
        if args.json:
            out_json(accepted)
        else:
            out(printable(f"the deploy of {source.name} is queued until {server_id} connects"))
    return ExitCode.OK


def _servers(api: Api, *, as_json: bool) -> ExitCode:
    known = list(api.pages("/api/v1/servers", "servers"))
    if as_json:
        out_json({"servers": known})
        return ExitCode.OK
    table.show(
        ("server", "name", "state", "version", "runtime", "services", "last heartbeat"),
        [_row(one) for one in known],
        empty=f"no servers yet; {_CREATE}",
    )
    return ExitCode.OK


def _row(server: Json) -> tuple[str, ...]:
    hello = section(server, "hello")
    is_connected = server.get("connected") is True
    return (
        text(server, "server_id"),
        text(server, "name"),
        "connected" if is_connected else "away" if hello else "never connected",
        text(hello, "agent_version", text(hello, "version")),
        text(hello, "runtime_product", text(hello, "runtime")),
        str(len(rows(server, "services"))) if server.get("last_heartbeat_at") else UNKNOWN,
        text(server, "last_heartbeat_at"),
    )
