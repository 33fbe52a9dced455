"""Reads headers as OTEL_EXPORTER_OTLP_HEADERS has them: `name=value,name2=value2`, values percent-encoded.

Pure. The format is W3C Baggage without properties (OpenTelemetry, "OTLP exporter", "Specifying headers via environment
variables"). Values are secrets: no error contains one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from syntra.utils.errors import AgentError
from syntra.utils.redact import Redactor

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED = frozenset({"connection", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"})


def parse_headers(text: str, *, of: str = "telemetry.export") -> tuple[tuple[str, str], ...]:
    """Names in lower case, and values. Empty entries are skipped; of a name given twice the last value counts.

    Raises AgentError, which names the entry by its number, or by its name if that is valid; `of` is the setting.
    """
    found: dict[str, str] = {}
    for number, entry in enumerate(text.split(","), start=1):
        if not entry.strip():
            continue
        raw_name, separator, raw_value = entry.partition("=")
        name = unquote(raw_name.strip()).lower()
        if not separator or not _NAME.fullmatch(name):
            raise _wrong(of, f"entry {number} is not name=value")
        if name in _RESERVED or name.startswith(("content-", "grpc-")):
            raise _wrong(of, f"the agent sets {name} itself; remove it")
        try:
            value = unquote(raw_value.strip(), errors="strict")
        except UnicodeDecodeError:
            raise _wrong(of, f"the value of {name} is not UTF-8 when its percent-encoding is removed") from None
        if not (value.isascii() and value.isprintable()):
            raise _wrong(of, f"the value of {name} contains characters that a header must not have")
        found[name] = value
    return tuple(found.items())


def redactor_of(headers: Iterable[tuple[str, str]]) -> Redactor:
    """Removes the values from texts, and each word of them: of `Bearer x`, peers repeat `x`."""
    redactor = Redactor()
    for _, value in headers:
        for secret in (value, *value.split()):
            redactor.add(secret)
    return redactor


def _wrong(of: str, reason: str) -> AgentError:
    return AgentError(f"cannot read the headers of {of}: {reason}; write name=value,name2=value2")
