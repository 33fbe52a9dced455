"""One value, checked against its key: from TOML (typed) or from a variable (text). Pure.

Raises `ValueError` with the reason only; the loader adds the file or variable and the key. A reason quotes numbers and
short choices, never free text: a token pasted into the wrong field must not reach a terminal or a journal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from syntra.agent.config.schema import Key, Kind
from syntra.agent.config.suggest import hint

_TYPE_NAMES: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    dict: "a table",
}

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECRET_QUERY = re.compile(r"token|secret|passw|auth|key|credential", re.IGNORECASE)

SOCKET_PATH_MAX = 107
"""sizeof(sun_path) is 108 with the closing NUL (unix(7))."""

QUOTED_MAX = 24


def from_toml(key: Key, value: object) -> str | int | float:
    """The checked value of a TOML value."""
    match key.kind:
        case Kind.INTEGER | Kind.PORT:
            if type(value) is not int:
                raise ValueError(f"expected a whole number, got {type_name(value)}")
            return _in_range(key, value)
        case Kind.NUMBER:
            if type(value) is not int and type(value) is not float:
                raise ValueError(f"expected a number, got {type_name(value)}")
            return float(_in_range(key, value))
        case _:
            if type(value) is not str:
                raise ValueError(f"expected a text in quotes, got {type_name(value)}")
            return _text(key, value)


def from_text(key: Key, text: str) -> str | int | float:
    """The checked value of a variable or command line option."""
    match key.kind:
        case Kind.INTEGER | Kind.PORT:
            if not _INTEGER.fullmatch(text):
                raise ValueError("expected a whole number")
            return _in_range(key, int(text))
        case Kind.NUMBER:
            if not _NUMBER.fullmatch(text):
                raise ValueError("expected a number")
            return _in_range(key, float(text))
        case _:
            return _text(key, text)


def type_name(value: object) -> str:
    """What a TOML value is, in a person's words."""
    return _TYPE_NAMES.get(type(value), "a date or time")


def token(text: str) -> str:
    """A credential as it will stand in an Authorization header; one trailing line end is forgiven."""
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("is empty")
    if not _TOKEN.fullmatch(text):
        raise ValueError("is not a token: only printable ASCII without spaces, at most 4096 characters")
    return text


def _in_range(key: Key, value: int | float) -> int | float:
    if key.kind is Kind.PORT:
        if not 1 <= value <= 65535:
            raise ValueError(f"{value} is not a port (1–65535)")
        return value
    # False for NaN too, and safe for integers that no float can hold.
    if not key.minimum <= value <= key.maximum:
        shown = f"{value:g}" if abs(value) < 1e15 else "the number"
        raise ValueError(f"{shown} is out of range ({key.minimum:g}–{key.maximum:g})")
    return value


def _text(key: Key, text: str) -> str:
    match key.kind:
        case Kind.NAME:
            if not _NAME.fullmatch(text):
                raise ValueError("is not a name: 1 to 64 letters, digits, dots, dashes and underscores")
            return text
        case Kind.PATH:
            return _path(text)
        case Kind.SOCKET:
            if text == "" and key.default == "":
                return text
            path = _path(text.removeprefix("unix://"))
            if len(path.encode(errors="surrogateescape")) > SOCKET_PATH_MAX:
                raise ValueError(f"is too long for a socket: at most {SOCKET_PATH_MAX} bytes")
            return path
        case Kind.URL:
            return _url(text)
        case Kind.SECRET:
            return token(text)
        case Kind.CHOICE:
            return _choice(key, text)
        case _:
            raise AssertionError(f"{key.kind} cannot come here because numbers have their own branch")


def _choice(key: Key, text: str) -> str:
    if text in key.choices:
        return text
    quoted = f"{text!r} is not" if len(text) <= QUOTED_MAX and not text.startswith("syn_") else "is not"
    raise ValueError(f"{quoted} one of {', '.join(key.choices)}{hint(text, key.choices)}")


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is not an absolute path: it must start with /")
    if _CONTROL.search(text):
        raise ValueError("holds a control character")
    return text


def _url(text: str) -> str:
    if _CONTROL.search(text) or " " in text or not text.isascii():
        raise ValueError("is not an address: it holds spaces, control or non-ASCII characters")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not an address: host or port cannot be read") from None
    if parts.scheme not in ("ws", "wss"):
        raise ValueError("must start with wss:// (or ws:// without TLS)")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or password; put the token into control_plane.token_file")
    if not host or port == 0:
        raise ValueError("has no host" if not host else "0 is not a port (1–65535)")
    if parts.fragment:
        raise ValueError("must not hold a #fragment (RFC 6455 section 3)")
    if any(_SECRET_QUERY.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError("must not hold a token in its query; put the token into control_plane.token_file")
    return text
