"""The environment of a service: values, and references to the agent's secrets, as `{"secret": "db_url"}`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json, as_mapping
from syntra.model.spec import AGENT_ENV

MAX_SECRET_BYTES = 64 * 1024
_ENV_KEY = re.compile(r"[^=\s\x00-\x1f]{1,255}")
_SECRET_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?")

SecretReferences = tuple[tuple[str, str], ...]
"""Variables and the names of their secrets, sorted."""


def parse_env(source: Fields, *keys: str) -> dict[str, str]:
    """An environment: names checked, values text; raises InvalidField, never with a value in it."""
    env = source.text_map(*keys)
    path, _ = source.raw(*keys)
    for key in env:
        _check_key(path, key)
    return env


def parse_spec_env(source: Fields) -> tuple[dict[str, str], SecretReferences]:
    """The values of a service's environment, and its references to secrets. Raises InvalidField."""
    key = "env_vars" if source.has("env_vars") else "env"
    path, value = source.raw(key)
    given = as_mapping(path, value) if value is not None else {}
    references = {
        name: _reference(f"{path}.{name[:60]}", item) for name, item in given.items() if isinstance(item, Mapping)
    }
    for name in references:
        _check_key(path, name)
    plain = {name: item for name, item in given.items() if name not in references}
    # What is stored has the value in the environment, and the reference beside it.
    path, value = source.raw("env_secrets")
    for name, item in (as_mapping(path, value) if value is not None else {}).items():
        references[name] = secret_name(f"{path}.{name[:60]}", item)
    env = parse_env(Fields({key: plain}, source.path), key)
    return (
        {name: item for name, item in env.items() if name not in AGENT_ENV},
        tuple(sorted((name, secret) for name, secret in references.items() if name not in AGENT_ENV)),
    )


def secret_name(path: str, value: Json) -> str:
    """The value as a secret's name; raises InvalidField."""
    if not isinstance(value, str) or _SECRET_NAME.fullmatch(value) is None:
        # Without it: someone may have written the secret itself.
        raise InvalidField(path, "is not a secret's name (letters, digits, `_`, `.`, `-`; ≤ 63)")
    return value


def _reference(path: str, item: Mapping[str, Json]) -> str:
    if set(item) != {"secret"}:
        raise InvalidField(path, "an object is not a string; a secret is {secret: NAME}")
    return secret_name(f"{path}.secret", item["secret"])


def _check_key(path: str, key: str) -> None:
    if _ENV_KEY.fullmatch(key) is None:
        # What is behind a `=` is a value that slipped in, and may be a secret.
        shown = key.partition("=")[0][:60]
        raise InvalidField(path, f"{shown!r} is not a variable name (no `=`, no spaces; 1–255 characters)")
