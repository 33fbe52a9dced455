"""Env files, in the format of `docker run --env-file`. The values are secrets and appear in no error.

A line is `NAME=VALUE`, everything behind the first `=` is the value, quotes included. `NAME` alone takes the value from
the environment of the command. Lines that are empty or begin with `#` are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from syntra.agent.config.files import FileProblem, read_small

SIZE_MAX = 256 * 1024
_NAME = re.compile(r"[^=\s\x00-\x1f]{1,255}")


class EnvFileMistake(Exception):
    """What is wrong with an env file; the text names file and line, and no value."""


def read_env_file(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a file. Raises EnvFileMistake."""
    try:
        text = read_small(path, limit=SIZE_MAX).data.decode()
    except FileProblem as exc:
        raise EnvFileMistake(f"cannot read {path}: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise EnvFileMistake(f"cannot read {path}: it is not UTF-8 text") from exc
    try:
        return parse_env_file(text, environ)
    except EnvFileMistake as exc:
        raise EnvFileMistake(f"{path}:{exc}") from exc


def parse_env_file(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a file's text. Raises EnvFileMistake with `LINE: reason`."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if _NAME.fullmatch(name) is None:
            # The name alone may be a part of a secret that a line break has cut.
            raise EnvFileMistake(f"{number}: the line is not NAME=VALUE")
        if not equals:
            if name not in environ:
                raise EnvFileMistake(f"{number}: {name[:60]} has no value, and is not set in the environment either")
            value = environ[name]
        if name in found:
            raise EnvFileMistake(f"{number}: {name[:60]} is given twice")
        if "\0" in value:
            raise EnvFileMistake(f"{number}: {name[:60]} holds a NUL character")
        found[name] = value
    return found
