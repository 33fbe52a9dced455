"""Attributes of usual records of OTLP/JSON: the text of an attribute is the key to its encoded field. Pure.

A list is cut at `"}},{"key":"`, the end of an attribute with a text and the beginning of the next; other attributes are
cut at `}},{"key":"`. That is right for any valid list without looking for strings in it: if every piece, with what was
cut off, is a list by itself, then the whole list is these lists one behind the other. Text is UTF-8 read as Latin-1:
one character for each byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Raw

from syntra.telemetry.varint import SHORT_VARINTS

_HEAD, _CUT, _TAIL = '[{"key":"', '}},{"key":"', "}}]"
_TEXT_CUT, _TEXT_TAIL = '"' + _CUT, '"' + _TAIL
_VALUE = 'Value":"'
_TEXT, _INTEGER = '","value":{"string', '","value":{"int'
"""What is between the key and `_VALUE`."""

_PLAIN = re.compile(r"[ !#-\[\]-~]*")
"""ASCII that JSON writes as it is."""

_REMEMBERED = 1024
_REMEMBERED_CHARS = 160
_REMEMBERED_TEXTS = 4096
_LISTS = 20_000
_KEY_CHARS = 64
_TEXT_CHARS = 128

_SIZES = tuple(size.decode("latin-1") for size in SHORT_VARINTS)
_TEXT_HEADS = tuple(f"\x12{_SIZES[1 + len(_SIZES[n]) + n]}\x0a{_SIZES[n]}" for n in range(_TEXT_CHARS))
"""The field of a text value up to the text, by its size."""


class Attributes:
    """Encodes lists of attributes. It remembers 1024 short pieces, and forgets them after 20,000 lists.

    Most attributes of a service have few values, which come first; the others would only push these out. Of the others
    it remembers the beginning of the field, by the key and the length of the value.
    """

    def __init__(self, tag: bytes, general: Callable[[Any], bytes]) -> None:
        """`general` encodes a parsed list of attributes; `tag` is the one it writes."""
        self._tag = tag.decode("latin-1")
        self._general = general
        self._lists = 0
        self._known: dict[str, str] = {}
        """Fields by their pieces. A piece that is cut behind a quotation mark never equals one that is cut before."""
        self._texts: dict[tuple[str, int], str] = {}
        """The field of a text up to the text, by what is before the value and the value's length."""
        self._integers: dict[str, tuple[str, ...]] = {}
        """The field of an integer up to the number, by what is before the value; one for each length of the number."""
        self._made = self._maker()

    def encode(self, raw: Raw) -> bytes:
        """Encode the text of a list, valid JSON and valid UTF-8. Raises BadData, or ValueError for what is no list."""
        text = str(raw, "latin-1")
        if text[:9] != _HEAD or text[-3:] != _TAIL:
            return self._whole(raw) if text != "[]" else b""
        self._lists += 1
        if self._lists >= _LISTS:
            self._lists = 0
            self._known.clear()
        try:
            if text[-4] == '"':
                known, made = self._known.get, self._made
                pieces = text[9:-4].split(_TEXT_CUT)
                return "".join([known(piece) or made(piece) for piece in pieces]).encode("latin-1")
            return self._each(text[9:-3]).encode("latin-1")
        except orjson.JSONDecodeError:
            # A piece is no list by itself: what looks like a cut is inside a value.
            return self._whole(raw)

    def _whole(self, raw: Raw) -> bytes:
        parsed = orjson.loads(bytes(raw))
        return b"" if parsed is None else self._general(parsed)

    def _maker(self) -> Callable[[str], str]:
        """The function that encodes the piece of a text that is not remembered. A closure, because it runs often."""
        known, texts = self._known, self._texts
        integer, other = self._integer, self._other

        def made(piece: str) -> str:
            before, _, value = piece.partition(_VALUE)
            head = texts.get((before, len(value)))
            if head is not None and '"' not in value and "\\" not in value:
                field = head + value
            else:
                field = integer(before, value) or other(piece, before, value)
            if len(known) < _REMEMBERED and len(piece) <= _REMEMBERED_CHARS:
                known[piece] = field
            return field

        return made

    def _integer(self, before: str, digits: str) -> str:
        """The field of a small integer; empty for anything else."""
        heads = self._integers.get(before)
        if heads is None or len(digits) > 6 or not digits.isdecimal() or not digits.isascii():
            return ""
        number = int(digits)
        if number < len(_SIZES):
            encoded = _SIZES[number]
            return heads[len(encoded)] + encoded
        return f"{heads[3]}{chr(number & 127 | 128)}{chr(number >> 7 & 127 | 128)}{chr(number >> 14)}"

    def _other(self, piece: str, before: str, value: str) -> str:
        if _CUT in piece:
            return self._each(piece + '"')
        field, key = self._parsed(piece + '"')
        self._learn(key, before, value)
        return field

    def _each(self, pieces: str) -> str:
        """The fields of pieces of which not all are texts."""
        fields = []
        for piece in pieces.split(_CUT):
            if piece[-1:] == '"':
                piece = piece[:-1]
                field = self._known.get(piece) or self._made(piece)
            else:
                field = self._known.get(piece) or self._number(piece)
                if len(self._known) < _REMEMBERED and len(piece) <= _REMEMBERED_CHARS:
                    self._known[piece] = field
            fields.append(field)
        return "".join(fields)

    def _number(self, piece: str) -> str:
        """The field of an attribute that does not end with a text."""
        before, _, value = piece.partition(_VALUE[:-1])
        field = self._integer(before, value) if value[:1] != "0" else ""
        if field:
            return field
        field, key = self._parsed(piece)
        self._learn(key, before, value)
        return field

    def _parsed(self, piece: str) -> tuple[str, object]:
        """The field of a piece that is a list by itself, and the key in it."""
        parsed = orjson.loads((_HEAD + piece + _TAIL).encode("latin-1"))
        return self._general(parsed).decode("latin-1"), parsed[0].get("key")

    def _learn(self, key: object, before: str, value: str) -> None:
        """Remember what is before a value, if the key's text is the key itself."""
        if type(key) is not str or len(key) > _KEY_CHARS or _PLAIN.fullmatch(key) is None:
            return
        start = f"\x0a{_SIZES[len(key)]}{key}"
        size = len(value)
        if before == key + _TEXT and size < _TEXT_CHARS:
            if len(self._texts) >= _REMEMBERED_TEXTS:
                self._texts.clear()
            head = _TEXT_HEADS[size]
            self._texts[before, size] = f"{self._tag}{_SIZES[len(start) + len(head) + size]}{start}{head}"
        elif before == key + _INTEGER:
            if len(self._integers) >= _REMEMBERED:
                self._integers.clear()
            self._integers[before] = tuple(
                f"{self._tag}{_SIZES[len(start) + 3 + length]}{start}\x12{_SIZES[1 + length]}\x18"
                for length in range(4)
            )
