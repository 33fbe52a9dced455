"""Messages of agents as JSON text within a limit of bytes. Pure."""

from __future__ import annotations

import json

from syntra.controlplane.records import JsonObject

# A member of this size is kept in a message that is too large: ids, states, sentences.
_SMALL_MEMBER = 4096
_NAMED = 16
_ROOM_FOR_NAMES = 16 * 1024


def fitted(message: JsonObject, limit: int) -> str:
    """Return the message as ASCII JSON of at most `limit` bytes (32 KiB or more).

    A larger message keeps its small members, so that a failed deployment is still reported as failed. Its member
    `omitted` then has the first names of the members that were left out.
    """
    text = json.dumps(dict(message))
    if len(text) <= limit:
        return text
    kept: dict[str, object] = {}
    omitted: list[str] = []
    room = limit - _ROOM_FOR_NAMES
    for name, value in message.items():
        size = len(json.dumps({name: value}))
        if size <= _SMALL_MEMBER and size <= room:
            kept[name] = value
            room -= size
        elif len(omitted) < _NAMED:
            omitted.append(name[:64])
    return json.dumps({**kept, "omitted": omitted})
