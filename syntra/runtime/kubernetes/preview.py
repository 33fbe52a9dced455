"""What applying objects would change in the cluster, without the values of Secrets. Pure.

The wanted side is the API server's own answer to a dry run, so its defaults are no changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from syntra.model.fields import Json
from syntra.runtime.kubernetes.objects import Object, mapping, text

MASK = "***"
# Of the API server and the controllers, not of the one who applies.
_IGNORED = frozenset(
    {
        "managedFields",
        "resourceVersion",
        "generation",
        "uid",
        "creationTimestamp",
        "status",
        "deployment.kubernetes.io/revision",
    }
)
MOST_CHARS = 80


def object_name(obj: Object) -> str:
    """An object in words, such as `Deployment syntra-shop/web`."""
    namespace = text(obj, "metadata", "namespace")
    name = text(obj, "metadata", "name")
    return f"{text(obj, 'kind')} {namespace}/{name}" if namespace else f"{text(obj, 'kind')} {name}"


def masked(obj: Object) -> Object:
    """An object to show: the values of a Secret are replaced."""
    if text(obj, "kind") != "Secret":
        return obj
    shown = dict(obj)
    for part in ("data", "stringData"):
        if part in obj:
            shown[part] = dict.fromkeys(mapping(obj, part), MASK)
    return shown


def changes(live: Object | None, wanted: Object) -> list[str]:
    """The changes of one object, one sentence each; `created` for a new one."""
    if live is None:
        return ["created"]
    # Values are compared before they are hidden: a changed secret is a change.
    is_secret = text(wanted, "kind") == "Secret"
    return [_sentence(path, old, new, is_secret=is_secret) for path, old, new in _differences("", live, wanted)]


def _differences(path: str, old: Json, new: Json) -> Iterator[tuple[str, Json, Json]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in _IGNORED:
                yield from _differences(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{index}]", before, after)
    elif old != new:
        yield path, old, new


def _sentence(path: str, old: Json, new: Json, *, is_secret: bool) -> str:
    if is_secret and path.startswith(("data.", "stringData.")):
        return f"{path} changed"
    if old is None:
        return f"{path} added: {_shown(new)}"
    if new is None:
        return f"{path} removed"
    return f"{path}: {_shown(old)} → {_shown(new)}"


def _shown(value: Json) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return shown if len(shown) <= MOST_CHARS else f"{shown[: MOST_CHARS - 1]}…"
