"""Attributes of usual records of OTLP/JSON: the text of an attribute is the key to its encoded field. Pure.

A list is cut at `}},{"key":"`, the end of an attribute and the beginning of the next. That is right for any valid list
without looking for strings in it: if every piece, with what was cut off, is a list by itself, then the whole list is
these lists one behind the other. Text is UTF-8 read as Latin-1: one character for each byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Raw

from syntra.telemetry.varint import SHORT_VARINTS

_HEAD, _CUT, _TAIL = '[{"key":"', '}},{"key":"', "}}]"
_TEXT, _INTEGER = '","value":{"stringValue":"', '","value":{"intValue":'

_PLAIN = re.compile(r"[ !#-\[\]-~]*")
"""ASCII that JSON writes as it is."""

_REMEMBERED = 1024
_REMEMBERED_CHARS = 160
_MISSED = 50_000
_KEY_CHARS = 64
_TEXT_CHARS = 128

_SIZES = tuple(size.decode("latin-1") for size in SHORT_VARINTS)
_TEXT_HEADS = tuple(f"\x12{_SIZES[1 + len(_SIZES[n]) + n]}\x0a{_SIZES[n]}" for n in range(_TEXT_CHARS))
"""The field of a text value up to the text, by its size."""


class Attributes(dict[str, str]):
    """Encoded fields by the piece of text. It remembers 1024 short pieces, and forgets them after 50,000 others.

    Most attributes of a service have few values, which come first; the others would only push these out.
    """

    def __init__(self, tag: bytes, general: Callable[[Any], bytes]) -> None:
        """`general` encodes a parsed list of attributes; `tag` is the one it writes."""
        super().__init__()
        self._tag = tag.decode("latin-1")
        self._general = general
        self._missed = 0
        self._starts: dict[str, str] = {}
        """The key of an attribute as a field, by its text. Only keys that JSON writes as they are."""

    def encode(self, raw: Raw) -> bytes:
        """Encode the text of a list, valid JSON and valid UTF-8. Raises BadData, or ValueError for what is no list."""
        text = str(raw, "latin-1")
        if text.startswith(_HEAD) and text.endswith(_TAIL):
            try:
                return "".join(map(self.__getitem__, text[9:-3].split(_CUT))).encode("latin-1")
            except orjson.JSONDecodeError:
                # A piece is no list by itself: what looks like a cut is inside a value.
                return self._whole(raw)
        return self._whole(raw)

    def _whole(self, raw: Raw) -> bytes:
        parsed = orjson.loads(bytes(raw))
        return b"" if parsed is None else self._general(parsed)

    def __missing__(self, piece: str) -> str:
        key, _, text = piece.partition(_TEXT)
        start = self._starts.get(key)
        size = len(text) - 1
        # The only quotation mark is the last character, so the text before it is the value.
        if start is not None and 0 <= size < _TEXT_CHARS and text.find('"') == size and "\\" not in text:
            head = _TEXT_HEADS[size]
            field = f"{self._tag}{_SIZES[len(start) + len(head) + size]}{start}{head}{text[:-1]}"
        else:
            field = self._other(piece)
        if len(self) < _REMEMBERED:
            if len(piece) <= _REMEMBERED_CHARS:
                self[piece] = field
        elif self._missed < _MISSED:
            self._missed += 1
        else:
            self._missed = 0
            self.clear()
        return field

    def _other(self, piece: str) -> str:
        key, _, text = piece.partition(_INTEGER)
        start = self._starts.get(key)
        if start is not None:
            digits = text[1:-1] if text[:1] == text[-1:] == '"' else text if text[:1] != "0" else ""
            if len(digits) < 7 and digits.isdecimal() and digits.isascii():
                value = _varint(int(digits))
                size = len(value)
                return f"{self._tag}{_SIZES[len(start) + 3 + size]}{start}\x12{_SIZES[1 + size]}\x18{value}"
        parsed = orjson.loads((_HEAD + piece + _TAIL).encode("latin-1"))
        self._learn(parsed[0].get("key"))
        return self._general(parsed).decode("latin-1")

    def _learn(self, key: object) -> None:
        """Remember a key whose text is the key itself."""
        if type(key) is not str or len(key) > _KEY_CHARS or _PLAIN.fullmatch(key) is None:
            return
        if len(self._starts) >= _REMEMBERED:
            self._starts.clear()
        self._starts[key] = f"\x0a{_SIZES[len(key)]}{key}"


def _varint(number: int) -> str:
    if number < len(_SIZES):
        return _SIZES[number]
    return chr(number & 127 | 128) + chr(number >> 7 & 127 | 128) + chr(number >> 14)
