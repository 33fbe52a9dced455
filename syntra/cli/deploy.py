"""`deploy`: deploy service files, and follow the deployment to its end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from syntra.cli.agent_client import ask
from syntra.cli.confirm import can_ask, confirmed
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.follow import IDLE_SECS, follow
from syntra.cli.look import add_color, wrapped
from syntra.cli.options import add_json, deploy_seconds, socket_path
from syntra.cli.person import person
from syntra.cli.plan import UNCHANGED, change_texts, show_plan
from syntra.cli.reading import Json, text
from syntra.cli.service_file import STDIN
from syntra.cli.service_sources import Source, add_files, read_sources
from syntra.cli.several import Result, run_each
from syntra.cli.terminal import err, out, out_json, printable

UNDO_SECS = 120.0
"""Longest silence beyond the deployment's own timeout, which does not include the rollback."""

PASSWORD_VARIABLE = "SYNTRA_REGISTRY_PASSWORD"
PASSWORD_MAX = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE…, --expand, --env-file, --plan, --yes, --force, --detach, --timeout, the registry's, --color, --json."""
    add_files(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="first show what changes and the steps, and ask in a terminal; elsewhere only --yes continues",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask after --plan")
    parser.add_argument(
        "--force", action="store_true", help="deploy even if the file changes nothing; pulls its image's tag again"
    )
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait for the end of the deploy")
    parser.add_argument(
        "--timeout",
        type=deploy_seconds,
        metavar="SECONDS",
        help="roll back after this time (default: the file's timeout_seconds, else 300)",
    )
    parser.add_argument("--registry-user", metavar="NAME", help="user name for the image's registry")
    parser.add_argument(
        "--registry-password-stdin",
        action="store_true",
        help=f"read the registry password from stdin (default: from the variable {PASSWORD_VARIABLE})",
    )
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Deploy what the files change, one service after another, and follow each deployment to its end."""
    if any(str(file) == STDIN for file in args.files) and args.registry_password_stdin:
        raise CliError(
            f"cannot read both the service file and the password from stdin; set {PASSWORD_VARIABLE}", ExitCode.USAGE
        )
    sources = read_sources(args)
    auth = registry_auth(args)
    socket = socket_path(args)
    return run_each(sources, lambda source: _deploy(socket, source, auth, args), as_json=args.json)


def _deploy(socket: Path, source: Source, auth: Mapping[str, str] | None, args: argparse.Namespace) -> Result:
    payload = dict(source.payload)
    if args.timeout is not None:
        payload["timeout_seconds"] = args.timeout
    subject = source.name
    planned = ask(socket, "plan", {**payload, "force": args.force})
    if not _goes_on(planned, subject, args):
        return Result(word="no changes" if text(planned, "action") == UNCHANGED else "not deployed", code=ExitCode.OK)
    if text(planned, "action") == "scale":
        return _ended("scaled", _scale(socket, planned, subject, args))
    timeout = payload["timeout_seconds"]
    assert isinstance(timeout, int | float), "the service file was checked"
    config = payload["config"]
    assert isinstance(config, dict), "the service file was checked"
    grace = float(config.get("stop_grace_seconds", 0))
    code = follow(
        socket,
        "deploy",
        {**payload, "requested_by": person(), **({"registry_auth": auth} if auth else {})},
        subject=subject,
        as_json=args.json,
        idle=float(timeout) + grace + UNDO_SECS,
        color=args.color,
        is_detached=args.detach,
    )
    return _ended("begun" if args.detach else "deployed", code)


def _ended(word: str, code: ExitCode) -> Result:
    return Result(word=word if code is ExitCode.OK else "failed", code=code)


def _goes_on(planned: Json, subject: str, args: argparse.Namespace) -> bool:
    """Say what changes; whether there is anything to do, and the person wants it."""
    if text(planned, "action") == UNCHANGED:
        if args.json:
            out_json({"status": "unchanged", **planned})
        else:
            out(printable(f"{subject}: no changes; --force deploys it again"))
        return False
    if not args.plan:
        if (changes := change_texts(planned)) and not args.json:
            out(wrapped(printable(f"{subject}: {', '.join(changes)}"), sys.stdout))
        return True
    if args.json:
        out_json(planned)
    else:
        show_plan(planned, subject)
    if args.yes:
        return True
    # The file may have come from the standard input, which then has no answer either.
    if not can_ask() or args.json:
        err("nothing was deployed; add --yes to deploy it")
        return False
    return confirmed(f"deploy {printable(subject)}?")


def _scale(socket: Path, planned: Json, subject: str, args: argparse.Namespace) -> ExitCode:
    """Only the number of replicas changes: no replica that runs is replaced."""
    return follow(
        socket,
        "scale",
        {
            "service_id": planned["service_id"],
            "replicas": planned["replicas"],
            "strategy": "rolling",
            "requested_by": person(),
        },
        subject=subject,
        as_json=args.json,
        idle=IDLE_SECS,
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
