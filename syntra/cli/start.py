"""`start`: run the agent in the foreground until a signal arrives."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from contextlib import nullcontext

from syntra.agent.config.load import Loaded, load
from syntra.agent.telemetry.configuration import header_secrets
from syntra.agent.telemetry.forked import ForkedProcess
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.utils.redact import Redactor
from syntra.utils.structured_log import LogFormat, LogHandle, configure

_STANDARD_ERROR = 2
"""By its number: the object may be gone or replaced."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A service is taken only to say what starts one."""
    parser.add_argument("service", nargs="?", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Load the configuration, set up logging, run; returns the agent's exit code."""
    if args.service is not None:
        raise CliError(
            f"cannot start service {args.service}: `start` runs the agent itself; did you mean "
            f"`syntra-agent up {args.service}`?",
            ExitCode.USAGE,
        )
    # Before the configuration is read: what has been read is in the memory of the child, too.
    telemetry = ForkedProcess.make()
    with telemetry or nullcontext():
        return _run(args, telemetry)


def _run(args: argparse.Namespace, telemetry: ForkedProcess | None) -> int:
    command_line = {"logging.level": args.log_level} if args.log_level else {}
    if args.socket is not None:
        command_line["socket"] = str(args.socket.absolute())
    loaded = load(args.config, environ=os.environ, command_line=command_line)
    if telemetry is not None and loaded.settings.telemetry.receivers == "off":
        telemetry.discard()
    # systemd's watchdog ends a stuck agent with SIGABRT; this writes the stacks of all threads to the standard error.
    faulthandler.enable(file=_STANDARD_ERROR)
    redactor = Redactor()
    log = _logging(loaded, redactor)
    try:
        # Imported here: a configuration error is reported without loading the whole agent.
        from syntra.agent.app import run as run_agent

        return run_agent(loaded, log_handle=log, redactor=redactor, telemetry=telemetry)
    finally:
        log.close()


def _logging(loaded: Loaded, redactor: Redactor) -> LogHandle:
    settings = loaded.settings.logging
    if loaded.settings.control_plane is not None:
        redactor.add(loaded.settings.control_plane.token)
    for secret in header_secrets(loaded.settings.telemetry.export.headers):
        redactor.add(secret)
    to_terminal = settings.file is None and sys.stderr.isatty()
    form = LogFormat(settings.format or ("text" if to_terminal else "json"))
    return configure(form, settings.level, settings.file, redactor)
