"""`rm`: remove a service and its containers, as `stop --remove` does; its volumes stay."""

from __future__ import annotations

import argparse

from syntra.cli import stop
from syntra.cli.exit_codes import CliError, ExitCode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --volumes, --timeout, --json."""
    stop.add_target(parser)
    parser.add_argument("--volumes", action="store_true", help="refused: the agent never removes a volume")


def run(args: argparse.Namespace) -> int:
    """Stop and remove, and wait for the agent's answer."""
    if args.volumes:
        raise CliError(
            f"cannot remove the volumes of {args.service}: the agent never removes a named volume, because it may be "
            f"the only copy of the data; run `syntra-agent rm {args.service}`, then `docker volume rm` (in a cluster "
            "`kubectl delete pvc`) with the volumes that it lists",
            ExitCode.USAGE,
        )
    args.remove = True
    return stop.run(args)
