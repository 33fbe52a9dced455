"""`install`: make this binary a service of the machine, started at boot, and wait until it is connected."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from syntra import __version__
from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.files import FileProblem, read_small
from syntra.agent.config.load import load_socket
from syntra.agent.config.settings import BY_DOTTED
from syntra.agent.config.values import from_text, token
from syntra.agent.update.installation import is_compiled, own_file
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.kubernetes_options import add_kubernetes
from syntra.cli.options import path, seconds
from syntra.cli.reading import section, text
from syntra.cli.terminal import err, out, printable
from syntra.install import places
from syntra.install.actions import Plan
from syntra.install.machine import observe
from syntra.install.observed import Manager, Observed
from syntra.install.perform import Performer
from syntra.install.plan import Wanted, endpoint_of, install_plan, server_id_of
from syntra.install.release_check import check_release
from syntra.install.service_manager import find_manager, manager_of
from syntra.update import layout
from syntra.update.build_target import build_target
from syntra.update.manifest import CHANNELS
from syntra.update.release_source import trusted_roots

_TOKEN_MAX = 8 * 1024
_HELLO_SECS = 60.0
_POLL_SECS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--endpoint, --token, --token-file, --server-id, --no-start, --wait, --dry-run."""
    parser.add_argument("--endpoint", metavar="URL", help="the control plane, wss://…; without it the agent runs alone")
    given = parser.add_mutually_exclusive_group()
    given.add_argument(
        "--token-file", metavar="FILE", help="file that holds the token of the control plane; - is standard input"
    )
    given.add_argument(
        "--token",
        metavar="TOKEN",
        help="the token itself; other users can read it while this runs, prefer --token-file",
    )
    parser.add_argument("--server-id", metavar="ID", help="this server's id at the control plane (default: generated)")
    parser.add_argument("--channel", choices=CHANNELS, help="where updates come from (default stable)")
    parser.add_argument("--base-url", metavar="URL", help="a mirror of the releases, for updates")
    parser.add_argument(
        "--root-keys", type=path, metavar="FILE", help="the root keys of the mirror; the file is copied"
    )
    parser.add_argument(
        "--release",
        type=path,
        metavar="DIR",
        help="check this program against the release in DIR (keys, manifest, archive)",
    )
    parser.add_argument("--no-start", action="store_true", help="install and enable only; the service starts at boot")
    parser.add_argument(
        "--wait",
        type=seconds,
        default=_HELLO_SECS,
        metavar="SECONDS",
        help="how long to wait for the connection to the control plane (default 60)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    add_kubernetes(parser)


def run(args: argparse.Namespace) -> int:
    """Observe, print the plan, carry it out, wait for the control plane. A failure leaves the machine as it was."""
    if args.kubernetes:
        return _in_cluster(args)
    require_plain_options(args, "install")
    wanted = _wanted(args)
    if not is_compiled():
        raise CliError(
            "cannot install the agent: this is not the compiled binary; install a release, or run `scripts/build` and "
            "then `dist/syntra-agent install`"
        )
    program = own_file().resolve()
    if args.release is not None:
        check_release(
            args.release, version=__version__, target=build_target(), roots_file=args.root_keys, now=time.time()
        )
    kind, version = find_manager()
    manager = manager_of(kind)
    seen = observe(manager, kind, systemd_version=version, program=program)
    plan = install_plan(wanted, seen)
    show_plan(plan, f"syntra-agent {__version__}", kind)
    if args.dry_run:
        return ExitCode.OK
    if plan.actions:
        require_root("install")
        # Modes are explicit; directories on the way to them are for everyone, as on any system.
        os.umask(0o022)
        Performer(manager, program=program).install(plan.actions)
        out(f"installed: syntra-agent {__version__}, server {server_id_of(wanted, seen)}")
    if kind is Manager.NONE or args.no_start:
        return ExitCode.OK
    return _wait(wanted, seen, args.wait)


def _in_cluster(args: argparse.Namespace) -> int:
    # Imported here: it loads a YAML library.
    from syntra.cli import kubernetes_install

    return kubernetes_install.install(
        args,
        endpoint=_checked("control_plane.endpoint", "--endpoint", args.endpoint),
        server_id=_checked("server_id", "--server-id", args.server_id),
        token=None if args.token is not None else _token(args),
    )


def require_root(verb: str) -> None:
    """Raises CliError for any other user."""
    if os.geteuid() != 0:
        raise CliError(
            f"cannot {verb} the agent: it needs root; run `sudo {places.SERVICE} {verb} …`", ExitCode.REFUSED
        )


def require_plain_options(args: argparse.Namespace, verb: str) -> None:
    """The places of an installed agent are fixed. Raises CliError for options that would change them."""
    for option in ("config", "socket"):
        if getattr(args, option) is not None:
            raise CliError(
                f"cannot {verb} the agent: --{option} does not apply; the configuration is {places.CONFIGURATION}",
                ExitCode.USAGE,
            )


def show_plan(plan: Plan, subject: str, kind: Manager) -> None:
    """Print what will be done."""
    if plan.actions:
        out(f"{subject} on this server ({kind.value}):")
    else:
        out(f"{subject}: nothing to do")
    for action in plan.actions:
        out(f"  {printable(action.says)}")
    for note in plan.notes:
        out(f"  note: {printable(note)}")


def _wanted(args: argparse.Namespace) -> Wanted:
    return Wanted(
        version=__version__,
        boot_check=layout.boot_check_text(),
        fresh_agent_id=f"agt_{secrets.token_hex(8)}",
        fresh_server_id=f"srv_{secrets.token_hex(8)}",
        endpoint=_checked("control_plane.endpoint", "--endpoint", args.endpoint),
        server_id=_checked("server_id", "--server-id", args.server_id),
        token=_token(args),
        channel=args.channel,
        base_url=args.base_url,
        root_keys=_root_keys(args.root_keys),
        start=not args.no_start,
    )


def _root_keys(file: Path | None) -> bytes | None:
    if file is None:
        return None
    trusted_roots(file)
    return read_small(file, limit=_TOKEN_MAX).data


def _checked(dotted: str, option: str, given: str | None) -> str | None:
    if given is None:
        return None
    try:
        return str(from_text(BY_DOTTED[dotted], given))
    except ValueError as wrong:
        said = f"cannot use {option}: it {wrong}"
        raise CliError(
            said if "; " in said else f"{said}; see `syntra-agent install --help`", ExitCode.USAGE
        ) from wrong


def _token(args: argparse.Namespace) -> str | None:
    """The token; no error repeats any part of it."""
    if args.token is not None:
        given, source = args.token, "--token"
    elif args.token_file == "-":
        given, source = sys.stdin.read(_TOKEN_MAX + 1), "standard input"
    elif args.token_file is not None:
        source = args.token_file
        try:
            given = read_small(path(source), limit=_TOKEN_MAX).data.decode("ascii", errors="replace")
        except (FileProblem, argparse.ArgumentTypeError) as problem:
            raise CliError(f"cannot read the token from {source}: {problem}; check --token-file") from problem
    else:
        return None
    try:
        return token(given)
    except ValueError as wrong:
        raise CliError(f"cannot use the token: {source} {wrong}; copy it again", ExitCode.USAGE) from wrong


def _wait(wanted: Wanted, seen: Observed, limit: float) -> int:
    """Wait for the agent's socket, and for the control plane if there is one."""
    endpoint = endpoint_of(wanted, seen)
    deadline = time.monotonic() + limit
    detail = "the agent does not answer on its socket"
    while True:
        try:
            status = section(ask(_socket(), "status", {}), "control_plane")
        except CliError as silent:
            detail = str(silent)
        else:
            state = text(status, "state")
            if endpoint is None:
                return _next_steps(["the agent runs without a control plane"])
            if state == "ready":
                return _next_steps([f"connected to {endpoint}"])
            detail = text(status, "detail", "") or state
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECS)
    err(
        f"the agent is installed and tries again by itself, but is not connected yet: {detail}; "
        "see `syntra-agent status`"
    )
    return ExitCode.UNAVAILABLE


def _socket() -> Path:
    try:
        return load_socket(Path(places.CONFIGURATION), environ={})
    except ConfigurationError as wrong:
        raise CliError(str(wrong), ExitCode.CONFIGURATION) from wrong


def _next_steps(lines: Sequence[str]) -> int:
    for line in lines:
        out(printable(line))
    out("next: `syntra-agent deploy web.yml` deploys a service; `syntra-agent proxy up` starts the proxy for domains")
    return ExitCode.OK
