"""The sources of values: the TOML file, and the environment (SYNTRA_<SECTION>__<KEY>, or SYNTRA_<KEY>).

Both return checked values by key, and reject unknown names with a hint.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.files import read_small
from syntra.agent.config.schema import NOT_KEYS, PREFIX, Key, Value
from syntra.agent.config.settings import BY_DOTTED, BY_VARIABLE, KEYS, SECTIONS
from syntra.agent.config.suggest import hint, nearest
from syntra.agent.config.values import from_text, from_toml, type_name
from syntra.utils.frozen import frozen

SIZE_MAX = 256 * 1024
"""Far above any real file, so that a wrong path (a log, a disk image) is not parsed for minutes."""
_OF_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)\Z")
"""Kubernetes' documentation, "Discovering services": a Service `syntra-agent` gives `SYNTRA_AGENT_SERVICE_HOST`."""
_OF_THE_INSTALLER = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("BASE_URL", "CHANNEL", "DRY_RUN", "ENDPOINT", "NO_START", "ROOT_KEYS_FILE", "VERSION"),
        *("WITH_DOCKER", "WITH_PROXY"),
    )
)
"""The installation script's options; the shell in which a person ran it may still have them."""


@frozen
class Document:
    """The tables of one file, parsed but unchecked, and the file's permission bits."""

    tables: Mapping[str, object]
    mode: int


def read(path: Path) -> Document:
    """Parse the file. Raises FileMissing and FileForbidden; the caller decides whether they are errors."""
    source = str(path)
    file = read_small(path, limit=SIZE_MAX)
    try:
        text = file.data.decode()
    except UnicodeDecodeError as exc:
        line = file.data.count(b"\n", 0, exc.start) + 1
        raise ConfigurationError(source, f"line {line} is not UTF-8 text") from exc
    try:
        return Document(tables=tomllib.loads(text.removeprefix("\ufeff")), mode=file.mode)
    except tomllib.TOMLDecodeError as exc:
        # The parser quotes at most a key or one character, never a value.
        raise ConfigurationError(source, f"it is not valid TOML: {exc}") from exc
    except (RecursionError, ValueError) as exc:
        # ValueError: integers beyond Python's digit limit, impossible dates.
        raise ConfigurationError(source, "it is not valid TOML: a value is too deep or too long") from exc


def checked(document: Document, source: str) -> dict[str, Value]:
    """The file's values, by dotted key. Raises ConfigurationError at the first invalid name or value."""
    values: dict[str, Value] = {}
    for name, value in document.tables.items():
        if name in SECTIONS:
            if not isinstance(value, dict):
                raise ConfigurationError(source, f"{name}: expected a section [{name}], got {type_name(value)}")
            values.update(_section(name, value, source))
        elif isinstance(value, dict) and name not in BY_DOTTED:
            raise ConfigurationError(source, f"unknown section [{_short(name)}]{hint(name, SECTIONS, form='[{}]')}")
        else:
            values[name] = _value("", name, value, source)
    return values


def _section(section: str, table: Mapping[str, object], source: str) -> dict[str, Value]:
    """The values of one section and its subsections."""
    values: dict[str, Value] = {}
    for name, value in table.items():
        inner = f"{section}.{name}"
        if inner in SECTIONS:
            if not isinstance(value, dict):
                raise ConfigurationError(source, f"{inner}: expected a section [{inner}], got {type_name(value)}")
            values.update(_section(inner, value, source))
        else:
            values[inner] = _value(section, name, value, source)
    return values


def _value(section: str, name: str, value: object, source: str) -> Value:
    dotted = f"{section}.{name}" if section else name
    key = BY_DOTTED.get(dotted)
    if key is None:
        raise ConfigurationError(source, f"{_short(dotted)}: unknown key{_suggestion(section, name)}")
    try:
        return from_toml(key, value)
    except ValueError as exc:
        raise ConfigurationError(source, f"{dotted}: {exc}") from exc


def _suggestion(section: str, name: str) -> str:
    """Suggest a similar name in the same section, then the same name in another, then a similar one in another."""
    siblings = [key.name for key in KEYS if key.section == section] + ([] if section else list(SECTIONS))
    if nearest(name, siblings):
        return hint(name, siblings)
    elsewhere: dict[str, str] = {}
    for key in sorted(KEYS, key=lambda key: key.dotted.count(".")):
        elsewhere.setdefault(key.name, key.dotted)
    found = nearest(name, elsewhere)
    return f", did you mean {elsewhere[found]}?" if found else ""


def _short(name: str) -> str:
    """A name from the file, made safe for one line of a terminal."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= 80 else shown[:77] + "…"


def overrides(environ: Mapping[str, str]) -> dict[Key, Value]:
    """The checked values of all variables that are set; an empty variable counts as unset.

    A SYNTRA_ name that is not a key is an error when it has two underscores or is similar to a key: it is probably a
    typo in a unit file. Other SYNTRA_ names are ignored, as they may belong to another program.
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
            meant = _suggested_variable(name)
            if meant or "__" in name:
                suggestion = f", did you mean {meant}?" if meant else ""
                shown = name if name.isprintable() and len(name) <= 80 else ascii(name)[:80]
                raise ConfigurationError("from the environment", f"{shown}: no such key{suggestion}")
    return found


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """The SYNTRA_ variables that nothing reads; without those of a cluster's Services, which every pod gets."""
    known = {*BY_VARIABLE, *NOT_KEYS, *_OF_THE_INSTALLER}
    names = [name for name in environ if name.startswith(PREFIX) and name not in known]
    in_cluster = "KUBERNETES_SERVICE_HOST" in environ
    return sorted(_short(name) for name in names if not (in_cluster and _OF_A_SERVICE.search(name)))


def _suggested_variable(name: str) -> str | None:
    """Suggest a variable: SYNTRA_TOKEN means control_plane.token; otherwise the most similar one, if any."""
    for key in KEYS:
        if name.removeprefix(PREFIX).lower() in (key.name, key.dotted.replace(".", "_")):
            return key.variable
    # Without the prefix, which would make all names similar.
    near = nearest(name.removeprefix(PREFIX), [key.variable.removeprefix(PREFIX) for key in KEYS])
    return PREFIX + near if near else None
