"""Reads a Compose file, as far as `init --from` carries its services over: text, lists, mappings.

Every scalar stays as it is written, so that `22:22` and `1.10` are no numbers.
"""

from __future__ import annotations

import re

import yaml

from syntra.cli.service_document import Unreadable, bounded

_CORE = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Guesses nothing but nulls and merge keys."""


_Loader.yaml_implicit_resolvers = {
    "<": [(_CORE + "merge", re.compile(r"<<$"))],
    **{first: [(_CORE + "null", re.compile(r"(?:~|null|Null|NULL|)$"))] for first in ("~", "n", "N", "")},
}


def parse_compose(text: str) -> dict[str, object]:
    """The document. Raises Unreadable, also when it has no services."""
    try:
        document = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else None
        raise Unreadable(f"it is not valid YAML: {exc.problem}", place) from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise Unreadable("it is not valid YAML") from exc
    except RecursionError as exc:
        raise Unreadable("it is nested too deep") from exc
    bounded(document)
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict) or not services:
        raise Unreadable("it has no services; is it a Compose file?")
    return {str(key): value for key, value in document.items()}
