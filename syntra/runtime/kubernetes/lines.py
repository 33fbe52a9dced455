"""Splits a stream of bytes into lines, without I/O. Watches and logs are lines."""

from __future__ import annotations


class LineSplitter:
    """`feed` returns the lines that its bytes complete, without their ends. A line beyond `most` bytes is cut there."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        self._skips = False
        self.cut = 0
        """How many lines were cut."""

    def feed(self, data: bytes) -> list[bytes]:
        """Process bytes."""
        *ended, rest = data.split(b"\n")
        found: list[bytes] = []
        for part in ended:
            if (line := self._add(part)) is not None:
                found.append(line)
            if not self._skips:
                found.append(bytes(self._rest))
            self._rest.clear()
            self._skips = False
        if (line := self._add(rest)) is not None:
            found.append(line)
        return found

    def feed_eof(self) -> list[bytes]:
        """The stream has ended: a last line without an end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest and not self._skips else []

    def _add(self, part: bytes) -> bytes | None:
        """Add to the current line; returns it, cut, once it is too long."""
        if self._skips:
            return None
        self._rest += part
        if len(self._rest) <= self._most:
            return None
        self._skips = True
        self.cut += 1
        return bytes(self._rest[: self._most])
