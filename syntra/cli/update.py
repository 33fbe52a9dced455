"""`update`: install a newer version of the agent."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from syntra.cli.agent_client import AgentConnection, ask, await_response
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.progress_bar import ProgressBar
from syntra.cli.reading import Json, number, section, text
from syntra.cli.terminal import err, out, out_json, printable

CHECK_SECS = 60.0
UPDATE_SECS = 6 * 3600.0
"""Longest wait for the download, and for the operations that must end before the agent may be replaced."""
RESTART_SECS = 1800.0
"""Longest wait for the new version to hold, or for the previous one to be back."""
POLL_SECS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--check, --version, --channel, --yes, --json."""
    parser.add_argument("--check", action="store_true", help="only show whether there is a new version")
    parser.add_argument(
        "--version", metavar="VERSION", default="", help="install this version instead of the newest of the channel"
    )
    parser.add_argument(
        "--channel", choices=("stable", "beta"), default="", help="the channel to check (default update.channel)"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before the update")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Update through the running agent; without one, or outside an installation, in this process."""
    from syntra.agent.update.installation import own_root

    say = (lambda line: None) if args.json else out
    root = own_root()
    connection = _running_agent(args) if root is not None else None
    if connection is not None:
        data = _through_agent(args, connection, say)
    else:
        from syntra.cli.update_offline import update_here

        data = update_here(args, root, say, lambda found: _approve(args, found, say))
    if args.json:
        out_json(data)
    return ExitCode.FAILED if data.get("state") == "rolled_back" else ExitCode.OK


def _running_agent(args: argparse.Namespace) -> AgentConnection | None:
    """A connection to the agent; None where none runs."""
    try:
        return AgentConnection.open(socket_path(args))
    except CliError as away:
        if away.exit_code is ExitCode.UNAVAILABLE:
            return None
        raise


def _through_agent(args: argparse.Namespace, connection: AgentConnection, say: Callable[[str], None]) -> Json:
    socket = socket_path(args)
    wanted = {"version": args.version, "channel": args.channel}
    with connection:
        request_id = connection.send("update_agent", {**wanted, "check": True})
        found = await_response(connection, request_id, timeout=CHECK_SECS)
    if not _approve(args, found, say):
        return found
    with AgentConnection.open(socket) as connection, ProgressBar(sys.stderr) as bar:
        size = number(found, "size") or 0
        # The version that was shown, even if a newer one appears meanwhile.
        request_id = connection.send("update_agent", {**wanted, "version": text(found, "to")})
        try:
            done = await_response(
                connection,
                request_id,
                timeout=UPDATE_SECS,
                on_other=lambda envelope: _show_progress(envelope.payload, size, bar, say),
            )
        except KeyboardInterrupt:
            err("the update continues in the background; see `syntra-agent status`")
            raise
    if text(done, "state") != "restarting":
        say("installed; restart the agent to run it")
        return done
    return _follow_restart(socket, done, say)


def _approve(args: argparse.Namespace, found: Json, say: Callable[[str], None]) -> bool:
    """Show what was found and what would be done. Returns whether to do it."""
    before, after = printable(text(found, "from")), printable(text(found, "to"))
    if text(found, "state") == "current":
        say(f"syntra-agent {before} is up to date")
        return False
    size = number(found, "size") or 0
    say(f"syntra-agent {before} → {after} ({size / 2**20:.1f} MiB)")
    if args.check:
        return False
    say(text(found, "plan", "") or "  download, verify, try the new program, restart the agent; services keep running")
    say(f"  {after} is kept once it is in order; otherwise {before} comes back by itself")
    if args.yes or args.json:
        return True
    if not sys.stdin.isatty():
        raise CliError("cannot update the agent: there is no terminal to ask on; add --yes", ExitCode.USAGE)
    return input("update now? [y/N] ").strip().lower() in ("y", "yes")


def _show_progress(payload: Json, size: float, bar: ProgressBar, say: Callable[[str], None]) -> None:
    match text(payload, "phase", ""):
        case "downloading":
            bar.show("downloading", number(payload, "done") or 0, size)
        case "waiting":
            bar.end()
            say("waiting for running operations to end")
        case "installing":
            bar.end()
            say("verified; installing")


def _follow_restart(socket: Path, done: Json, say: Callable[[str], None]) -> Json:
    before, after = text(done, "from"), text(done, "to")
    say(f"installed {after}; the agent restarts")
    deadline = time.monotonic() + RESTART_SECS
    seen = ""
    began = time.time()
    while time.monotonic() < deadline:
        time.sleep(POLL_SECS)
        try:
            status = ask(socket, "status", {})
        except CliError:
            # Between two processes.
            continue
        running = text(section(status, "agent"), "version")
        last = section(section(status, "update"), "last")
        if running != seen:
            seen = running
            if running == after:
                say(f"{after} runs; it is kept once it is in order")
        if text(last, "to", "") == after and _is_recent(last, began):
            return _ended(done, last, running, say)
    raise CliError(
        f"cannot tell how the update from {before} to {after} ended: no result within {RESTART_SECS / 60:g} minutes; "
        "see `syntra-agent status` and the agent's log",
        ExitCode.UNAVAILABLE,
    )


def _is_recent(last: Json, began: float) -> bool:
    from syntra.utils.errors import AgentError
    from syntra.utils.timestamps import parse_ns

    try:
        at = parse_ns(text(last, "at", ""))
    except AgentError:
        return False
    # An earlier update to the same version has a result, too.
    return at is not None and at / 1e9 >= began - 1


def _ended(done: Json, last: Json, running: str, say: Callable[[str], None]) -> Json:
    result = text(last, "result")
    if result == "updated":
        say(f"updated to {printable(running)}")
        return {**done, "state": "updated"}
    reason = text(last, "sentence", "it did not hold")
    err(f"cannot update the agent: {printable(reason)}; see the agent's log (journalctl -u syntra-agent)")
    return {**done, "state": "rolled_back", "reason": reason}
