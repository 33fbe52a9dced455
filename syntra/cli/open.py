"""`open`: a port of this machine that forwards to a replica of a service, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import socket_path
from syntra.cli.reading import Json, number, rows, text, texts
from syntra.cli.services import chosen
from syntra.cli.terminal import err, out, printable
from syntra.utils.frozen import frozen

HOST = "127.0.0.1"
CONNECT_SECS = 5.0
MOST_CONNECTIONS = 256
PIECE_BYTES = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, PORT, --replica, --local-port."""
    parser.epilog = (
        f"It listens on {HOST} alone. Each connection goes to the chosen replica as it is then, also after a deploy. "
        "The machine must reach the replica's address. On a cluster only the nodes can; elsewhere use "
        "`kubectl port-forward`."
    )
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("port", metavar="PORT", nargs="?", type=port, help="port of the container (default: its own)")
    parser.add_argument("--replica", metavar="N", type=port, help="number of the replica (default: the lowest)")
    parser.add_argument("--local-port", metavar="PORT", type=port, help="port to listen on (default: a free one)")


def port(given: str) -> int:
    """A number from 1 to 65535."""
    if not given.isascii() or not given.isdigit() or not 1 <= int(given[:6]) <= 65535:
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is not a number from 1 to 65535")
    return int(given)


@frozen
class Target:
    """What connections go to, and how to find where it is now."""

    socket: Path
    service: str
    replica: int | None
    port: int | None

    def find(self) -> tuple[str, int]:
        """Address and port of the replica. Raises CliError."""
        [service] = chosen(rows(ask(self.socket, "list_services", {}), "services"), self.service)
        running = {
            int(index): text(one, "place")
            for one in rows(service, "containers")
            if text(one, "status") == "running" and (index := number(one, "replica")) is not None
        }
        return self._address(running), self.port or self._port(service)

    def _address(self, running: Mapping[int, str]) -> str:
        index = min(running, default=None) if self.replica is None else self.replica
        if index is None or index not in running:
            which = "a replica" if self.replica is None else f"replica {self.replica}"
            raise CliError(
                f"cannot open {self.service}: {which} of it does not run; see `syntra-agent ps {self.service}`"
            )
        if running[index] == "-":
            raise CliError(
                f"cannot open {self.service}: replica {index} has no address of its own; "
                f"see `syntra-agent ps {self.service}`"
            )
        return running[index]

    def _port(self, service: Json) -> int:
        ports = [one.rpartition(":")[2] for one in texts(service, "ports")]
        if not ports or not ports[0].isdigit():
            raise CliError(
                f"cannot open {self.service}: it has no port in its service file; give one, as in "
                f"`open {self.service} 8080`",
                ExitCode.USAGE,
            )
        return int(ports[0])


def run(args: argparse.Namespace) -> int:
    """Listen, print where, and forward until interrupted."""
    target = Target(socket=socket_path(args), service=args.service, replica=args.replica, port=args.port)
    address, at = target.find()
    asyncio.run(_serve(target, args.local_port or 0, f"{args.service} at {address}:{at}"))
    return ExitCode.OK


async def _serve(target: Target, local_port: int, shown: str) -> None:
    slots = asyncio.Semaphore(MOST_CONNECTIONS)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with slots:
                await _forward(target, reader, writer)
        except (CliError, TimeoutError, OSError) as failed:
            err(f"cannot forward a connection: {failed or 'the replica did not answer in time'}")
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(forward, HOST, local_port, limit=PIECE_BYTES)
    except OSError as failed:
        raise CliError(
            f"cannot listen on {HOST}:{local_port}: {failed.strerror}; give another --local-port"
        ) from failed
    async with server:
        bound = server.sockets[0].getsockname()[1]
        out(printable(f"http://{HOST}:{bound} leads to {shown}; Ctrl-C ends it"))
        await server.serve_forever()


async def _forward(target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection to its end, each direction by itself."""
    address, at = await asyncio.to_thread(target.find)
    async with asyncio.timeout(CONNECT_SECS):
        there_reader, there_writer = await asyncio.open_connection(address, at, limit=PIECE_BYTES)
    try:
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
    finally:
        there_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
