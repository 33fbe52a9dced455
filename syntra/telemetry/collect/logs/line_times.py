"""The times in lines as nanoseconds since 1970. Lines that follow each other mostly have the same second. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_NS = 1_000_000_000


class LineTimes:
    """Reads times, and remembers the last second in UTC that it has read."""

    __slots__ = ("_base", "_parse", "_second")

    def __init__(self, parse: Callable[[str], int]) -> None:
        """`parse` reads any form of time; it returns 0 for what is none."""
        self._parse = parse
        self._second = ""
        self._base = 0

    def ns(self, text: str) -> int:
        """Nanoseconds since 1970; 0 for text that is no time."""
        if text[:19] == self._second and text[-1:] == "Z":
            fraction = text[20:-1]
            if len(text) == 20:
                return self._base
            if text[19] == "." and fraction.isdecimal():
                return self._base + int(fraction[:9].ljust(9, "0"))
        found = self._parse(text)
        # "2026-01-02T03:04:05Z", with or without a fraction.
        if found > 0 and text[10:11] == "T" and text[16:17] == ":" and text[-1:] == "Z":
            self._second, self._base = text[:19], found // _NS * _NS
        return found

    def many(self, texts: Sequence[str]) -> list[int]:
        """As `ns`, for all of them."""
        self.ns(texts[-1])
        second, base = self._second, self._base
        try:
            return [base + int(text[20:-1].ljust(9, "0")) if text[:19] == second else self.ns(text) for text in texts]
        except ValueError:
            # An offset instead of the Z, or damage.
            return [self.ns(text) for text in texts]
