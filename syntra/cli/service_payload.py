"""Converts the content of a service file to the `deploy` payload of the wire contract.

A file may use the contract's nested shape or the same keys flat, and omit keys that have a default. This module checks
the names of keys and gives hints; the agent's own parser checks the values, so both always agree.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
from collections.abc import Callable, Mapping

from syntra.agent.config.suggest import hint
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.spec_payload import parse_deployment, render_deployment

Place = tuple[str | int, ...]
Spellings = Mapping[Place, str]

_ROOT = {
    "service_id": "service_id",
    "service_name": "service_name",
    "name": "service_name",
    "project_name": "project_name",
    "project": "project_name",
    "deployment_id": "deployment_id",
    "image": "image",
    "strategy": "strategy",
    "canary": "canary",
    "rollback_on_failure": "rollback_on_failure",
    "timeout_seconds": "timeout_seconds",
    "timeout": "timeout_seconds",
}
_CONFIG = {
    "port": "port",
    "replicas": "replicas",
    "cpu_limit": "cpu_limit",
    "memory_limit": "memory_limit",
    "command": "command",
    "env_vars": "env_vars",
    "env": "env_vars",
    "labels": "labels",
    "volumes": "volumes",
    "health_check": "health_check",
}
_NETWORKING = {
    name: name
    for name in (
        *("domains", "internal_hostname", "expose_port"),
        *("path_prefix", "strip_prefix", "priority", "sticky", "response_headers", "rate_limit"),
    )
}
_SECTIONS = {"config": _CONFIG, "networking": _NETWORKING}
_IMAGE = ("registry", "repository", "tag", "digest")
_VOLUME = ("name", "host_path", "container_path", "read_only")
_HEALTH = (
    *("type", "path", "port", "command"),
    *("interval_seconds", "timeout_seconds", "retries", "start_period_seconds", "restart_unhealthy"),
)
_RATE_LIMIT = ("average", "burst")
_CANARY = ("steps", "max_error_percent", "min_requests")
_CANARY_STEP = ("percent", "hold_seconds")
_SECRETS = ("registry_auth", "registry_password", "password")
_ID_MAX = 80
"""The longest readable part of a generated service id: with prefix and digest it fits into an id's 100 characters."""

_STEP = re.compile(r"[^.\[\]]+")


class ServiceMistake(Exception):
    """An error and its place in the file; `place` is empty for a missing field."""

    def __init__(self, place: Place, reason: str, *, name: str = "") -> None:
        super().__init__(f"{dotted(place) or name}: {reason}" if place or name else reason)
        self.place = place


def build_payload(value: object, *, stem: str, spellings: Spellings) -> dict[str, object]:
    """The complete payload of a parsed file. `stem` is the file's name, the default for the service's name.

    `spellings` holds scalars as written: `1.10` as an environment value is not a number. Raises ServiceMistake.
    """
    found = _collect(value)
    payload: dict[str, object] = {"config": {}, "networking": {}}
    for target, (place, written) in found.items():
        shaped = _SHAPES.get(target[-1], _as_is)(written, place, spellings)
        if shaped is not None:
            owner = payload if len(target) == 1 else payload[str(target[0])]
            assert isinstance(owner, dict), "sections are made above"
            owner[target[-1]] = shaped
    payload.setdefault("service_name", re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:63].strip("-"))
    payload.setdefault("project_name", "default")
    payload.setdefault("service_id", service_id(str(payload["project_name"]), str(payload["service_name"])))
    payload.setdefault("deployment_id", f"dep_{secrets.token_hex(6)}")
    try:
        deployment = parse_deployment(Fields(payload))
    except InvalidField as exc:
        raise _located(exc, {target: place for target, (place, _) in found.items()}) from exc
    return _without_absent(render_deployment(deployment))


def service_id(project: str, name: str) -> str:
    """The same id for the same project and name on every machine: readable, and unique per name."""
    readable = "_".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in (project, name))
    if readable != f"{project}_{name}" or len(readable) > _ID_MAX:
        # The readable form has dropped characters, so two names could have the same one.
        readable = f"{readable[:_ID_MAX]}-{hashlib.sha256(f'{project}/{name}'.encode()).hexdigest()[:8]}"
    return f"svc_{readable}"


def dotted(place: Place) -> str:
    """`volumes[1].name`, as in error messages."""
    shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
    return shown if len(shown) <= 120 else shown[:119] + "…"


def _collect(value: object) -> dict[Place, tuple[Place, object]]:
    """Every field of the payload, with its place in the file; merges flat and nested keys."""
    if not isinstance(value, dict):
        raise ServiceMistake((), "it is empty" if value is None else "it is not a mapping of keys to values")
    found: dict[Place, tuple[Place, object]] = {}
    flat = {
        **{key: (name,) for key, name in _ROOT.items()},
        **{key: (section, name) for section, names in _SECTIONS.items() for key, name in names.items()},
    }
    for key, item in value.items():
        if key in _SECRETS:
            raise ServiceMistake(
                (key,),
                "does not belong into a service file; use `deploy --registry-user NAME --registry-password-stdin`",
            )
        if key in _SECTIONS:
            for inner, inner_item in _mapping(item, (key,), tuple(_SECTIONS[key])).items():
                _put(found, (key, _SECTIONS[key][inner]), (key, inner), inner_item)
        elif key in flat:
            _put(found, flat[key], (key,), item)
        else:
            raise ServiceMistake((key,), f"unknown key{hint(str(key), [*flat, *_SECTIONS])}")
    return found


def _put(found: dict[Place, tuple[Place, object]], target: Place, place: Place, item: object) -> None:
    if item is None:
        return
    if target in found:
        raise ServiceMistake(place, f"is given twice, here and as {dotted(found[target][0])}")
    found[target] = (place, item)


def _mapping(item: object, place: Place, known: tuple[str, ...]) -> dict[str, object]:
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise ServiceMistake(place, "is not a mapping of keys to values")
    for key in item:
        if key not in known:
            raise ServiceMistake((*place, key), f"unknown key{hint(str(key), known)}")
    return item


def _as_is(written: object, _place: Place, _spellings: Spellings) -> object:
    return written


def _quantity(written: object, place: Place, spellings: Spellings) -> object:
    return spellings.get(place, written)


def _image(written: object, place: Place, spellings: Spellings) -> object:
    if isinstance(written, str):
        return written
    if not isinstance(written, dict):
        raise ServiceMistake(place, "is neither REGISTRY/REPOSITORY:TAG nor a mapping of these")
    parts = _mapping(written, place, _IMAGE)
    # A tag such as 1.10 would be read as a number.
    return {key: spellings.get((*place, key), item) for key, item in parts.items() if item is not None}


def _texts_by_name(written: object, place: Place, spellings: Spellings) -> object:
    if isinstance(written, dict):
        return {key: spellings.get((*place, key), item) for key, item in written.items()}
    if not isinstance(written, list):
        raise ServiceMistake(place, "is neither a mapping nor a list of NAME=VALUE")
    pairs: dict[str, object] = {}
    for index, item in enumerate(written):
        name, equals, value = item.partition("=") if isinstance(item, str) else ("", "", "")
        if not equals or not name:
            raise ServiceMistake((*place, index), "is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _command(written: object, place: Place, _spellings: Spellings) -> object:
    if not isinstance(written, str):
        return written
    try:
        return shlex.split(written)
    except ValueError as exc:
        raise ServiceMistake(place, "has a quote that does not end") from exc


def _domains(written: object, _place: Place, _spellings: Spellings) -> object:
    return [written] if isinstance(written, str) else written


def _volumes(written: object, place: Place, _spellings: Spellings) -> object:
    if not isinstance(written, list):
        raise ServiceMistake(place, "is not a list")
    return [_volume(item, (*place, index)) for index, item in enumerate(written)]


def _volume(item: object, place: Place) -> dict[str, object]:
    if not isinstance(item, str):
        return _mapping(item, place, _VOLUME)
    source, colon, target = item.partition(":")
    target, _, mode = target.partition(":")
    if not colon or not source or not target or mode not in ("", "ro", "rw"):
        raise ServiceMistake(place, "is not NAME:/PATH or /HOST/PATH:/PATH, with :ro for read only")
    volume: dict[str, object] = {"container_path": target, "read_only": mode == "ro"}
    if source.startswith("/"):
        name = re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-") or "root"
        return {"name": name, "host_path": source, **volume}
    return {"name": source, **volume}


def _rate_limit(written: object, place: Place, _spellings: Spellings) -> object:
    return _mapping(written, place, _RATE_LIMIT)


def _canary(written: object, place: Place, _spellings: Spellings) -> object:
    parts = _mapping(written, place, _CANARY)
    steps = parts.get("steps")
    if isinstance(steps, list):
        inner = (*place, "steps")
        parts["steps"] = [_mapping(step, (*inner, index), _CANARY_STEP) for index, step in enumerate(steps)]
    return parts


def _health_check(written: object, place: Place, _spellings: Spellings) -> object:
    if isinstance(written, str):
        return {"type": "http", "path": written}
    return _mapping(written, place, _HEALTH)


_SHAPES: Mapping[str | int, Callable[[object, Place, Spellings], object]] = {
    "image": _image,
    "cpu_limit": _quantity,
    "memory_limit": _quantity,
    "env_vars": _texts_by_name,
    "labels": _texts_by_name,
    "command": _command,
    "domains": _domains,
    "response_headers": _texts_by_name,
    "rate_limit": _rate_limit,
    "canary": _canary,
    "volumes": _volumes,
    "health_check": _health_check,
}


def _located(problem: InvalidField, sources: Mapping[Place, Place]) -> ServiceMistake:
    """Translate the parser's field names to the file's."""
    steps: Place = tuple(int(step) if step.isdigit() else step for step in _STEP.findall(problem.field))
    for length in range(len(steps), 0, -1):
        if steps[:length] in sources:
            return ServiceMistake(sources[steps[:length]] + steps[length:], problem.reason)
    return ServiceMistake((), problem.reason, name=problem.field)


def _without_absent(value: object) -> dict[str, object]:
    assert isinstance(value, dict), "only mappings come here"
    return {
        key: _without_absent(item)
        if isinstance(item, dict) and key not in ("env_vars", "response_headers")
        else [_without_absent(each) if isinstance(each, dict) else each for each in item]
        if isinstance(item, list)
        else item
        for key, item in value.items()
        if item is not None
    }
