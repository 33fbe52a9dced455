"""Makes bytecode whose marshalled form depends on its source alone. Pure.

`marshal` writes an object that it meets twice as a reference, and marks each object that others hold, too. Both depend
on what the compiling process happens to have in memory. So equal constants become one object, and all strings are
interned. Readers notice only that fewer objects are loaded.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

STRINGS = ("co_filename", "co_name", "co_qualname")
PARTS = ("co_consts", "co_names", "co_varnames", "co_cellvars", "co_freevars", "co_linetable", "co_exceptiontable")


class Canonical:
    """Holds all that it has met and made, which keeps their marks the same: pass code to `code`, then marshal it."""

    def __init__(self) -> None:
        self._met: dict[tuple[Any, ...], Any] = {}
        self._made: list[CodeType] = []

    def code(self, code: CodeType) -> CodeType:
        """The same code with canonical constants, those of functions inside included."""
        made = code.replace(**{name: self._of(getattr(code, name)) for name in (*STRINGS, *PARTS)})
        self._made.append(made)
        return made

    def _of(self, value: Any) -> Any:
        match value:
            case str():
                # The type is exact: constants have no subclasses.
                return sys.intern(value)
            case CodeType():
                return self.code(value)
            case tuple():
                parts = tuple(map(self._of, value))
                return self._met.setdefault((tuple, *map(id, parts)), parts)
            case frozenset():
                members = frozenset(map(self._of, value))
                return self._met.setdefault((frozenset, *sorted(map(id, members))), members)
            case bytes() | bool() | int():
                return self._met.setdefault((type(value), value), value)
            case float() | complex():
                # 0.0 and -0.0 are equal, and a NaN is not equal to itself.
                return self._met.setdefault((type(value), repr(value)), value)
            case _:
                return value  # None and Ellipsis, of which there is one
