"""`metrics`: the resource use of the containers of one service, or of all."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import UNKNOWN, Json, number, rows, text
from syntra.cli.services import find
from syntra.cli.terminal import out_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --json."""
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="only this one: name, project/name or id")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print."""
    socket = socket_path(args)
    chosen = {"service_id": find(socket, args.service)} if args.service is not None else {}
    data = ask(socket, "metrics", chosen)
    if args.json:
        out_json(data)
        return ExitCode.OK
    table.show(
        ("container", "cpu", "memory", "limit", "net in", "net out", "disk read", "disk write", "pids"),
        [_row(container) for container in rows(data, "containers")],
        empty="no running containers",
    )
    return ExitCode.OK


def _row(container: Json) -> tuple[str, ...]:
    cpu = number(container, "cpu_percent")
    return (
        text(container, "container_name", text(container, "container_id")),
        f"{cpu:.1f}%" if cpu is not None else UNKNOWN,
        _shown(container, "memory_used_mb", table.memory),
        _shown(container, "memory_limit_mb", table.memory),
        _shown(container, "network_rx_bytes", table.size),
        _shown(container, "network_tx_bytes", table.size),
        _shown(container, "block_read_bytes", table.size),
        _shown(container, "block_write_bytes", table.size),
        text(container, "pids"),
    )


def _shown(container: Json, name: str, form: Callable[[float], str]) -> str:
    value = number(container, name)
    return form(value) if value is not None else UNKNOWN
