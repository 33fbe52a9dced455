"""Converts the content of a service file to the `deploy` payload of the wire contract.

A file may use the contract's nested shape or the same keys flat, and omit keys that have a default. This module checks
the names of keys and gives hints; the agent's own parser checks the values, so both always agree.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping

from syntra.cli.env_file import EnvFileMistake
from syntra.cli.service_document import Place
from syntra.cli.service_hints import refusal, unknown_key
from syntra.cli.service_shapes import ServiceMistake, Spellings, dotted, mapping, shaped
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.spec_payload import parse_deployment, render_deployment

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
    "image_volumes": "image_volumes",
    "health_check": "health_check",
    "env_file": "env_file",
    "metrics": "metrics",
    "autoscale": "autoscale",
    "logs": "logs",
    **{
        name: name
        for name in (
            *("entrypoint", "user", "working_dir", "init", "stop_signal", "stop_grace_seconds", "shm_size", "tmpfs"),
            *("ulimits", "extra_hosts", "read_only", "cap_drop", "release_command"),
        )
    },
}
_NETWORKING = {
    name: name
    for name in (
        *("domains", "internal_hostname", "expose_port"),
        *("path_prefix", "strip_prefix", "priority", "sticky", "response_headers", "rate_limit"),
    )
}
_SECTIONS = {"config": _CONFIG, "networking": _NETWORKING}
_SECRETS = ("registry_auth", "registry_password", "password")
_ID_MAX = 80
"""The longest readable part of a generated service id: with prefix and digest it fits into an id's 100 characters."""

_STEP = re.compile(r"[^.\[\]]+")


def build_payload(
    value: object, *, stem: str, spellings: Spellings, env_file: Callable[[str], Mapping[str, str]]
) -> dict[str, object]:
    """The complete payload of a parsed file. `stem` is the file's name, the default for the service's name.

    `spellings` holds scalars as written: `1.10` as an environment value is not a number. `env_file` gives the variables
    of a file that is named beside the service file. Raises ServiceMistake for the first mistake.
    """
    found = _collect(value)
    payload: dict[str, object] = {"config": {}, "networking": {}}
    for target, (place, written) in found.items():
        item = shaped(target[-1], written, place, spellings)
        if item is not None:
            owner = payload if len(target) == 1 else payload[str(target[0])]
            assert isinstance(owner, dict), "sections are made above"
            owner[target[-1]] = item
    _read_env_files(payload["config"], found.get(("config", "env_file"), ((), None))[0], env_file)
    payload.setdefault("service_name", re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:63].strip("-"))
    if payload["service_name"] == "":
        raise ServiceMistake((), "is missing", name="name")
    payload.setdefault("project_name", "default")
    payload.setdefault("service_id", service_id(str(payload["project_name"]), str(payload["service_name"])))
    payload.setdefault("deployment_id", f"dep_{secrets.token_hex(6)}")
    try:
        deployment = parse_deployment(Fields(payload))
    except InvalidField as exc:
        raise _located(exc, {target: place for target, (place, _) in found.items()}) from exc
    return _with_references(_without_absent(render_deployment(deployment)))


def service_id(project: str, name: str) -> str:
    """The same id for the same project and name on every machine: readable, and unique per name."""
    readable = "_".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in (project, name))
    if readable != f"{project}_{name}" or len(readable) > _ID_MAX:
        # The readable form has dropped characters, so two names could have the same one.
        readable = f"{readable[:_ID_MAX]}-{hashlib.sha256(f'{project}/{name}'.encode()).hexdigest()[:8]}"
    return f"svc_{readable}"


def _collect(value: object) -> dict[Place, tuple[Place, object]]:
    """Every field of the payload, with its place in the file; merges flat and nested keys."""
    if not isinstance(value, dict):
        raise ServiceMistake(
            (),
            "it is empty; it needs at least an `image`" if value is None else "it is not a mapping of keys to values",
        )
    if isinstance(value.get("services"), dict) and "image" not in value:
        raise ServiceMistake(
            ("services",), "this is a Compose file; `syntra-agent init --from FILE` makes service files of it"
        )
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
            for inner in item if isinstance(item, dict) else ():
                _refuse((key, inner))
            for inner, inner_item in mapping(item, (key,), tuple(_SECTIONS[key])).items():
                _put(found, (key, _SECTIONS[key][inner]), (key, inner), inner_item)
        elif key in flat:
            _put(found, flat[key], (key,), item)
        else:
            _refuse((key,))
            raise ServiceMistake((key,), unknown_key(str(key), [*flat, *_SECTIONS]))
    return found


def _refuse(place: Place) -> None:
    reason = refusal(str(place[-1]))
    if reason is not None:
        raise ServiceMistake(place, reason)


def _read_env_files(config: object, place: Place, env_file: Callable[[str], Mapping[str, str]]) -> None:
    assert isinstance(config, dict), "cannot happen because `build_payload` makes it"
    names = config.pop("env_file", None) or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise ServiceMistake(place, "is neither a path nor a list of paths")
    variables: dict[str, object] = {}
    for name in names:
        try:
            variables |= env_file(name)
        except EnvFileMistake as exc:
            raise ServiceMistake(place, str(exc)) from exc
    # What the service file itself says wins.
    own = config.get("env_vars") or {}
    if variables:
        config["env_vars"] = {**variables, **own} if isinstance(own, dict) else own


def _put(found: dict[Place, tuple[Place, object]], target: Place, place: Place, item: object) -> None:
    if item is None:
        return
    if target in found:
        raise ServiceMistake(place, f"is given twice, here and as {dotted(found[target][0])}")
    found[target] = (place, item)


def _located(problem: InvalidField, sources: Mapping[Place, Place]) -> ServiceMistake:
    """Translate the parser's field names to the file's."""
    steps: Place = tuple(int(step) if step.isdigit() else step for step in _STEP.findall(problem.field))
    for length in range(len(steps), 0, -1):
        if steps[:length] in sources:
            return ServiceMistake(sources[steps[:length]] + steps[length:], problem.reason)
    return ServiceMistake((), problem.reason, name=problem.field)


def _with_references(payload: dict[str, object]) -> dict[str, object]:
    """References to secrets as they are written: an agent that does not know them refuses the variable."""
    config = payload["config"]
    assert isinstance(config, dict), "sections are rendered as mappings"
    references = config.pop("env_secrets", {})
    config["env_vars"] |= {name: {"secret": secret} for name, secret in references.items()}
    return payload


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
