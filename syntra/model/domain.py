"""Domains as services ask for them: one ASCII spelling, checked as the proxy rule and the certificate they become."""

from __future__ import annotations

import re

from syntra.model.errors import InvalidField

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# RFC 1123 section 2.1; two labels or more, with one leading `*.` for every name right below it.
_DOMAIN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})+")
_LENGTH_MAX = 253


def is_domain(text: str) -> bool:
    """Whether the text is a domain in its one spelling: lower-case ASCII, no dot at the end, at most 253 characters."""
    return len(text) <= _LENGTH_MAX and _DOMAIN.fullmatch(text) is not None


def read_domain(path: str, text: str) -> str:
    """The one spelling of a domain that a person wrote: lower case, names in other scripts as punycode (UTS 46).

    `*.example.com` stands for every name one level below. Raises InvalidField.
    """
    ascii_form = text.lower() if text.isascii() else _punycode(text)
    if ascii_form is None or not is_domain(ascii_form):
        raise InvalidField(path, f"{text[:80]!r} is not a domain name")
    return ascii_form


def _punycode(text: str) -> str | None:
    # Its tables are large, and nearly every domain is ASCII.
    import idna

    wildcard = "*." if text.startswith("*.") else ""
    try:
        return wildcard + idna.encode(text.removeprefix("*."), uts46=True).decode("ascii")
    except idna.IDNAError:
        return None
