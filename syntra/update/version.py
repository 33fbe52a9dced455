"""Versions of releases: three numbers, or three numbers and a beta's. Pure.

A subset of Semantic Versioning 2.0.0, ordered as its section 11 says: `1.10.0` is newer than `1.9.3`, and `1.10.0` is
newer than `1.10.0-beta.2`. A manifest with any other version is refused, so the order needs no further rules.
"""

from __future__ import annotations

import re
from functools import total_ordering

from syntra.utils.frozen import frozen

_NUMBER = "(0|[1-9][0-9]{0,5})"
# [0-9] and fullmatch: \d accepts digits of other scripts, and $ a line end.
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-beta\.{_NUMBER})?")


@total_ordering
@frozen
class Version:
    """A version. `beta` is None for a release that is not a beta."""

    major: int
    minor: int
    patch: int
    beta: int | None = None

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises ValueError for anything but N.N.N and N.N.N-beta.N, each number of at most six digits."""
        found = _VERSION.fullmatch(text)
        if found is None:
            raise ValueError("a version is N.N.N or N.N.N-beta.N")
        major, minor, patch, beta = found.groups()
        return cls(major=int(major), minor=int(minor), patch=int(patch), beta=None if beta is None else int(beta))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + ("" if self.beta is None else f"-beta.{self.beta}")

    def __lt__(self, other: Version) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[int, int, int, int, int]:
        is_release = self.beta is None
        return (self.major, self.minor, self.patch, int(is_release), self.beta or 0)
