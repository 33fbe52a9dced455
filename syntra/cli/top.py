"""`top`: what services use now, live in the terminal, or once."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import sys
import time
from pathlib import Path

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.raw_terminal import raw_terminal
from syntra.cli.reading import Json
from syntra.cli.terminal import out_json, write
from syntra.cli.top_rows import HEADERS, SORTS, Row, chosen, host_line, lines

MIN_SECS = 1.0
# CSI sequences of ECMA-48 and xterm: the alternate screen, the cursor, home, and erase to the end.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _ERASE_LINE, _ERASE_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_KEYS = {"c": "cpu", "m": "memory", "n": "network", "d": "disk", "r": "requests", "e": "errors", "p": "p95"}
_KEYS |= {"l": "logs", "s": "name"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --sort, --services, --interval, --once, --json."""
    parser.add_argument("service", metavar="SERVICE", nargs="?", default="", help="only names with this text in them")
    parser.add_argument(
        "--sort", choices=SORTS, default="cpu", metavar="COLUMN", help=f"one of {', '.join(SORTS)} (default cpu)"
    )
    parser.add_argument("--services", action="store_true", help="one line for each service, without its replicas")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="seconds between two views (default 2)"
    )
    parser.add_argument("--once", action="store_true", help="print one view and exit, as without a terminal")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask and print, once or until `q`."""
    if not MIN_SECS <= args.interval <= 3600:
        raise CliError(
            f"cannot use --interval: {args.interval:g} is out of range; give 1 to 3600 seconds", ExitCode.USAGE
        )
    socket = socket_path(args)
    if args.json and not args.once:
        raise CliError("cannot print a live view as JSON; add --once", ExitCode.USAGE)
    if args.json:
        data = ask(socket, "top", {})
        out_json({**data, "services": chosen(data, args.service, args.sort)})
    elif args.once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        show_once(ask(socket, "top", {}), args)
    else:
        _live(socket, args)
    return ExitCode.OK


def show_once(data: Json, args: argparse.Namespace) -> None:
    """Print one view."""
    found = lines(chosen(data, args.service, args.sort), with_replicas=not args.services)
    table.show(HEADERS, [row.cells for row in found], empty="no services")


def _live(socket: Path, args: argparse.Namespace) -> None:
    """The view, renewed until `q` or Ctrl-C."""
    sort, replicas = args.sort, not args.services
    descriptor = sys.stdin.fileno()
    with raw_terminal(descriptor):
        write(sys.stdout, _ENTER)
        try:
            data: Json = ask(socket, "top", {})
            due = time.monotonic() + args.interval
            while True:
                write(sys.stdout, _screen(data, lines(chosen(data, args.service, sort), with_replicas=replicas), sort))
                ready, _, _ = select.select([descriptor], [], [], max(0.0, due - time.monotonic()))
                if ready:
                    # Not through `sys.stdin`, which would keep what comes at once.
                    keys = os.read(descriptor, 64).decode(errors="replace")
                    if not keys or "q" in keys or "\x03" in keys:
                        return
                    for key in keys:
                        replicas ^= key == "\t"
                        sort = _KEYS.get(key, sort)
                if time.monotonic() >= due:
                    data = ask(socket, "top", {})
                    due = time.monotonic() + args.interval
        finally:
            write(sys.stdout, _LEAVE)


def _screen(data: Json, rows: list[Row], sort: str) -> str:
    """One view as text for a raw terminal; what does not fit is left out."""
    size = shutil.get_terminal_size()
    width, height = max(20, size.columns), max(4, size.lines)
    cells = [HEADERS_UPPER, *(row.cells for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADERS))]
    body = ["  ".join(cell.ljust(widths[n]) for n, cell in enumerate(row)).rstrip() for row in cells]
    shown = body[: height - 2]
    hidden = len(body) - len(shown)
    keys = f"sorted by {sort}; c m n d r e p l s sort, Tab replicas, q quit{f'; {hidden} more' if hidden else ''}"
    whole = [host_line(data), *shown, keys]
    return _HOME + "\r\n".join(line[:width] + _ERASE_LINE for line in whole) + _ERASE_BELOW


HEADERS_UPPER = tuple(header.upper() for header in HEADERS)
