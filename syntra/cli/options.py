"""The options that all verbs have, and the types of arguments."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from syntra.cli.exit_codes import CliError, ExitCode

MAX_SECONDS = 3600.0
LEVELS = ("debug", "info", "warn", "error")


def add_common(parser: argparse.ArgumentParser, *, top: bool) -> None:
    """--config, --log-level and --socket, before and after the verb.

    Only the top parser sets defaults: an absent option after the verb must not override one before it.
    """
    default = None if top else argparse.SUPPRESS
    group = parser.add_argument_group("common options")
    group.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        default=default,
        help="configuration file (default /etc/syntra/agent.toml)",
    )
    group.add_argument(
        "--log-level", choices=LEVELS, default=default, help="minimum level of log messages (default info)"
    )
    group.add_argument(
        "--socket",
        type=path,
        metavar="PATH",
        default=default,
        help="the agent's local socket (default /run/syntra/agent.sock)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json, for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def path(given: str) -> Path:
    """An argument that is a path: not empty, no NUL."""
    if not given or "\0" in given:
        raise argparse.ArgumentTypeError("is not a path")
    return Path(given)


def seconds(given: str) -> float:
    """An argument in seconds, 0 to one hour."""
    return _seconds(given, least=0.0, most=MAX_SECONDS)


def deploy_seconds(given: str) -> float:
    """An argument in seconds, 1 to one day, as `timeout_seconds` of a service file."""
    return _seconds(given, least=1.0, most=24 * 3600.0)


def _seconds(given: str, *, least: float, most: float) -> float:
    try:
        value = float(given)
    except ValueError:
        said = f"{given[:40]!r} is not a number of seconds; give {least:g} to {most:g}"
        raise argparse.ArgumentTypeError(said) from None
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is out of range; give {least:g} to {most:g} seconds")
    return value


def count(given: str) -> int:
    """A number of objects: 0 or more, in decimal digits."""
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is not a count; give a whole number such as 2")
    return int(given)


def socket_path(args: argparse.Namespace) -> Path:
    """The agent's socket: --socket, SYNTRA_SOCKET, the configuration file, the default."""
    if args.socket is not None:
        given: Path = args.socket
        if len(os.fsencode(given)) > 107:
            raise CliError(
                f"cannot use socket {given}: the path is longer than 107 bytes; give a shorter one", ExitCode.USAGE
            )
        return given
    from syntra.agent.config.load import load_socket

    return load_socket(args.config, environ=os.environ)
