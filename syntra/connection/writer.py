"""The order in which messages are sent: one writer with four queues, for one connection at a time.

control (hello, pong) > outbox (durable results) > heartbeat > stream (telemetry, logs). Streams never delay a result. A
long outbox never silences the heartbeat: a due heartbeat is sent between two batches of the outbox.

An outbox item counts as taken when the peer's WebSocket has read it: when the pong to a later ping arrives (RFC 6455
§5.5.3). So items that a dead link swallowed are sent again. At most one batch is unconfirmed. Items that were
unconfirmed when a connection ended are sent one at a time on the next: see `undelivered`.

A binary frame of the stream is sent only when the peer has read the previous one. So a result or a heartbeat waits for
at most one of them on a slow link, whatever the kernel would buffer.

Every queue is bounded: control drops messages (a ping flood cannot grow memory), outbox is read in batches, heartbeat
holds one message, stream makes its callers wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from syntra.connection.errors import NotConnected, UnencodableMessage
from syntra.connection.undelivered import SHORT_CHARS, Suspicion, replacement
from syntra.utils.frozen import frozen

_log = logging.getLogger(__name__)

OUTBOX_BATCH = 32
CONTROL_MAX = 64


@frozen
class OutboxItem:
    """A durable message: its sequence number in the outbox (increasing, never reused) and the encoded frame."""

    seq: int
    text: str


class Outbox(Protocol):
    """Durable messages, sent at least once each, oldest first, until the peer has taken them."""

    async def pending(self, limit: int) -> Sequence[OutboxItem]:
        """The oldest untaken items, in order, at most `limit`. Empty when there are none."""

    async def taken(self, seq: int) -> None:
        """The peer has read this item's frame, so it is not sent again. Called in order, once per item."""

    async def replace(self, seq: int, text: str | None) -> None:
        """Replace the text of this item; with None, drop the item and count it."""

    async def wait(self) -> None:
        """Return when an item is pending, at once if one already is. Safe to cancel."""


class _Waiting:
    """A stream message and the future that its sender awaits."""

    __slots__ = ("frame", "left")

    def __init__(self, frame: str | bytes, left: asyncio.Future[None]) -> None:
        self.frame = frame
        self.left = left


class Writer:
    """The queues, for successive connections: call `begin`, `ready`, `end`; meanwhile run `run`, `watch`, `confirm`."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        max_frame_bytes: int,
        stream_limit: int,
        translate: Callable[[str], Sequence[str]] = lambda text: (text,),
    ) -> None:
        """`translate` returns the frames to send for an outbox item. An item without frames counts as sent."""
        self._outbox = outbox
        self._translate = translate
        self._max_frame_bytes = max_frame_bytes
        self._stream_limit = stream_limit
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._room = asyncio.Event()
        self.dropped_pongs = 0
        self.skipped_heartbeats = 0
        self._control: deque[str] = deque()
        self._stream: deque[_Waiting] = deque()
        self._batch: deque[OutboxItem] = deque()
        self._unconfirmed: deque[OutboxItem] = deque()  # sent and not confirmed
        self._sending: OutboxItem | None = None
        self._suspicion = Suspicion()
        self._left = asyncio.Event()
        self.begin()

    def begin(self) -> None:
        """Start a connection: only control messages are sent until `ready`."""
        self._ready = False
        self._takes_binary = False
        self._binary_unread = False  # a binary frame was sent, and the peer has not read it
        self._heartbeat: str | None = None
        self._heartbeat_owed = False
        self._outbox_due = False
        self._control.clear()
        self._batch.clear()
        self._unconfirmed.clear()
        self._sending = None
        self._last_seq = -1
        self._wake.clear()
        self._drained.clear()
        self._left.clear()

    def ready(self, *, takes_binary: bool = False) -> None:
        """The control plane accepted the agent: all queues are sent, the outbox first.

        `takes_binary` tells whether it understands binary frames.
        """
        self._ready = True
        self._takes_binary = takes_binary
        self._room.set()
        self.check_outbox()

    def end(self, reason: str) -> None:
        """The connection has ended: waiting senders get NotConnected; untaken items stay in the outbox."""
        self._ready = False
        self._heartbeat = None
        self._batch.clear()
        self._room.set()
        waiting = list(self._stream)
        self._stream.clear()
        for item in waiting:
            if not item.left.done():
                item.left.set_exception(_not_connected(reason))

    async def closed(self, code: int) -> None:
        """The socket was closed with this code: replace the item that the peer refuses, once it is identified."""
        unconfirmed = [*self._unconfirmed, *([self._sending] if self._sending is not None else ())]
        if not unconfirmed:
            return
        is_short = len(unconfirmed[0].text) <= SHORT_CHARS
        if self._suspicion.blames(code, [item.seq for item in unconfirmed], is_short=is_short):
            await self._replace(unconfirmed[0], f"the control plane closed the connection over it ({code})")

    def control(self, text: str) -> None:
        """Queue a hello or pong."""
        if len(self._control) >= CONTROL_MAX:
            self.dropped_pongs += 1
            return
        self._control.append(text)
        self._wake.set()

    def heartbeat(self, text: str) -> None:
        """Queue a heartbeat; skip it when the previous one is still unsent."""
        if not self._ready or self._heartbeat is not None:
            self.skipped_heartbeats += 1
            return
        self._heartbeat = text
        self._wake.set()

    def check_outbox(self) -> None:
        """Read the outbox again, even if its `wait` has not returned."""
        self._outbox_due = True
        self._wake.set()

    async def stream(self, frame: str | bytes) -> None:
        """Send a text or binary frame; return when the socket has it.

        Waits while the queue is full. Raises NotConnected when the frame was not sent, or is binary and this control
        plane does not take it; UnencodableMessage when it is too large. Cancelling removes a frame that still waits; a
        frame that is being written is sent anyway.
        """
        if len(frame) > self._max_frame_bytes:
            raise UnencodableMessage(f"cannot send a message: it is larger than {self._max_frame_bytes} bytes")
        while self._ready and len(self._stream) >= self._stream_limit:
            self._room.clear()
            await self._room.wait()
        if not self._ready:
            raise _not_connected("the control plane has not accepted this agent")
        if isinstance(frame, bytes) and not self._takes_binary:
            raise _not_connected("it does not take binary frames")
        item = _Waiting(frame, asyncio.get_running_loop().create_future())
        self._stream.append(item)
        self._wake.set()
        await item.left

    async def run(self, send: Callable[[str | bytes], Awaitable[None]]) -> None:
        """Write until cancelled, or until `send` raises. `send` returns when the socket has the frame."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await self._write_one(send):
                pass

    async def watch(self) -> None:
        """Watch the outbox for new items until cancelled."""
        while True:
            await self._outbox.wait()
            self._drained.clear()
            self.check_outbox()
            await self._drained.wait()

    async def confirm(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Mark confirmed items as taken, until cancelled or until `probe` raises.

        `probe` returns when the peer has read everything that was sent before the call.
        """
        while True:
            await self._left.wait()
            self._left.clear()
            count, binary_sent = len(self._unconfirmed), self._binary_unread
            await probe()
            if binary_sent:
                self._binary_unread = False
                self._wake.set()
            for _ in range(count):
                # Removed only afterwards: a cancellation in between repeats a call, but loses no item.
                await self._outbox.taken(self._unconfirmed[0].seq)
                self._unconfirmed.popleft()
            if count:
                self.check_outbox()

    async def _write_one(self, send: Callable[[str | bytes], Awaitable[None]]) -> bool:
        """Send the next frame, or read the next batch; False when there is nothing to do."""
        if self._control:
            await send(self._control.popleft())
            return True
        if not self._ready:
            return False
        if self._unconfirmed and self._suspicion.must_go_alone(self._unconfirmed[0].seq):
            return False  # `confirm` will check the outbox again
        if self._batch:
            await self._write_durable(self._batch.popleft(), send)
            self._heartbeat_owed = not self._batch
            return True
        if self._outbox_due and not (self._heartbeat is not None and self._heartbeat_owed):
            await self._fetch()
            return True
        if self._heartbeat is not None:
            await send(self._heartbeat)
            self._heartbeat = None
            self._heartbeat_owed = False
            return True
        return await self._write_stream(send)

    async def _fetch(self) -> None:
        self._outbox_due = False
        items = await self._outbox.pending(OUTBOX_BATCH)
        fresh = [item for item in items if item.seq > self._last_seq]
        self._batch.extend(fresh)
        if fresh:
            self._outbox_due = True
        elif not items:
            self._heartbeat_owed = False
            self._drained.set()
        # Otherwise all of them are unconfirmed, and `confirm` will check the outbox again.

    async def _write_durable(self, item: OutboxItem, send: Callable[[str | bytes], Awaitable[None]]) -> None:
        frames = self._translate(item.text)
        if any(len(text) > self._max_frame_bytes for text in frames):
            # The peer would close the connection because of it every time, and block everything behind it.
            short = await self._replace(item, f"it is larger than {self._max_frame_bytes} bytes")
            if short is not None:
                self._batch.appendleft(OutboxItem(seq=item.seq, text=short))
            return
        # A peer may close the connection in the middle of a frame.
        self._sending = item
        for text in frames:
            await send(text)
        self._sending = None
        self._last_seq = item.seq
        self._unconfirmed.append(item)
        self._left.set()

    async def _replace(self, item: OutboxItem, reason: str) -> str | None:
        short = replacement(item.text)
        extra = {"seq": item.seq, "chars": len(item.text), "reason": reason}
        _log.error("cannot deliver a message; it is %s", "dropped" if short is None else "shortened", extra=extra)
        await self._outbox.replace(item.seq, short)
        return short

    async def _write_stream(self, send: Callable[[str | bytes], Awaitable[None]]) -> bool:
        item = self._next_of_stream()
        if item is None:
            return False
        try:
            await send(item.frame)
        except BaseException:
            if not item.left.done():
                item.left.set_exception(_not_connected("the connection broke"))
            raise
        if isinstance(item.frame, bytes):
            self._binary_unread = True
            self._left.set()
        if not item.left.done():
            item.left.set_result(None)
        return True

    def _next_of_stream(self) -> _Waiting | None:
        """Remove and return the first message that may be sent now, and remove those of cancelled senders."""
        for item in list(self._stream):
            if self._binary_unread and isinstance(item.frame, bytes) and not item.left.done():
                continue
            self._stream.remove(item)
            self._room.set()
            if not item.left.done():
                return item
        return None


def _not_connected(reason: str) -> NotConnected:
    return NotConnected(f"cannot send to the control plane: {reason}; it is dialled again by itself")
