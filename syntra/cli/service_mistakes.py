"""All mistakes of a service file: what is wrong is left out, and the rest is checked again. Pure.

So the checks themselves stop at the first mistake, as the agent's do, and need no second form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from syntra.cli.service_document import Place
from syntra.cli.service_shapes import ServiceMistake, Spellings

MOST_MISTAKES = 50
_VALID: Mapping[str | int, object] = {
    "image": "placeholder",
    "name": "placeholder",
    "port": 80,
    "domains": ["placeholder.example"],
}
"""Values in place of wrong ones that other settings rely on, so that those are not called wrong, too."""
_NAMED = ("env", "env_vars", "labels", "response_headers")
"""Mappings whose parser names the mapping, not the entry that is wrong."""

Check = Callable[[object, Spellings], object]


def every_mistake(document: object, spellings: Spellings, check: Check) -> list[ServiceMistake]:
    """The mistakes of a document, at most MOST_MISTAKES; none when `check` does not raise ServiceMistake.

    A mistake that only follows from another one, such as a key that is missing because its name is misspelt, is left
    out.
    """
    rest = _Rest(copy.deepcopy(document), dict(spellings))
    found: list[ServiceMistake] = []
    for _ in range(2 * MOST_MISTAKES):
        mistake = rest.checked(check)
        if mistake is None or len(found) == MOST_MISTAKES:
            break
        if not rest.follows(mistake, found):
            found += rest.one_by_one(mistake, check) or [rest.as_written(mistake)]
        if not rest.leave_out(mistake):
            break
    return found


class _Rest:
    """What is left of a document."""

    def __init__(self, document: object, spellings: dict[Place, str]) -> None:
        self._document = document
        self._spellings = spellings
        # Items that were left out of lists: what follows them moved up.
        self._gone: list[Place] = []
        self._wrong: set[Place] = set()

    def checked(self, check: Check) -> ServiceMistake | None:
        try:
            check(self._document, self._spellings)
        except ServiceMistake as mistake:
            return mistake
        return None

    def as_written(self, mistake: ServiceMistake) -> ServiceMistake:
        """The mistake with its place in the whole document."""
        place = self._original(mistake.place)
        return ServiceMistake(place, mistake.reason, name=mistake.name, mark=self._original(mistake.mark))

    def follows(self, mistake: ServiceMistake, found: list[ServiceMistake]) -> bool:
        place = self._original(mistake.place)
        is_above = any(wrong[: len(place)] == place for wrong in self._wrong)
        if place in self._wrong or (place and is_above and place[-1] not in _NAMED):
            return True
        if not mistake.reason.startswith("is missing"):
            return False
        if len(place) > 1 and any(wrong[:-1] == place[:-1] for wrong in self._wrong):
            return True
        name = mistake.name or str(place[-1] if place else "")
        return any(f"did you mean {name}?" in other.reason for other in found)

    def one_by_one(self, mistake: ServiceMistake, check: Check) -> list[ServiceMistake]:
        """The wrong entries of a mapping, each as a mistake; empty when the mistake is not in a single entry."""
        place = mistake.place
        owner, value = self._at(place[:-1]), self._at(place)
        if not place or place[-1] not in _NAMED or not isinstance(value, dict) or not isinstance(owner, dict):
            return []
        found = []
        for key, item in value.items():
            owner[place[-1]] = {key: item}
            one = self.checked(check)
            if one is not None and one.place == place:
                # The name itself may hold a secret; only its place is used.
                shown = self._original(place)
                found.append(ServiceMistake(shown, one.reason, mark=(*shown, key)))
        owner[place[-1]] = value
        return found

    def leave_out(self, mistake: ServiceMistake) -> bool:
        """Take out what is wrong, or the nearest that has it; False when there is nothing to take out."""
        place = mistake.place
        while place and self._at(place) is _ABSENT:
            place = place[:-1]
        if not place:
            if not isinstance(self._document, dict) or mistake.name not in _VALID:
                return False
            self._document[mistake.name] = _VALID[mistake.name]
            return True
        owner, step, original = self._at(place[:-1]), place[-1], self._original(place)
        is_again = original in self._wrong
        self._wrong.add(original)
        if isinstance(owner, dict):
            if step in _VALID and not is_again:
                owner[step] = copy.copy(_VALID[step])
            else:
                del owner[step]
            self._spellings = {at: text for at, text in self._spellings.items() if at[: len(place)] != place}
        elif isinstance(owner, list) and isinstance(step, int) and place[-2:-1] == ("domains",) and not is_again:
            owner[step] = f"placeholder-{step}.example"
        elif isinstance(owner, list) and isinstance(step, int):
            del owner[step]
            self._gone.append(place)
            self._spellings = {
                moved: text for at, text in self._spellings.items() if (moved := _moved_up(at, place)) is not None
            }
        return True

    def _at(self, place: Place) -> object:
        value = self._document
        for step in place:
            is_index = isinstance(value, list) and isinstance(step, int) and step < len(value)
            if not is_index and not (isinstance(value, dict) and step in value):
                return _ABSENT
            value = value[step]  # type: ignore[index]  # checked above
        return value

    def _original(self, place: Place) -> Place:
        for gone in reversed(self._gone):
            last, depth = gone[-1], len(gone) - 1
            if len(place) > depth and place[:depth] == gone[:depth]:
                step = place[depth]
                if isinstance(step, int) and isinstance(last, int) and step >= last:
                    place = (*place[:depth], step + 1, *place[depth + 1 :])
        return place


_ABSENT = object()


def _moved_up(at: Place, gone: Place) -> Place | None:
    """A place after an item was left out of its list; None when it was in that item."""
    depth = len(gone) - 1
    if at[: depth + 1] == gone:
        return None
    step, last = at[depth] if len(at) > depth else None, gone[-1]
    if at[:depth] == gone[:depth] and isinstance(step, int) and isinstance(last, int) and step > last:
        return (*at[:depth], step - 1, *at[depth + 1 :])
    return at
