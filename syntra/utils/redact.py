"""Removes secrets from text: known values, and fields whose names say that they hold a secret.

Pure. A known value is found in every form in which it commonly appears in a log: raw, JSON- or repr-escaped,
percent-encoded, and inside base64 at any alignment (so also in `Basic` credentials).
Lookup uses the first six characters, so a text costs one dictionary lookup per position, however many values there are.
"""

from __future__ import annotations

import base64
import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping

MARK = "[redacted]"
MIN_LENGTH = 6  # shorter values also occur in ordinary words
_MIN_LINE = 12  # of a multi-line value, each line at least this long is also hidden on its own
_PIECE = 1024  # longer values are split into pieces, so that their variants stay small
_MAX_DEPTH = 8

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_USERINFO = re.compile(r"(?<=://)[^/\s?#\"'<>]*@")
_CREDENTIALS = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_ANYWHERE = frozenset({"password", "passwd", "passphrase", "secret", "secrets", "authorization", "credentials"})
_SECRET_ENDING = ("token", "tokens", "password", "passwd", "pwd", "secret", "apikey", "cookie", "credential", "auth")
_ALL_VALUES = frozenset({"env", "env_vars", "environ", "environment"})


class Redactor:
    """A bounded set of secret values, which it removes from texts and mappings.

    Bounded by count and by total length. The oldest values are forgotten first; adding a value again renews it. Call
    `add` from one thread only; `clean` may run in any thread.
    """

    def __init__(self, *, max_values: int = 10_000, max_chars: int = 4 * 1024 * 1024) -> None:
        """`max_chars` counts the raw values; their variants take about fifteen times as much."""
        self._max_values = max_values
        self._max_chars = max_chars
        self._chars = 0
        self._values: OrderedDict[str, None] = OrderedDict()
        self._uses: dict[str, int] = {}  # form -> number of values that have it
        self._index: dict[str, tuple[str, ...]] = {}  # first six characters -> forms, longest first

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Redactor({len(self._values)} values hidden)"

    def add(self, value: str) -> None:
        """Hide `value` from now on. Surrounding spaces are removed; a value shorter than six characters is ignored."""
        value = value.strip()
        if len(value) < MIN_LENGTH or len(value) > self._max_chars or value in MARK:
            return
        if value in self._values:
            self._values.move_to_end(value)
            return
        self._values[value] = None
        self._chars += len(value)
        for form in _forms(value):
            self._uses[form] = self._uses.get(form, 0) + 1
            if self._uses[form] == 1:
                bucket = (*self._index.get(form[:MIN_LENGTH], ()), form)
                self._index[form[:MIN_LENGTH]] = tuple(sorted(bucket, key=len, reverse=True))
        while len(self._values) > self._max_values or self._chars > self._max_chars:
            self._forget()

    def clean(self, text: str) -> str:
        """Replace every known value, URL userinfo and `Bearer`/`Basic` credential in `text` by `[redacted]`."""
        if self._index:
            text = self._without_values(text)
        if "://" in text:
            text = _USERINFO.sub(f"{MARK}@", text)
        return _CREDENTIALS.sub(rf"\1 {MARK}", text)

    def clean_mapping(self, mapping: Mapping[str, object]) -> dict[str, object]:
        """Copy a mapping: replace values under secret-sounding names, clean all other strings, at any depth.

        None, booleans and empty strings stay: they show that a secret is missing. Under `env` and similar names every
        value of a mapping is secret. Nesting deeper than eight levels is replaced by `[redacted]`.
        """
        return self._mapping(mapping, hide_all=False, depth=0)

    def _mapping(self, mapping: Mapping[str, object], *, hide_all: bool, depth: int) -> dict[str, object]:
        cleaned: dict[str, object] = {}
        for name, value in mapping.items():
            name = str(name)
            if value is None or isinstance(value, bool) or value == "":
                cleaned[name] = value
            elif hide_all or is_secret_name(name):
                cleaned[name] = MARK
            else:
                whole = isinstance(value, Mapping) and name.lower() in _ALL_VALUES
                cleaned[name] = self._value(value, hide_all=whole, depth=depth + 1)
        return cleaned

    def _value(self, value: object, *, hide_all: bool, depth: int) -> object:
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, (Mapping, list, tuple)) and depth > _MAX_DEPTH:
            return MARK
        if isinstance(value, Mapping):
            return self._mapping(value, hide_all=hide_all, depth=depth)
        if isinstance(value, (list, tuple)):
            return [self._value(item, hide_all=False, depth=depth + 1) for item in value]
        return value

    def _without_values(self, text: str) -> str:
        index = self._index
        parts: list[str] = []
        done = start = end = 0  # parts holds text[:done]; [start, end) is the current secret
        for position in range(len(text) - MIN_LENGTH + 1):
            for form in index.get(text[position : position + MIN_LENGTH], ()):
                if text.startswith(form, position):
                    if position > end or end == 0:
                        if end:
                            parts += (text[done:start], MARK)
                            done = end
                        start = position
                    # Secrets may overlap: hide their union.
                    end = max(end, position + len(form))
                    break
        if not end:
            return text
        return "".join((*parts, text[done:start], MARK, text[end:]))

    def _forget(self) -> None:
        value, _ = self._values.popitem(last=False)
        self._chars -= len(value)
        for form in _forms(value):
            self._uses[form] -= 1
            if self._uses[form] == 0:
                del self._uses[form]
                bucket = tuple(other for other in self._index[form[:MIN_LENGTH]] if other != form)
                if bucket:
                    self._index[form[:MIN_LENGTH]] = bucket
                else:
                    del self._index[form[:MIN_LENGTH]]


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret: `db_password`, `apiKey`, `X-Auth-Token`, `authorization`, …

    `key` counts only as the last of several words (`api_key`, not `key_path`). Accepts snake, kebab and camel case.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    return (
        not _SECRET_ANYWHERE.isdisjoint(words)
        or words[-1].endswith(_SECRET_ENDING)
        or (len(words) > 1 and words[-1] in ("key", "keys"))
    )


def _forms(value: str) -> set[str]:
    """Every form of every piece of `value`; each has at least six characters."""
    return {form for piece in _pieces(value) for form in _encodings(piece) if len(form) >= MIN_LENGTH}


def _pieces(value: str) -> Iterator[str]:
    for start in range(0, len(value), _PIECE):
        piece = value[start : start + _PIECE]
        yield piece if len(piece) == _PIECE else value[max(0, len(value) - _PIECE) :]
    lines = value.splitlines()
    if len(lines) > 1:
        for line in map(str.strip, lines):
            if len(line) >= _MIN_LINE and not line.startswith("-----"):
                yield from _pieces(line)


def _encodings(value: str) -> Iterator[str]:
    raw = value.encode(errors="replace")
    yield value
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]):
        yield escaped
        # Go's JSON encoder escapes these three.
        yield escaped.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    for safe in (b"", b"/", b"/:@!$&'()*+,;="):
        kept = _UNRESERVED | frozenset(safe)
        for pattern in ("%{:02X}", "%{:02x}"):
            quoted = "".join(chr(byte) if byte in kept else pattern.format(byte) for byte in raw)
            yield quoted
            yield quoted.replace("%20", "+")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        alone = encode(raw).decode()
        yield alone
        yield alone.rstrip("=")
        for shift in range(3):
            # The characters that depend only on the value, when `shift` bytes of a group of three precede it.
            text = encode(bytes(shift) + raw).decode()
            yield text[-(-8 * shift // 6) : 8 * (shift + len(raw)) // 6]
