"""Builds request paths and queries, with quoting. Pure.

The engine's router normalises paths before it matches them, so an empty name or a `..` would address another resource.
Such names are refused here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from syntra.runtime.docker.errors import DockerError

QueryValue = str | int | bool | Mapping[str, object]
Query = Mapping[str, QueryValue | None]


def path(*segments: str) -> str:
    """`/a/b/c` with every segment quoted, including slashes in it."""
    for segment in segments:
        if not segment or any(part in ("", ".", "..") for part in segment.split("/")):
            what = "/".join(segments[:1])
            raise DockerError(f"cannot address {what}: {segment!r} is not a name; give a name or an id")
    return "".join("/" + quote(segment, safe="") for segment in segments)


def encode_query(query: Query | None) -> str:
    """`?a=b&…`, or "" when empty. True becomes 1, False 0, None is left out, mappings (filters) become JSON."""
    items: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        if value is None:
            continue
        if isinstance(value, bool):
            value = int(value)
        items.append((name, json.dumps(value) if isinstance(value, Mapping) else str(value)))
    return "?" + urlencode(items) if items else ""


def label_filter(labels: Mapping[str, str | None]) -> list[str]:
    """Labels in the form of the engine's filters; None matches any value."""
    return [name if value is None else f"{name}={value}" for name, value in labels.items()]
