"""Export requests over gRPC: admission before the message is read, and a status for every error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from io import BytesIO
from time import monotonic

from syntra.telemetry.intake import BadData, Intake, Overloaded, Source
from syntra.telemetry.otlp.decompress import Decompress
from syntra.telemetry.otlp.failures import Failures, try_again
from syntra.telemetry.otlp.grpc_call import (
    COMPRESSED_UNASKED_ANSWER,
    Answer,
    Call,
    CannotCall,
    CompressedUnasked,
    MessageReader,
    TooLarge,
    failed,
    parse_call,
    succeeded,
    too_large,
)
from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.http2.headers import RequestHead
from syntra.telemetry.otlp.http_limits import with_growth
from syntra.telemetry.otlp.memory import LARGE_REQUEST_BYTES, STEP_BYTES, Reservation
from syntra.telemetry.otlp.responses import (
    DEADLINE_EXCEEDED,
    RpcError,
    export_response,
    rpc_bad_data,
    rpc_error,
    rpc_internal,
    rpc_overloaded,
)

READING_RETRY_SECS = 1.0
PRESSED_SECS = 3.0
"""How long after a request was refused for lack of room slow ones have less time."""
INLINE_BYTES = 1 << 20
"""A message that is longer when decompressed is decompressed in a thread, so that the loop does not wait for it."""


class Refused(Exception):
    """A request ends with this answer; its sender may still be sending it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Reading:
    """A request whose message is on its way, with the memory that it has reserved."""

    __slots__ = ("call", "deadline", "message", "room", "started")

    def __init__(self, call: Call, message: MessageReader, room: Reservation) -> None:
        self.call = call
        self.message = message
        self.room = room
        self.started = monotonic()
        self.deadline = None if call.timeout_secs is None else self.started + call.timeout_secs


class ExportHandler:
    """Serves the Export method of all signals, on all connections. A `Reading` must be passed on to `finish` or
    `drop`."""

    def __init__(self, intake: Intake, limits: GrpcLimits, failures: Failures) -> None:
        self._intake = intake
        self._limits = limits
        self._failures = failures
        # One at a time: bombs do not take the memory of each other's, which would make senders try again.
        self._expanding = asyncio.Semaphore(1)
        self._pressed_until = 0.0
        self.unread = 0
        """Requests whose message is on its way."""
        self.timed_out = 0
        self.had_large = False
        """Whether a large message came since this was last set to False."""

    def begin(self, head: RequestHead) -> Reading:
        """Take the headers of a request. Raises Refused."""
        try:
            call = parse_call(head)
        except CannotCall as cannot:
            self._intake.refused(None, cannot.reason)
            raise Refused(cannot.answer) from None
        if self.unread >= self._limits.max_reading:
            self._pressed_until = monotonic() + PRESSED_SECS
            self._intake.refused(call.signal, "overloaded")
            raise Refused(failed(rpc_overloaded(Overloaded("too many requests; try again", READING_RETRY_SECS))))
        self.unread += 1
        limit = self._limits.body_bytes
        message = MessageReader(limit, may_be_compressed=call.decompress is not None)
        return Reading(call, message, Reservation(self._intake, with_growth(limit)))

    def feed(self, reading: Reading, part: memoryview) -> None:
        """Take a part of the body; its memory is reserved before it is kept. Raises Refused, and has dropped it."""
        message = reading.message
        try:
            rest = message.feed(part)
            # A short message is reserved at once, a long one as it comes: a sender that stalls holds what it has sent.
            reading.room.grow_to(min(message.length, max(message.received + len(rest), STEP_BYTES)))
            message.write(rest)
        except BadData as error:
            refused = self._bad_data(reading.call, error)
        except Overloaded as error:
            self._pressed_until = monotonic() + PRESSED_SECS
            refused = self._overloaded(reading.call, error)
        except TooLarge:
            refused = self._too_large(reading.call)
        except CompressedUnasked:
            self._intake.refused(reading.call.signal, "encoding")
            refused = COMPRESSED_UNASKED_ANSWER
        except Exception as error:  # noqa: BLE001 - a bug; the sender gets an answer, the connection stays
            self._failures.log_once("grpc", error)
            refused = failed(rpc_overloaded(try_again()))
        else:
            return
        self.drop(reading)
        raise Refused(refused)

    def drop(self, reading: Reading) -> None:
        """Forget a request that is not complete."""
        self.unread -= 1
        reading.room.__exit__(None, None, None)

    def expire(self, reading: Reading, now: float) -> Answer | None:
        """The answer for a request that takes too long, which is then dropped; None if there is time left."""
        limits = self._limits
        allowed = min(limits.read_secs, limits.pressed_secs) if now < self._pressed_until else limits.read_secs
        if now <= reading.started + allowed and (reading.deadline is None or now < reading.deadline):
            return None
        self.drop(reading)
        return self._too_late(reading.call)

    async def finish(self, reading: Reading, source: Source) -> Answer:
        """Process and keep a complete request. Never raises an Exception."""
        self.unread -= 1
        call = reading.call
        with reading.room as room:
            try:
                message = reading.message.message()
                if call.decompress is not None and reading.message.is_compressed:
                    message = await self._expand(call.decompress, message, room)
                if len(message) >= LARGE_REQUEST_BYTES:
                    self.had_large = True
                if reading.deadline is not None and monotonic() > reading.deadline:
                    return self._too_late(call)
                return await self._receive(call, message, source)
            except BadData as error:
                return self._bad_data(call, error)
            except Overloaded as error:
                return self._overloaded(call, error)
            except TooLarge:
                return self._too_large(call)
            except Exception as error:  # noqa: BLE001 - a bug; the sender would wait for ever
                self._failures.log_once("grpc", error)
                return failed(rpc_overloaded(try_again()))

    async def _receive(self, call: Call, message: bytes, source: Source) -> Answer:
        error: RpcError
        try:
            return succeeded(
                export_response(call.signal, await self._intake.receive_async(call.signal, message, source))
            )
        except BadData as bad:
            error = rpc_bad_data(bad)
        except Overloaded as busy:
            error = rpc_overloaded(busy)
        except Exception as unexpected:  # noqa: BLE001 - whatever fails behind the receiver, the sender gets an answer
            again = self._failures.failed(call.signal, message, unexpected)
            error = rpc_overloaded(again) if again is not None else rpc_internal("internal error")
        return failed(error)

    async def _expand(self, decompress: Decompress, message: bytes, room: Reservation) -> bytes:
        # The compressed message stays in memory beside its content.
        limit = min(self._limits.max_request_bytes, self._limits.max_memory_bytes * 8 // 9 - len(message))
        expanded = _joined(decompress((message,)), len(message), min(limit, INLINE_BYTES), room)
        if expanded is None and limit > INLINE_BYTES:
            self.had_large = True
            async with self._expanding:
                expanded = await asyncio.to_thread(_joined, decompress((message,)), len(message), limit, room)
        if expanded is None:
            raise TooLarge
        return expanded

    def _bad_data(self, call: Call, error: BadData) -> Answer:
        self._intake.refused(call.signal, "bad_data")
        return failed(rpc_bad_data(error))

    def _overloaded(self, call: Call, error: Overloaded) -> Answer:
        self._intake.refused(call.signal, "overloaded")
        return failed(rpc_overloaded(error))

    def _too_large(self, call: Call) -> Answer:
        self._intake.refused(call.signal, "too_large")
        return too_large(self._limits.body_bytes)

    def _too_late(self, call: Call) -> Answer:
        self.timed_out += 1
        self._intake.refused(call.signal, "timeout")
        return failed(rpc_error(DEADLINE_EXCEEDED, "the request came too slowly; try again"))


def _joined(pieces: Iterable[bytes], base: int, limit: int, room: Reservation) -> bytes | None:
    """The pieces in one, with `base` bytes reserved beside them; None when they are longer than `limit`."""
    first = b""
    body: BytesIO | None = None
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            return None
        room.grow_to(base + with_growth(size))
        if body is not None:
            body.write(piece)
        elif not first:
            first = piece
        else:
            body = BytesIO()
            body.write(first)
            body.write(piece)
    return first if body is None else body.getvalue()
