"""Overrides from the environment: SYNTRA_<SECTION>__<KEY>, or SYNTRA_<KEY> for the top level. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.schema import BY_VARIABLE, KEYS, NOT_KEYS, PREFIX, Key, Value
from syntra.agent.config.suggest import nearest
from syntra.agent.config.values import from_text


def overrides(environ: Mapping[str, str]) -> dict[Key, Value]:
    """The checked values of every key that has a variable; an empty variable counts as absent.

    A name of ours that is no key is refused when it has our two underscores or comes near a key: a typing slip in a
    unit file must not go unnoticed. Other SYNTRA_ names are left alone, they may belong to another program.
    """
    found: dict[Key, Value] = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        key = BY_VARIABLE.get(name)
        if key is not None and environ[name]:
            try:
                found[key] = from_text(key, environ[name])
            except ValueError as exc:
                raise ConfigurationError("from the environment", f"{name}: {exc}") from exc
        elif key is None and name not in NOT_KEYS:
            meant = _meant(name)
            if meant or "__" in name:
                suggestion = f", did you mean {meant}?" if meant else ""
                shown = name if name.isprintable() and len(name) <= 80 else ascii(name)[:80]
                raise ConfigurationError("from the environment", f"{shown}: no such key{suggestion}")
    return found


def _meant(name: str) -> str | None:
    """SYNTRA_TOKEN means control_plane.token; otherwise the nearest variable, if one is near."""
    for key in KEYS:
        if name.removeprefix(PREFIX).lower() in (key.name, key.dotted.replace(".", "_")):
            return key.variable
    # Compared without the prefix, which would make every name look alike.
    near = nearest(name.removeprefix(PREFIX), [key.variable.removeprefix(PREFIX) for key in KEYS])
    return PREFIX + near if near else None
