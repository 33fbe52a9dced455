"""`controlplane`: the small reference control plane, for development and small fleets."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from syntra.cli.controlplane_options import DEFAULT_DATA_DIR, DEFAULT_LISTEN, REMOTE, add_api
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_common, path
from syntra.cli.parser import Parser, UnfilledHelp
from syntra.cli.terminal import out, printable
from syntra.utils.redact import Redactor
from syntra.utils.structured_log import LogFormat, configure

if TYPE_CHECKING:
    from syntra.controlplane.settings import ControlPlaneSettings


SERVERS, TOKEN = "servers", "token"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """ACTION with its words, --listen, the TLS files, --enrol, --certificate-days, --allow-plain, and `add_api`."""
    parser.formatter_class = UnfilledHelp
    parser.epilog = (
        "actions (each has --help); without one the control plane runs:\n"
        "  token create --server NAME   create a token for the agent of a server\n"
        "  servers                      list the servers\n"
        f"  {fill(', '.join(REMOTE), subsequent_indent='  ')}\n"
        "                               as without `controlplane`, on the server that --server names"
    )
    parser.add_argument(
        "action", metavar="ACTION", nargs="?", help="what to ask the control plane; without it: run one"
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    _add_place(parser)
    parser.add_argument("--tls-key", type=path, metavar="FILE", help="private key of the certificate (PEM)")
    parser.add_argument(
        "--client-ca", type=path, metavar="FILE", help="require client certificates that this CA has signed (PEM)"
    )
    parser.add_argument(
        "--enrol",
        action="store_true",
        help="issue client certificates to agents, from an authority of its own in DIR; needs TLS",
    )
    parser.add_argument(
        "--certificate-days",
        type=_days,
        default=90.0,
        metavar="DAYS",
        help="how long these certificates are valid (default 90)",
    )
    parser.add_argument(
        "--allow-plain",
        action="store_true",
        help="listen on any address without TLS; only behind a proxy that terminates TLS",
    )
    add_api(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        type=listen,
        default=listen(DEFAULT_LISTEN),
        metavar="HOST:PORT",
        help=f"address to listen on (default {DEFAULT_LISTEN})",
    )
    parser.add_argument("--tls-cert", type=path, metavar="FILE", help="serve TLS with this certificate chain (PEM)")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal arrives; SIGTERM stops in order and gives 0."""
    if args.action == TOKEN:
        return _create_token(args)
    if args.action == SERVERS or args.action in REMOTE:
        # Imported here: the server needs no client.
        from syntra.cli import controlplane_remote

        return controlplane_remote.run(args.action, args.words, args)
    if args.action is not None or args.server is not None:
        from syntra.agent.config.suggest import hint

        near = hint(args.action, (TOKEN, SERVERS, *REMOTE)) if args.action is not None else ""
        reason = "--server needs an action" if args.action is None else f"unknown action {printable(args.action)}"
        next_step = near or "; give `token create --server NAME`, `servers` or a verb, or nothing to run one"
        raise CliError(f"cannot run syntra-agent controlplane: {reason}{next_step}", ExitCode.USAGE)
    # Imported here, as --help needs no server.
    import asyncio

    from syntra.controlplane.settings import ControlPlaneSettings

    host, port = args.listen
    data_dir: Path = args.data_dir
    settings = ControlPlaneSettings(
        data_dir=data_dir.absolute(),
        host=host,
        port=port,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        client_ca=args.client_ca,
        allow_plain=args.allow_plain,
        enrol=args.enrol,
        certificate_secs=args.certificate_days * 86_400,
        agent_log_level=args.log_level or "info",
    )
    log = configure(
        LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON, args.log_level or "info", None, Redactor()
    )
    try:
        return asyncio.run(_serve(settings))
    finally:
        log.close()


def _create_token(args: argparse.Namespace) -> ExitCode:
    parser = Parser(prog="syntra-agent controlplane token", description="Create a token for the agent of a server.")
    parser.add_argument("task", metavar="create", nargs="?", choices=("create",), help="the only action")
    add_common(parser, top=False)
    _add_place(parser)
    add_api(parser)
    parser.shorten_usage()
    args = parser.parse_args(args.words, args)
    if args.task is None or args.server is None:
        parser.error("the command is not complete; give `token create --server NAME`")
    # Imported here: serving needs no client.
    from syntra.cli.controlplane_token import Place, create

    host, port = args.listen
    return create(Place(host=host, port=port, data_dir=args.data_dir, certificate=args.tls_cert), args.server)


async def _serve(settings: ControlPlaneSettings) -> ExitCode:
    import asyncio

    from syntra.controlplane.server import ControlPlane

    stop = asyncio.Event()
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        stop.set()

    is_first = not settings.operator_token_path.exists()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    async with ControlPlane(settings) as plane:
        scheme = "https" if settings.tls_cert is not None else "http"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        out(f"listening on {scheme}://{host}:{plane.port}")
        out(f"agents dial {scheme.replace('http', 'ws')}://{host}:{plane.port}/agent/ws")
        out(f"operator token in {printable(str(settings.operator_token_path))}")
        if is_first:
            _show_next(settings, plane.port)
        await stop.wait()
    return ExitCode.INTERRUPTED if received[0] is signal.SIGINT else ExitCode.OK


def _show_next(settings: ControlPlaneSettings, port: int) -> None:
    """On the first start: how an agent connects."""
    words = ["syntra-agent controlplane token create --server NAME"]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    if f"{host}:{port}" != DEFAULT_LISTEN:
        words.append(f"--listen {host}:{port}")
    if str(settings.data_dir) != DEFAULT_DATA_DIR:
        words.append(f"--data-dir {settings.data_dir}")
    if settings.tls_cert is not None:
        words.append(f"--tls-cert {settings.tls_cert}")
    out("to connect an agent, run this in another terminal and put the lines that it prints into agent.toml:")
    out(f"  {printable(' '.join(words))}")


def _days(given: str) -> float:
    try:
        days = float(given)
    except ValueError:
        days = 0.0
    if not 0 < days <= 825:
        raise argparse.ArgumentTypeError("is not a number of days up to 825")
    return days


def listen(given: str) -> tuple[str, int]:
    """HOST:PORT, or [IPv6]:PORT; port 0 picks a free port."""
    host, colon, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port[:6]) > 65535:
        raise argparse.ArgumentTypeError("is not HOST:PORT")
    return host, int(port)
