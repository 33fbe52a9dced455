"""Did you mean: the known name most similar to a mistyped one. Pure."""

from __future__ import annotations

from collections.abc import Iterable

CUTOFF = 0.65
"""The least share of equal letters in a suggestion: one typo in three letters, three in ten."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, ignoring case; None when none is similar."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    # A very long name is not a typo, and comparing takes quadratic time.
    given = name[:100].casefold()
    # Equal letters alone are not enough: `bogus` has three of the four letters of `logs`.
    from difflib import get_close_matches  # only a mistake needs it

    matches = get_close_matches(given, by_fold, n=3, cutoff=CUTOFF)
    return next((by_fold[match] for match in matches if _is_near(given, match)), None)


def _is_near(given: str, meant: str) -> bool:
    # `interval` is near to `interval_secs`: a unit was left out.
    return meant.startswith(f"{given}_") or typos(given, meant) <= max(1, len(given) // 3)


def typos(given: str, meant: str) -> int:
    """The least number of letters to insert, leave out, replace or swap with their neighbour (the optimal string
    alignment distance)."""
    before: list[int] = []
    last: list[int] = [*range(len(meant) + 1)]
    for row, letter in enumerate(given, 1):
        now: list[int] = [row]
        for place, other in enumerate(meant, 1):
            least: int = min(now[-1] + 1, last[place] + 1, last[place - 1] + int(letter != other))
            if row > 1 and place > 1 and letter == meant[place - 2] and given[row - 2] == other:
                least = min(least, before[place - 2] + 1)
            now.append(least)
        before, last = last, now
    return last[-1]


def hint(name: str, known: Iterable[str], *, form: str = "{}") -> str:
    """`, did you mean X?` with X formatted by `form`, or an empty string."""
    found = nearest(name, known)
    return f", did you mean {form.format(found)}?" if found is not None else ""
