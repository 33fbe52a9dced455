"""`proxy up`, `proxy down` and `proxy status`: Traefik in front of the services."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from syntra.cli.agent_client import AgentConnection, ask, await_response
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import Json, number, rows, section, text, texts
from syntra.cli.terminal import err, out, out_json, printable

SILENCE_SECS = 3600.0
"""Longest wait for a report: pulling the image reports nothing, and the agent itself ends a stalled pull."""
DOWN_SECS = 120.0
"""Two containers, each with its grace period."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """up | down | status, --json."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=("up", "down", "status"),
        help="up: start Traefik in a container, or use a Traefik that already runs; down: remove that container; "
        "status: show the proxy and its problems",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Send the request, follow it, print."""
    socket = socket_path(args)
    match args.action:
        case "up":
            data = _up(socket, (lambda _: None) if args.json else out)
        case "down":
            data = ask(socket, "proxy_down", {}, timeout=DOWN_SECS)
        case _:
            data = ask(socket, "proxy_status", {})
    if args.json:
        out_json(data)
    elif args.action == "status":
        _show(data)
    else:
        out(printable(text(data, "message")))
    return ExitCode.OK


def _up(socket: Path, show: Callable[[str], None]) -> Json:
    with AgentConnection.open(socket) as connection:
        request_id = connection.send("proxy_up", {})
        try:
            return await_response(
                connection,
                request_id,
                timeout=SILENCE_SECS,
                on_other=lambda envelope: show(printable(text(envelope.payload, "message"))),
            )
        except KeyboardInterrupt:
            err("the proxy command continues in the background; see `syntra-agent proxy status`")
            raise


def _show(status: Json) -> None:
    container, api, certificates = (section(status, name) for name in ("container", "api", "certificates"))
    kinds = {"ours": "managed by this agent", "foreign": "not managed by this agent", "none": "none"}
    _line("proxy", kinds.get(text(status, "kind"), "-"))
    if container:
        restarts = number(container, "restarts")
        again = f", restarted {restarts:.0f} times" if restarts else ""
        _line("container", f"{text(container, 'name')} {text(container, 'state')}{again}")
        _line("image", text(container, "image"))
    if api.get("reachable") is True:
        _line("version", f"Traefik {text(status, 'version')}, since {text(status, 'since')}")
        _line("API", text(api, "url"))
        shown = (f"{text(row, 'name')} {text(row, 'address')}" for row in rows(status, "entrypoints"))
        _line("entrypoints", ", ".join(shown) or "-")
    else:
        _line("API", text(api, "detail", "does not answer"))
    routes = section(status, "routes")
    applied = (
        "applied" if routes.get("applied") is True else "not applied" if routes.get("applied") is False else "not known"
    )
    _line("routes", f"{applied}, in {text(routes, 'directory')}")
    if text(certificates, "resolver", ""):
        stored = "" if certificates.get("present") is True else ", empty so far"
        _line("certificates", f"by {text(certificates, 'resolver')}, stored in {text(certificates, 'storage')}{stored}")
    else:
        _line("certificates", "none; services are reached without TLS")
    for problem in texts(status, "problems"):
        _line("problem", problem)


def _line(name: str, value: str) -> None:
    out(f"{name + ':':15}{printable(value)}")
