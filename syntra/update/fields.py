"""Reads the small JSON documents of a release: known types, limited sizes, sentences for what is wrong. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from syntra.utils.errors import AgentError
from syntra.utils.timestamps import parse_ns

PRODUCT = "syntra-agent"
SCHEMA = 1


class Malformed(ValueError):
    """A document that is not what it should be; the text says which field and why."""


class Document:
    """A JSON object. Unknown fields are ignored, so that later releases can add some."""

    def __init__(self, value: object, name: str) -> None:
        """`name` is what errors call it. Raises Malformed when `value` is not an object."""
        if not isinstance(value, Mapping):
            raise Malformed(f"{name} is not a JSON object")
        self._value = value
        self._name = name

    @classmethod
    def parse(cls, data: bytes, name: str) -> Document:
        """The document of this product and schema. Raises Malformed."""
        try:
            document = cls(json.loads(data), name)
        except (ValueError, RecursionError) as broken:
            if isinstance(broken, Malformed):
                raise
            raise Malformed(f"{name} is not JSON") from broken
        product = document.text("product")
        if product != PRODUCT:
            raise Malformed(f"{name} is of the product {product!r}, not {PRODUCT}")
        schema = document.integer("schema", high=1_000_000)
        if schema != SCHEMA:
            raise Malformed(f"{name} has schema {schema}, which this version cannot read")
        return document

    def text(self, field: str, pattern: str = r"[ -~]{1,200}") -> str:
        """A text that matches `pattern` as a whole; printable ASCII by default."""
        value = self._value.get(field)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise Malformed(f"{self._name}: {field} is missing or invalid")
        return value

    def integer(self, field: str, *, low: int = 0, high: int) -> int:
        """A whole number in a range."""
        value = self._value.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Malformed(f"{self._name}: {field} is missing or invalid")
        return value

    def moment(self, field: str) -> float:
        """An RFC 3339 time, as seconds since the epoch."""
        try:
            nanoseconds = parse_ns(self.text(field))
        except AgentError as broken:
            raise Malformed(f"{self._name}: {field} is not a time") from broken
        if nanoseconds is None:
            raise Malformed(f"{self._name}: {field} is not a time")
        return nanoseconds / 1e9

    def objects(self, field: str, *, at_most: int) -> list[Document]:
        """A list of objects."""
        return [
            Document(one, f"{self._name}: {field}[{index}]") for index, one in enumerate(self._list(field, at_most))
        ]

    def texts(self, field: str, pattern: str, *, at_most: int) -> tuple[str, ...]:
        """A list of texts, each matching `pattern`; a missing list is empty."""
        values = self._list(field, at_most) if field in self._value else []
        for value in values:
            if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
                raise Malformed(f"{self._name}: {field} is invalid")
        return tuple(map(str, values))

    def _list(self, field: str, at_most: int) -> list[object]:
        value = self._value.get(field)
        if not isinstance(value, list) or len(value) > at_most:
            raise Malformed(f"{self._name}: {field} is missing or invalid")
        return value
