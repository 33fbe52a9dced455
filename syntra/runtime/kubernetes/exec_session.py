"""Commands in pods, over a WebSocket to the API server (subprotocols v5.channel.k8s.io and v4.channel.k8s.io).

The first byte of each message is its channel. With v5 the client can also close one: channel 255 with the channel's
number. A cluster runs a command as it is, without an environment or a working directory of its own, and does not end it
when the client leaves. So commands run through the image's shell, with a mark in their environment by which their
processes are found. An image without a shell runs them as they are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import orjson

from syntra.model.command import ExecStreams
from syntra.model.ids import ContainerId
from syntra.model.status import ExecResult
from syntra.runtime.errors import ExecTimedOut, StepFailed
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.cluster import id_parts
from syntra.runtime.kubernetes.errors import ApiRefusal, ClusterUnavailable
from syntra.runtime.kubernetes.names import CONTAINER
from syntra.runtime.kubernetes.objects import items, mapping, text
from syntra.runtime.kubernetes.resources import POD

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
OPEN_SECS = 20.0
KILL_SECS = 10.0
# What `execute` keeps of each stream.
MAX_OUTPUT_BYTES = 1024 * 1024
MARK = "SYNTRA_EXEC_ID"
MOST_KNOWN_SHELLS = 1000

# $0 is the mark, $1 the directory or empty; the rest is the command.
_WRAPPER = f'export {MARK}="$0"; [ -z "$1" ] || cd "$1" || exit 126; shift; exec "$@"'
_ENDER = (
    'for p in /proc/[0-9]*; do if tr "\\0" "\\n" <"$p/environ" 2>/dev/null | grep -qx "$0"; '
    'then kill -9 "${p#/proc/}" 2>/dev/null; fi; done; exit 0'
)


class PodExecSession:
    """Implements `runtime.runtime.ExecSession` on an open WebSocket."""

    def __init__(self, socket: Any, what: str, group: asyncio.TaskGroup) -> None:
        self._socket = socket
        self._what = what
        self._ended = asyncio.Event()
        self._code: int | None = None
        self._failure: StepFailed | None = None
        self._group = group

    @property
    def has_ended(self) -> bool:
        """Whether the command has."""
        return self._ended.is_set()

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        from websockets.exceptions import ConnectionClosed

        while not self._ended.is_set():
            try:
                message = await self._socket.recv()
            except ConnectionClosed:
                self._ended.set()
                break
            except OSError as lost:
                raise ClusterUnavailable("the API server", str(lost).lower(), sent=True) from lost
            payload = message.encode() if isinstance(message, str) else message
            channel, data = (payload[0], payload[1:]) if payload else (STDOUT, b"")
            if channel == ERROR:
                self._finish(data)
            elif channel in (STDOUT, STDERR) and data:
                return [(channel == STDERR, data)]
        return []

    async def write(self, data: bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(bytes([STDIN]) + data)
        except (ConnectionClosed, OSError) as gone:
            raise StepFailed("EXEC_FAILED", f"cannot write to {self._what}: it has ended") from gone

    def end_input(self) -> None:
        # v4 cannot close one direction: the command waits for input until its client leaves.
        if self._socket.subprotocol == V5:
            self._group.create_task(self._send(bytes([CLOSE, STDIN])), name="close the input of an exec")

    async def resize(self, rows: int, columns: int) -> None:
        await self._send(bytes([RESIZE]) + orjson.dumps({"Width": columns, "Height": rows}))

    async def exit_code(self) -> int:
        while await self.read():
            continue
        if self._failure is not None:
            raise self._failure
        if self._code is None:
            raise StepFailed("EXEC_FAILED", f"cannot tell how {self._what} ended: its connection broke")
        return self._code

    def _finish(self, data: bytes) -> None:
        """The API server's Status object: success, the exit code, or why it did not start."""
        self._ended.set()
        try:
            status = orjson.loads(data)
        except ValueError:
            status = {}
        if text(status, "status") == "Success":
            self._code = 0
            return
        causes = items(mapping(status, "details"), "causes")
        code = next((text(one, "message") for one in causes if text(one, "reason") == "ExitCode"), "")
        if text(status, "reason") == "NonZeroExitCode" and code.isdecimal():
            self._code = int(code)
            return
        self._failure = StepFailed("EXEC_FAILED", f"cannot run {self._what}: {text(status, 'message') or 'it failed'}")

    async def _send(self, data: bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        with suppress(ConnectionClosed, OSError):
            await self._socket.send(data)


class PodExec:
    """Implements `runtime.runtime.Exec`."""

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client
        self._shells: dict[ContainerId, bool] = {}

    @asynccontextmanager
    async def attach(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        streams: ExecStreams,
    ) -> AsyncIterator[PodExecSession]:
        """Start a command; the block has its streams. Leaving the block before `exit_code` returned ends it."""
        mark, wrapped = await self._wrapped(container_id, argv, env, working_dir)
        is_over = False
        async with self._open(container_id, wrapped, argv[0], streams) as session:
            try:
                yield session
                is_over = session.has_ended
            finally:
                if not is_over and mark:
                    await self._end(container_id, mark)

    async def execute(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        deadline_secs: float,
    ) -> ExecResult:
        """Run a command and keep the beginning of its output. At the deadline its processes are ended."""
        kept = {False: bytearray(), True: bytearray()}
        truncated = False
        mark, wrapped = await self._wrapped(container_id, argv, env, working_dir)
        streams = ExecStreams(stdin=False, tty=False)
        try:
            async with asyncio.timeout(deadline_secs), self._open(container_id, wrapped, argv[0], streams) as session:
                while pieces := await session.read():
                    for is_error, data in pieces:
                        room = MAX_OUTPUT_BYTES - len(kept[is_error])
                        truncated = truncated or len(data) > room
                        kept[is_error] += data[: max(room, 0)]
                code = await session.exit_code()
        except TimeoutError as late:
            ended = await self._end(container_id, mark) if mark else False
            why_not = "the shell in the image could not end them" if mark else "the image has no shell"
            after = "its processes were ended" if ended else f"its processes may still run: {why_not}"
            raise ExecTimedOut(
                f"cannot finish {argv[0]}: it ran longer than {deadline_secs:g} s; {after}",
                container_id=container_id,
                stdout=bytes(kept[False]),
                stderr=bytes(kept[True]),
                truncated=truncated,
            ) from late
        return ExecResult(exit_code=code, stdout=bytes(kept[False]), stderr=bytes(kept[True]), truncated=truncated)

    async def _wrapped(
        self, container_id: ContainerId, argv: Sequence[str], env: Mapping[str, str], working_dir: str | None
    ) -> tuple[str, list[str]]:
        """The mark of a command, and the command as it is sent. No mark where there is no shell."""
        if not await self._has_shell(container_id):
            if env or working_dir:
                raise StepFailed(
                    "EXEC_FAILED",
                    f"cannot run {argv[0]}: the image has no shell, so a cluster can set neither environment nor "
                    "working directory; leave them out",
                )
            return "", list(argv)
        mark = secrets.token_hex(8)
        variables = ["env", *(f"{key}={value}" for key, value in env.items())] if env else []
        return mark, ["sh", "-c", _WRAPPER, mark, working_dir or "", *variables, *argv]

    async def _has_shell(self, container_id: ContainerId) -> bool:
        if len(self._shells) > MOST_KNOWN_SHELLS:
            # Pods come and go; one that is still there is asked again.
            self._shells.clear()
        if container_id not in self._shells:
            try:
                async with (
                    asyncio.timeout(OPEN_SECS),
                    self._open(container_id, ["sh", "-c", ":"], "sh", ExecStreams(stdin=False, tty=False)) as session,
                ):
                    await session.exit_code()
                self._shells[container_id] = True
            except TimeoutError as late:
                raise ClusterUnavailable("the API server", "a command did not start", sent=True) from late
            except StepFailed as failed:
                if "executable file not found" not in str(failed) and "no such file" not in str(failed):
                    raise
                self._shells[container_id] = False
        return self._shells[container_id]

    async def _end(self, container_id: ContainerId, mark: str) -> bool:
        """End the processes with the mark. Whether that could be done."""
        command = ["sh", "-c", _ENDER, f"{MARK}={mark}"]
        try:
            async with (
                asyncio.timeout(KILL_SECS),
                self._open(container_id, command, "sh", ExecStreams(stdin=False, tty=False)) as session,
            ):
                return await session.exit_code() == 0
        except (StepFailed, ClusterUnavailable, TimeoutError):
            return False

    @asynccontextmanager
    async def _open(
        self, container_id: ContainerId, argv: Sequence[str], name: str, streams: ExecStreams
    ) -> AsyncIterator[PodExecSession]:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
        from websockets.typing import Subprotocol

        namespace, pod = id_parts(container_id)
        access = self._client.access
        address = access.address
        query = [("command", part) for part in argv]
        query += [("container", CONTAINER), ("stdout", "1"), ("stderr", "0" if streams.tty else "1")]
        query += [("stdin", "1")] if streams.stdin else []
        query += [("tty", "1")] if streams.tty else []
        scheme = "wss" if address.tls is not None else "ws"
        uri = f"{scheme}://{address.authority}{address.path}{POD.path(namespace, pod, 'exec')}?{urlencode(query)}"
        authorization = await access.authorization()
        try:
            async with asyncio.timeout(OPEN_SECS):
                socket = await connect(
                    uri,
                    subprotocols=[Subprotocol(V5), Subprotocol(V4)],
                    additional_headers={"Authorization": authorization} if authorization else None,
                    ssl=address.tls,
                    server_hostname=(address.server_name or address.host) if address.tls is not None else None,
                    proxy=f"http://{address.proxy[0]}:{address.proxy[1]}" if address.proxy else None,
                    compression=None,
                    ping_interval=None,
                    max_size=MAX_MESSAGE_BYTES,
                    close_timeout=1.0,
                )
        except InvalidStatus as refused:
            raise _refusal(refused, container_id, name) from refused
        except (OSError, TimeoutError, InvalidHandshake, WebSocketException) as lost:
            raise ClusterUnavailable(address.authority, str(lost).lower() or "no answer") from lost
        try:
            async with asyncio.TaskGroup() as group:
                yield PodExecSession(socket, name, group)
        except BaseExceptionGroup as failed:
            # The group's own task raises nothing, so this is what the block raised.
            raise failed.exceptions[0] from None
        finally:
            await socket.close()


def _refusal(refused: Any, container_id: ContainerId, name: str) -> StepFailed | ClusterUnavailable:
    status = refused.response.status_code
    try:
        message = str(orjson.loads(refused.response.body)["message"])
    except (ValueError, KeyError, TypeError):
        # Without the right to create pods/exec the answer has no body.
        message = "no right to `create` and `get` pods/exec" if status == 403 else f"status {status}"
    if status == 404:
        return StepFailed("CONTAINER_NOT_FOUND", f"cannot run {name}: {message}", container_id=container_id)
    if status >= 500 and "container not found" not in message:
        return ClusterUnavailable("the API server", message)
    return ApiRefusal(status, "", message, what=f"run {name}")
