"""Checks one value against its key: from TOML (typed) or from a variable (text). Pure.

Raises `ValueError` with the reason only; the loader adds the file or variable and the key. A reason quotes numbers and
short choices, never free text: a token pasted into the wrong field must not reach a terminal or a journal.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit

from syntra.agent.config.schema import LISTS, Key, Kind, Value
from syntra.agent.config.scrape import ENTRIES_MAX, scrape_entry, scrape_texts
from syntra.agent.config.suggest import hint
from syntra.model.errors import InvalidField
from syntra.model.image import make_image, split_image
from syntra.networking.traefik_static import parse_listener

_TYPE_NAMES: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    dict: "a table",
}

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ENTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Kubernetes: a DNS subdomain; a namespace is a DNS label.
_SUBDOMAIN = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_OBJECT = re.compile(_SUBDOMAIN)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_GATEWAY = re.compile(rf"(?:{_LABEL}/)?{_SUBDOMAIN}")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
_LIST_MAX = 16
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
_SECRET_QUERY = re.compile(r"token|secret|passw|auth|key|credential", re.IGNORECASE)

SOCKET_PATH_MAX = 107
"""sizeof(sun_path) is 108 with the closing NUL (unix(7))."""

QUOTED_MAX = 24


def from_toml(key: Key, value: object) -> Value:
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
        case kind if kind in LISTS:
            if not isinstance(value, list):
                raise ValueError(f"expected a list of strings, got {type_name(value)}")
            for item in value:
                if type(item) is not str:
                    raise ValueError(f"expected a list of strings, got {type_name(item)} in it")
            return _texts(key, value)
        case Kind.SCRAPES:
            if not isinstance(value, list):
                raise ValueError(f"expected tables [[{key.dotted}]], got {type_name(value)}")
            return _scrapes(value)
        case _:
            if type(value) is not str:
                raise ValueError(f"expected a quoted string, got {type_name(value)}")
            return _text(key, value)


def from_text(key: Key, text: str) -> Value:
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
        case kind if kind in LISTS:
            return _texts(key, [item.strip() for item in text.split(",")])
        case Kind.SCRAPES:
            return _scrapes(scrape_texts(text))
        case _:
            return _text(key, text)


def type_name(value: object) -> str:
    """The type of a TOML value, for error messages."""
    return _TYPE_NAMES.get(type(value), "a date or time")


def token(text: str) -> str:
    """Check a credential for the Authorization header; one trailing newline is removed."""
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
    # False for NaN too, and safe for integers too large for a float.
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
        case Kind.OPTIONAL_PATH:
            return _path(text) if text else text
        case Kind.URL:
            return _url(text)
        case Kind.HTTP_URL:
            return _http_url(text)
        case Kind.OPTIONAL_HTTP_URL:
            return _http_url(text) if text else text
        case Kind.ENTRY:
            return _entry(text) if text else text
        case Kind.OBJECT:
            return _object(text) if text else text
        case Kind.GATEWAY:
            return _gateway(text) if text else text
        case Kind.EMAIL:
            return _email(text) if text else text
        case Kind.IMAGE:
            return _image(text)
        case Kind.WINDOW:
            return _window(text) if text else text
        case Kind.SECRET:
            return token(text)
        case Kind.CHOICE:
            return _choice(key, text)
        case _:
            raise AssertionError(f"{key.kind} cannot come here because numbers have their own branch")


def _texts(key: Key, items: list[str]) -> tuple[str, ...]:
    if not key.minimum <= len(items) <= _LIST_MAX:
        raise ValueError(f"expected {key.minimum:g} to {_LIST_MAX} entries, got {len(items)}")
    if len(set(items)) < len(items):
        raise ValueError("contains a duplicate entry")
    if key.kind is Kind.CHOICES:
        return tuple(_choice(key, item) for item in items)
    check = {
        Kind.ENTRIES: _entry,
        Kind.ADDRESSES: _address,
        Kind.LISTENERS: _listener,
        Kind.ORIGINS: _origin,
        Kind.NAMESPACES: _namespace,
    }
    return tuple(check[key.kind](item) for item in items)


def _scrapes(items: list[object]) -> tuple[str, ...]:
    if len(items) > ENTRIES_MAX:
        raise ValueError(f"expected at most {ENTRIES_MAX} entries, got {len(items)}")
    entries = tuple(scrape_entry(item) for item in items)
    if len(set(entries)) < len(entries):
        raise ValueError("contains a duplicate entry")
    return entries


def _listener(text: str) -> str:
    listener = parse_listener(text)
    return f"{listener.name}={listener.address}"


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text) or len(text) > 254:
        raise ValueError("is not an e-mail address")
    return text


def _image(text: str) -> str:
    try:
        return str(make_image(lambda part: part, split_image(text)))
    except InvalidField as wrong:
        raise ValueError(f"is not an image, such as traefik:v3.7.13: its {wrong.field} is wrong") from None


def _window(text: str) -> str:
    if not _WINDOW.fullmatch(text) or text[:5] == text[6:]:
        raise ValueError("is not a time of day from and to, such as 02:00-05:00")
    return text


def _entry(text: str) -> str:
    if not _ENTRY.fullmatch(text):
        raise ValueError("is not a name of the proxy's: 1 to 64 letters, digits, dashes and underscores")
    return text


def _object(text: str) -> str:
    if not _OBJECT.fullmatch(text):
        raise ValueError("is not the name of an object: small letters, digits, dashes and dots")
    return text


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise ValueError("is not the name of a namespace, such as syntra-shop")
    return text


def _gateway(text: str) -> str:
    if not _GATEWAY.fullmatch(text):
        raise ValueError("is not the name of a Gateway, such as main or edge/main")
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("holds what is not an IP address") from None


def _origin(text: str) -> str:
    """An origin as browsers send it (RFC 6454 section 6.1), or `*`."""
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise ValueError("holds what is not an origin, such as https://shop.example.com")
    return text


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


def _http_url(text: str) -> str:
    parts = _address_parts(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment")
    if not parts.hostname or parts.port == 0:
        raise ValueError("has no host" if not parts.hostname else "0 is not a port (1–65535)")
    return text.rstrip("/")


def _url(text: str) -> str:
    parts = _address_parts(text)
    host, port = parts.hostname, parts.port
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


def _address_parts(text: str) -> SplitResult:
    """Split a URL, and check that its host and port are valid."""
    if _CONTROL.search(text) or " " in text or not text.isascii():
        raise ValueError("is not an address: it holds spaces, control or non-ASCII characters")
    try:
        parts = urlsplit(text)
        _ = (parts.hostname, parts.port)
    except ValueError:
        raise ValueError("is not an address: host or port cannot be read") from None
    return parts
