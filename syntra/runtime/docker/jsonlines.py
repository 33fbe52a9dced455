"""Splits a stream of JSON objects, with or without line ends between them, without I/O.

Pull progress and events use this format. An incomplete object at the end of the stream is an error.
"""

from __future__ import annotations

import json
import re

from syntra.runtime.docker.errors import DockerError, EngineProtocolError, StreamBroken

MAX_VALUE_BYTES = 1024 * 1024
"""Limit of one object. Progress and events stay below a few KiB; labels may make an event larger."""
MAX_DEPTH = 64
"""Limit of nesting, so that a hostile body cannot exhaust the decoder's recursion."""

_MARKS = re.compile(rb'["{}\[\]]')
_STRING_END = re.compile(rb'["\\]')
_SPACE = b" \t\r\n"


class JsonStream:
    """Splits and decodes. `feed` never raises: it returns complete values, and sets `error` for invalid data."""

    def __init__(self) -> None:
        self.error: DockerError | None = None
        self._buffer = bytearray()
        self._scan = 0
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """Process bytes; return the objects that they complete."""
        values: list[dict[str, object]] = []
        if self.error is not None:
            return values
        self._buffer += data
        while (end := self._find_end()) is not None:
            block = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._scan = 0
            value = self._decode(block)
            if value is None:
                return values
            values.append(value)
        if self.error is None and len(self._buffer) > MAX_VALUE_BYTES:
            self._fail(f"an object is longer than {MAX_VALUE_BYTES} bytes")
        return values

    def feed_eof(self) -> None:
        """The stream has ended; sets `error` when it ended inside an object."""
        if self.error is None and self._buffer:
            self.error = StreamBroken("a JSON stream", "it ended inside an object")

    def _find_end(self) -> int | None:
        """The end index of the first complete object; None when it is incomplete or the stream has failed."""
        buffer = self._buffer
        if self._depth == 0 and not self._start_object():
            return None
        while True:
            mark = (_STRING_END if self._in_string else _MARKS).search(buffer, self._scan)
            if mark is None:
                self._scan = len(buffer)
                return None
            char = mark[0]
            if char == b"\\":
                if mark.end() == len(buffer):
                    self._scan = mark.start()  # the escaped byte has not arrived
                    return None
                self._scan = mark.end() + 1
                continue
            self._scan = mark.end()
            if char == b'"':
                self._in_string = not self._in_string
            elif char in b"{[":
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    self._fail(f"an object nests deeper than {MAX_DEPTH}")
                    return None
            else:
                self._depth -= 1
                if self._depth == 0:
                    return self._scan

    def _start_object(self) -> bool:
        skipped = len(self._buffer) - len(self._buffer.lstrip(_SPACE))
        del self._buffer[:skipped]
        if self._buffer and self._buffer[0] != ord("{"):
            self._fail("something other than an object")
            return False
        return bool(self._buffer)

    def _decode(self, block: bytes) -> dict[str, object] | None:
        try:
            value = json.loads(block)
        except ValueError:
            self._fail("an object is not valid JSON")
            return None
        if len(block) > MAX_VALUE_BYTES:
            self._fail(f"an object is longer than {MAX_VALUE_BYTES} bytes")
            return None
        assert isinstance(value, dict), "what starts with a brace and decodes is an object"
        return value

    def _fail(self, reason: str) -> None:
        self.error = EngineProtocolError("a JSON stream", reason)
        self._buffer.clear()
