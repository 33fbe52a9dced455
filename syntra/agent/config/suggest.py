"""Did you mean: the known name most similar to a mistyped one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.65
"""The least share of equal letters in a suggestion: one typo in three letters, three in ten."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, ignoring case; None when none is similar."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    # A very long name is not a typo, and comparing takes quadratic time.
    matches = get_close_matches(name[:100].casefold(), by_fold, n=1, cutoff=CUTOFF)
    return by_fold[matches[0]] if matches else None


def hint(name: str, known: Iterable[str], *, form: str = "{}") -> str:
    """`, did you mean X?` with X formatted by `form`, or an empty string."""
    found = nearest(name, known)
    return f", did you mean {form.format(found)}?" if found is not None else ""
