"""Paths inside containers and on the host, in their one spelling."""

from __future__ import annotations


def absolute_path(text: str, *, outside: tuple[str, ...] = ()) -> str | None:
    """The path in its one plain spelling, which is the engine's too; None when it is not absolute or has a `..`.

    `outside` names folders of the root that it may not be in.
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not text.startswith("/") or ".." in parts or (parts and parts[0] in outside):
        return None
    return "/" + "/".join(parts)
