"""Where a control plane is: the options of its own start, and those of the verbs that call it."""

from __future__ import annotations

import argparse

from syntra.cli.options import path

DEFAULT_LISTEN = "127.0.0.1:7420"
DEFAULT_DATA_DIR = "/var/lib/syntra-controlplane"
URL_VARIABLE = "SYNTRA_CONTROLPLANE_URL"
TOKEN_VARIABLE = "SYNTRA_CONTROLPLANE_TOKEN"

REMOTE = (
    "status",
    "plan",
    "deploy",
    "ps",
    "scale",
    "restart",
    "stop",
    "up",
    "pause",
    "resume",
    "rm",
    "deployments",
    "rollback",
    "promote",
    "abort",
    "logs",
    "events",
    "exec",
    "metrics",
    "top",
)
"""The verbs that need no more than the agent's answers."""

OPTIONS = frozenset({"--url", "--server", "--token-file", "--data-dir", "--ca-file"})
"""The options of `add_api`; each takes a value."""


def add_api(parser: argparse.ArgumentParser) -> None:
    """--url, --server, --token-file, --data-dir, --ca-file."""
    group = parser.add_argument_group("calls to a control plane")
    group.add_argument(
        "--url", metavar="URL", help=f"where it answers (default: ${URL_VARIABLE}, else http://{DEFAULT_LISTEN})"
    )
    group.add_argument("--server", metavar="ID", help="the server, by its id or name (default: the only one)")
    group.add_argument(
        "--token-file",
        type=path,
        metavar="FILE",
        help=f"file with the operator's token (default: ${TOKEN_VARIABLE}, else operator.token in --data-dir)",
    )
    group.add_argument(
        "--data-dir",
        type=path,
        default=path(DEFAULT_DATA_DIR),
        metavar="DIR",
        help=f"directory for the database and the operator's token (default {DEFAULT_DATA_DIR})",
    )
    group.add_argument(
        "--ca-file",
        type=path,
        metavar="FILE",
        help="certificates to check an https URL by (PEM; default: the system's)",
    )


def given_api(args: argparse.Namespace) -> list[str]:
    """The options of `add_api` that the person gave, as words for another command."""
    given = {
        "--url": args.url,
        "--server": args.server,
        "--token-file": args.token_file,
        "--data-dir": None if str(args.data_dir) == DEFAULT_DATA_DIR else args.data_dir,
        "--ca-file": args.ca_file,
    }
    return [word for name, value in given.items() if value is not None for word in (name, str(value))]
