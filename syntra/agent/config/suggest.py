"""Did you mean: the nearest known name to a mistyped one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.65
"""Share of letters in common from which a name counts as a near miss: one slip in three letters, three in ten."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one known name most like `name`, whatever the case; None when nothing is near."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    # A name of absurd length is no slip, and comparing it would cost quadratic time.
    matches = get_close_matches(name[:100].casefold(), by_fold, n=1, cutoff=CUTOFF)
    return by_fold[matches[0]] if matches else None


def hint(name: str, known: Iterable[str], *, form: str = "{}") -> str:
    """`, did you mean X?` with X put into `form`, or an empty string."""
    found = nearest(name, known)
    return f", did you mean {form.format(found)}?" if found is not None else ""
