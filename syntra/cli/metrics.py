"""`metrics`: the resource use of a service's containers."""

from __future__ import annotations

import argparse

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import Json, number, rows, text
from syntra.cli.services import find
from syntra.cli.terminal import out_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    socket = socket_path(args)
    data = ask(socket, "metrics", {"service_id": find(socket, args.service)})
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
        f"{cpu:.1f}%" if cpu is not None else "-",
        _size(container, "memory_used_mb", 1_000_000),
        _size(container, "memory_limit_mb", 1_000_000),
        _size(container, "network_rx_bytes"),
        _size(container, "network_tx_bytes"),
        _size(container, "block_read_bytes"),
        _size(container, "block_write_bytes"),
        text(container, "pids"),
    )


def _size(container: Json, name: str, unit: int = 1) -> str:
    value = number(container, name)
    return table.size(value * unit) if value is not None else "-"
