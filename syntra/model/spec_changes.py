"""What differs between a deployment and the one that replaces it, for people: `image shop/web:1 → :2`. Pure.

Values of the environment are secrets and are never part of a change; nor is the value of a setting with a secret's
name. How a deploy goes (its strategy, timeout, canary) is no setting of the service.
"""

from __future__ import annotations

from collections.abc import Mapping

from syntra.model.fields import Json
from syntra.model.image import ImageRef
from syntra.model.spec import Deployment
from syntra.model.spec_payload import render_deployment
from syntra.utils.frozen import frozen
from syntra.utils.redact import is_secret_name

MIB = 1024 * 1024
MAX_SHOWN = 60
"""Characters of a value."""

_NAMED = ("env_vars", "labels")
_WORDS = {"env_vars": "env", "labels": "label"}
_SECTIONS = ("config", "networking")


@frozen
class SpecChange:
    """One changed setting; `text` says it to people."""

    setting: str
    text: str


def changes(old: Deployment, new: Deployment, *, replicas: int) -> tuple[SpecChange, ...]:
    """The settings of the service that differ. `replicas` is how many of `old` are desired now."""
    found = []
    if old.spec.image != new.spec.image:
        found.append(SpecChange(setting="image", text=f"image {_images(old.spec.image, new.spec.image)}"))
    if replicas != new.spec.replicas:
        found.append(SpecChange(setting="replicas", text=f"replicas {replicas} → {new.spec.replicas}"))
    before, after = _settings(old), _settings(new)
    secrets = {f"env {name}": secret for name, secret in new.spec.env_secrets}
    for setting in sorted(before.keys() | after.keys()):
        was, becomes = before.get(setting), after.get(setting)
        if was == becomes:
            continue
        section, dot, _ = setting.partition(".")
        if dot and not (_has(before, section) and _has(after, section)):
            change = SpecChange(setting=section, text=f"{section} {'added' if _has(after, section) else 'removed'}")
            found += [change] if change not in found else []
        else:
            text = _text(setting, was, becomes)
            if secret := secrets.get(setting):
                text += f" (secret {secret})"
            found.append(SpecChange(setting=setting, text=text))
    return tuple(found)


def _has(settings: Mapping[str, Json], section: str) -> bool:
    return any(setting.startswith(f"{section}.") for setting in settings)


def _settings(deployment: Deployment) -> dict[str, Json]:
    payload = render_deployment(deployment)
    found: dict[str, Json] = {"name": payload["service_name"], "project": payload["project_name"]}
    for section in _SECTIONS:
        values = payload[section]
        assert isinstance(values, Mapping), "cannot happen because it was rendered so"
        for name, value in values.items():
            if name not in ("replicas", "env_secrets"):
                found |= _flat(name, value)
    for name, secret in deployment.spec.env_secrets:
        # Another secret with the same value is a change, too.
        found[f"env {name}"] = [deployment.spec.env.get(name), secret]
    return {name: value for name, value in found.items() if value not in (None, [], {}, "")}


def _flat(name: str, value: Json) -> dict[str, Json]:
    """A mapping as one setting for each of its keys: `health_check.path`, `env LOG_LEVEL`."""
    if not isinstance(value, Mapping):
        return {name: value}
    between = " " if name in _NAMED else "."
    found: dict[str, Json] = {}
    for key, inner in value.items():
        found |= _flat(f"{_WORDS.get(name, name)}{between}{key}", inner)
    return found


def _text(setting: str, was: Json, becomes: Json) -> str:
    if setting.startswith("env ") or is_secret_name(setting.rpartition(" ")[2].rpartition(".")[2]):
        return f"{setting} {'added' if was is None else 'removed' if becomes is None else 'changed'}"
    return f"{setting} {_shown(setting, was)} → {_shown(setting, becomes)}"


def _images(was: ImageRef, becomes: ImageRef) -> str:
    if was.name == becomes.name and not was.digest and not becomes.digest:
        return f"{was} → :{becomes.tag}"
    return f"{was} → {becomes}"


def _shown(setting: str, value: Json) -> str:
    if value is None:
        return "none"
    if setting == "memory_limit" and str(value).isdigit() and int(str(value)) % MIB == 0:
        return f"{int(str(value)) // MIB}m"
    if setting == "cpu_limit":
        return f"{float(str(value)):g}"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return _cut(", ".join(_item(item) for item in value))
    return _cut(f"{value:g}" if isinstance(value, float) else str(value))


def _item(item: Json) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    if target := item.get("container_path"):
        return f"{item.get('host_path') or item.get('name')}:{target}" + (":ro" if item.get("read_only") else "")
    return " ".join(f"{name}={value}" for name, value in item.items() if not is_secret_name(name))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
