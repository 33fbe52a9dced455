"""Where the values of a JSON or TOML document stand: their parsers do not say. Pure.

Both scanners read text that its parser has accepted; they find places, and check nothing.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable

from syntra.cli.service_document import Mark, Place

_BLANK = re.compile(r"\s*")
_TOML_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_JSON_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,\]}]+', re.DOTALL)
_TOML_SCALAR = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+|\'\'\'.*?\'\'\'+|"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^,\]}\n#]+',
    re.DOTALL,
)
_TOML_KEY = re.compile(r'(?:"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+|[ \t]*\.[ \t]*)+')


def json_marks(text: str) -> dict[Place, Mark]:
    """The place of every key and item of a JSON document."""
    return _Scan(text, _BLANK, _JSON_SCALAR).value_at_start()


def toml_marks(text: str) -> dict[Place, Mark]:
    """The place of every key, table and item of a TOML document."""
    scan = _Scan(text, _TOML_BLANK, _TOML_SCALAR)
    scan.mark((), 0)
    tables: dict[Place, int] = {}
    base: Place = ()
    while scan.skip() < len(text):
        if not scan.takes("["):
            scan.pair(base, _toml_key)
            continue
        is_array, begin = scan.takes("["), scan.at
        scan.skip()
        keys, scan.at = _toml_key(text, scan.at)
        base = ()
        for depth, key in enumerate(keys, 1):
            base = (*base, key)
            scan.mark(base, begin)
            if is_array and depth == len(keys):
                tables[base] = tables.get(base, -1) + 1
            if base in tables:
                base = (*base, tables[base])
                scan.mark(base, begin)
        scan.at = text.index("]]" if is_array else "]", scan.at) + (2 if is_array else 1)
    return scan.marks


def _json_key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    found = _JSON_SCALAR.match(text, at)
    assert found is not None, "cannot happen because the text is valid JSON"
    return (str(json.loads(found[0])),), found.end()


def _toml_key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """The parts of a key that may be dotted and quoted (TOML 1.0, "Keys")."""
    found = _TOML_KEY.match(text, at)
    assert found is not None, "cannot happen because the text is valid TOML"
    parts: list[str] = []
    inner: object = tomllib.loads(f"{found[0]} = 0")
    while isinstance(inner, dict):
        key, inner = next(iter(inner.items()))
        parts.append(key)
    return tuple(parts), found.end()


class _Scan:
    def __init__(self, text: str, blank: re.Pattern[str], scalar: re.Pattern[str]) -> None:
        self._text = text
        self._blank = blank
        self._scalar = scalar
        self._line, self._begin = 1, 0
        self.at = 0
        self.marks: dict[Place, Mark] = {}

    def value_at_start(self) -> dict[Place, Mark]:
        self.skip()
        self.mark((), self.at)
        self.value((), _json_key)
        return self.marks

    def mark(self, place: Place, at: int) -> None:
        # Marks come in the order of the text, so each line break is counted once.
        self._line += self._text.count("\n", self._begin, at)
        self._begin = max(self._begin, self._text.rfind("\n", 0, at) + 1)
        self.marks.setdefault(place, (self._line, at - self._begin + 1))

    def skip(self) -> int:
        found = self._blank.match(self._text, self.at)
        self.at = found.end() if found else self.at
        return self.at

    def takes(self, sign: str) -> bool:
        if not self._text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def pair(self, base: Place, key: Callable[[str, int], tuple[tuple[str, ...], int]]) -> None:
        begin = self.at
        keys, self.at = key(self._text, begin)
        for length in range(1, len(keys) + 1):
            self.mark((*base, *keys[:length]), begin)
        self.skip()
        self.at += 1  # the colon, or the sign `=`
        self.value((*base, *keys), key)

    def value(self, place: Place, key: Callable[[str, int], tuple[tuple[str, ...], int]]) -> None:
        self.skip()
        if self.takes("{"):
            while self.skip() < len(self._text) and not self.takes("}"):
                if not self.takes(","):
                    self.pair(place, key)
        elif self.takes("["):
            index = 0
            while self.skip() < len(self._text) and not self.takes("]"):
                if not self.takes(","):
                    self.mark((*place, index), self.at)
                    self.value((*place, index), key)
                    index += 1
        else:
            found = self._scalar.match(self._text, self.at)
            self.at = found.end() if found else len(self._text)
