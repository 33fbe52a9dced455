"""The entry point: selects the verb, prints errors as one line on stderr, and returns the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from syntra import __version__
from syntra.cli import terminal
from syntra.cli.exit_codes import EPILOG, CliError, ExitCode, of_error
from syntra.cli.options import add_common
from syntra.cli.parser import Parser, UnfilledHelp
from syntra.cli.verbs import SUMMARIES, load
from syntra.telemetry.process.verb import VERB as TELEMETRY_PROCESS
from syntra.utils.errors import AgentError

PROGRAM = "syntra-agent"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Expected failures never show as a traceback."""
    if "_ARGCOMPLETE" in os.environ:
        from syntra.cli.completing import complete

        complete()
    terminal.prepare()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        terminal.discard_rest()
        return ExitCode.CLOSED_PIPE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _run(argv: list[str]) -> int:
    if argv[:1] == [TELEMETRY_PROCESS]:
        return _run_telemetry(argv[1:])
    try:
        args = parse(argv)
    except SystemExit as exc:  # argparse has printed help or usage
        return exc.code if isinstance(exc.code, int) else ExitCode.USAGE
    if (remembered := sys.modules.get("syntra.cli.as_typed")) is not None:
        remembered.forget()
    try:
        return int(args.run(args))
    except CliError as exc:
        terminal.err(_with_names(str(exc)))
        return exc.exit_code
    except AgentError as exc:
        terminal.err(str(exc))
        return of_error(exc.code)


def _with_names(sentence: str) -> str:
    """The sentence with services and commands as the person types them."""
    remembered = sys.modules.get("syntra.cli.as_typed")
    return str(remembered.as_typed(sentence)) if remembered is not None else sentence


def _run_telemetry(words: list[str]) -> int:
    """Run the telemetry process, which only the agent can start: the word is its end of a socket pair."""
    import socket

    try:
        (word,) = words
        channel = socket.socket(fileno=int(word))
    except (ValueError, OSError, OverflowError):
        terminal.err(f"cannot run {TELEMETRY_PROCESS}: the agent starts it by itself; run `{PROGRAM} start`")
        return ExitCode.USAGE
    from syntra.telemetry.process.main import main as run_telemetry

    return run_telemetry(channel)


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse in two steps: the options before the verb, then the rest with the verb's own parser."""
    top = _top_parser()
    if not argv:
        top.print_help(sys.stderr)
        raise SystemExit(ExitCode.USAGE)
    args = top.parse_args(argv)
    name: str | None = args.verb
    if name is None:
        top.error("there is no verb")
    if name not in SUMMARIES:
        from syntra.agent.config.suggest import hint

        top.error(f"unknown verb {name[:40]}{hint(name, SUMMARIES)}")
    verb = load(name)
    summary = SUMMARIES[name]
    parser = Parser(prog=f"{PROGRAM} {name}", description=f"{summary[0].upper()}{summary[1:]}.")
    add_common(parser, top=False)
    verb.add_arguments(parser)
    rest: list[str] = args.rest
    if name == "exec":
        # Split by hand: argparse would take the command's options for its own.
        from syntra.cli.exec_words import split_exec

        rest, args.command = split_exec(rest)
    parser.shorten_usage()
    parser.set_defaults(run=verb.run)
    return parser.parse_args(rest, args)


def _top_parser() -> Parser:
    width = max(map(len, SUMMARIES))
    verbs = "\n".join(f"  {name:{width}}  {summary}" for name, summary in SUMMARIES.items())
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [options] VERB …",
        description="Deploy services as containers on this server and keep them running.",
        epilog=f"verbs (each has --help):\n{verbs}\n\n{EPILOG}",
        formatter_class=UnfilledHelp,
    )
    add_common(parser, top=True)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}", help="show the version")
    parser.add_argument("verb", metavar="VERB", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser
