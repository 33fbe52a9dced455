"""`secrets`: values for services' variables that are kept by the agent, encrypted, and named in service files.

A value comes from a prompt without echo or from standard input, never from the command line, which `ps` would show.
"""

from __future__ import annotations

import argparse
import sys

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import Json, rows, text, texts
from syntra.cli.terminal import err, out, out_json, printable

VALUE_MAX = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """set | list | rm, NAME, --json."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=("set", "list", "rm"),
        help="set: store a secret, or replace it; the value is asked for without echo, or read from stdin; "
        "list: show names and which services use them, never values; rm: delete a secret",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="set, rm: the name, as in `env: {DATABASE_URL: {secret: NAME}}`"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the agent, and print."""
    if args.action == "list":
        if args.name:
            raise CliError("cannot list one secret: list takes no NAME; leave it out", ExitCode.USAGE)
        data = ask(socket_path(args), "list_secrets", {})
        out_json(data) if args.json else _show(data)
        return ExitCode.OK
    if not args.name:
        raise CliError(
            f"cannot {args.action} a secret: NAME is missing; see `syntra-agent secrets --help`", ExitCode.USAGE
        )
    # Before the value is asked for: the configuration may be wrong.
    socket = socket_path(args)
    if args.action == "set":
        data = ask(socket, "set_secret", {"name": args.name, "value": _value(args.name)})
    else:
        data = ask(socket, "remove_secret", {"name": args.name})
    if args.json:
        out_json(data)
        return ExitCode.OK
    out(printable(f"secret {args.name} {_done(args.action, data)}"))
    if used_by := texts(data, "used_by"):
        err(f"warning: {_consequence(args.action, args.name, used_by)}")
    return ExitCode.OK


def _done(action: str, data: Json) -> str:
    if action == "rm":
        return "removed"
    return "replaced" if data.get("replaced") is True else "set"


def _consequence(action: str, name: str, used_by: list[str]) -> str:
    users = f"{', '.join(used_by)} {'use' if len(used_by) > 1 else 'uses'} it"
    if action == "rm":
        return (
            f"{users}: what runs keeps the value, and the next deploy is refused until "
            f"`syntra-agent secrets set {name}`"
        )
    return f"{users}: what runs keeps the earlier value until the next deploy"


def _value(name: str) -> str:
    if sys.stdin.isatty():
        # Imported here: only a prompt needs it.
        from getpass import getpass

        try:
            value = getpass(f"value of {printable(name)} (not shown): ")
        except EOFError:
            value = ""
    else:
        data = sys.stdin.buffer.read(VALUE_MAX + 3)
        try:
            value = data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise CliError(
                f"cannot set secret {name}: the value is not UTF-8 text; encode it, for example with base64",
                ExitCode.USAGE,
            ) from None
    size = len(value.encode(errors="surrogateescape"))
    if not value or size > VALUE_MAX:
        raise CliError(
            f"cannot set secret {name}: the value is {'longer than 64 KiB' if value else 'empty'}; type it at the "
            f"prompt, or give it on stdin, as in `syntra-agent secrets set {name} < FILE`",
            ExitCode.USAGE,
        )
    return value


def _show(data: Json) -> None:
    table.show(
        ("name", "set at", "used by"),
        [
            (
                text(one, "name"),
                text(one, "set_at").partition(".")[0].rstrip("Z") + "Z",
                ", ".join(texts(one, "used_by")) or "-",
            )
            for one in rows(data, "secrets")
        ],
        empty="there are no secrets; `syntra-agent secrets set NAME` stores one",
    )
