"""`deploy`: deploy a service file, and follow the deployment to its end."""

from __future__ import annotations

import argparse
import os
import sys

from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.follow import follow
from syntra.cli.look import add_color
from syntra.cli.options import add_json, path, seconds, socket_path
from syntra.cli.service_file import STDIN, read_service
from syntra.cli.services import typed

UNDO_SECS = 120.0
"""Longest silence beyond the deployment's own timeout, which does not include the rollback."""

PASSWORD_VARIABLE = "SYNTRA_REGISTRY_PASSWORD"
PASSWORD_MAX = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, --registry-user, --registry-password-stdin, --json."""
    parser.add_argument(
        "file", metavar="FILE", type=path, help="service file: .yaml, .toml or .json; `-` reads YAML or JSON from stdin"
    )
    parser.add_argument("--registry-user", metavar="NAME", help="user name for the image's registry")
    parser.add_argument(
        "--registry-password-stdin",
        action="store_true",
        help=f"read the registry password from stdin (default: from the variable {PASSWORD_VARIABLE})",
    )
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait for the end of the deploy")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="roll back after so long (default: the file's timeout_seconds, else 300)",
    )
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Deploy and follow the deployment to its end."""
    if str(args.file) == STDIN and args.registry_password_stdin:
        raise CliError(
            f"cannot read both the service file and the password from stdin; set {PASSWORD_VARIABLE}", ExitCode.USAGE
        )
    payload = dict(read_service(args.file))
    if auth := registry_auth(args):
        payload["registry_auth"] = auth
    if args.timeout is not None:
        payload["timeout_seconds"] = max(1.0, args.timeout)
    timeout = payload["timeout_seconds"]
    assert isinstance(timeout, int | float), "the service file was checked"
    config = payload["config"]
    assert isinstance(config, dict), "the service file was checked"
    grace = float(config.get("stop_grace_seconds", 0))
    subject = str(payload["service_name"])
    typed(str(payload["service_id"]), subject)
    return follow(
        socket_path(args),
        "deploy",
        payload,
        subject=subject,
        as_json=args.json,
        idle=float(timeout) + grace + UNDO_SECS,
        color=args.color,
        is_detached=args.detach,
    )


def registry_auth(args: argparse.Namespace) -> dict[str, str] | None:
    """Credentials for the pull, or None. The password comes from stdin or the environment, which `ps` does not show."""
    if not args.registry_user:
        if args.registry_password_stdin:
            raise CliError("cannot use the registry password: there is no user; give --registry-user", ExitCode.USAGE)
        return None
    if args.registry_password_stdin:
        password = sys.stdin.read(PASSWORD_MAX + 1).removesuffix("\n").removesuffix("\r")
    else:
        password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password or len(password) > PASSWORD_MAX:
        raise CliError(
            f"cannot use the registry password: it is empty or too long; give --registry-password-stdin or set "
            f"{PASSWORD_VARIABLE}",
            ExitCode.USAGE,
        )
    return {"username": args.registry_user, "password": password}
