"""`${VAR}` in the values of a service file, as Compose writes and expands it. Pure.

`$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR-default}`, `${VAR:?reason}`, `${VAR?reason}`, `${VAR:+other}` and
`${VAR+other}`; with a colon, a variable that is empty counts as unset. `$$` is a dollar sign. Keys are not expanded.
Compose file reference, "Interpolation".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from syntra.cli.service_document import Parsed, Place
from syntra.cli.service_shapes import ServiceMistake
from syntra.cli.service_yaml import plain

DEPTH_MAX = 10
LENGTH_MAX = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_REFERENCE = re.compile(r"(?<!\$)(?:\$\$)*\$\{[A-Za-z_]")
# Settings that are numbers or booleans, so that `port: ${PORT}` is one. Others stay text, such as `VERSION: ${V}`.
_NOT_TEXT = frozenset(
    [
        *("port", "replicas", "expose_port", "timeout", "timeout_seconds", "rollback_on_failure", "init", "read_only"),
        *("stop_grace_seconds", "external", "interval_seconds", "retries", "start_period_seconds", "restart_unhealthy"),
        *("strip_prefix", "priority", "sticky", "average", "burst", "percent", "hold_seconds", "max_error_percent"),
        *("min_requests", "min", "max", "cpu_percent", "lines_per_second", "bytes_per_second", "burst_seconds"),
        *("soft", "hard"),
    ]
)


class _Wrong(Exception):
    pass


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables replaced. Raises ValueError with the reason, which has no variable's value."""
    try:
        return _Expansion(text, variables).whole()
    except _Wrong as wrong:
        raise ValueError(str(wrong)) from None


def expanded(parsed: Parsed, variables: Mapping[str, str]) -> tuple[Parsed, list[ServiceMistake]]:
    """The document with all values expanded, and what cannot be expanded."""
    mistakes: list[ServiceMistake] = []
    spellings = dict(parsed.spellings)

    def walked(value: object, place: Place) -> object:
        if isinstance(value, dict):
            return {key: walked(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walked(item, (*place, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "$" not in value:
            return value
        try:
            text = expand(value, variables)
        except ValueError as wrong:
            mistakes.append(ServiceMistake(place, str(wrong)))
            return value
        if place[-1:] and (place[-1] in _NOT_TEXT or place[-2:-1] == ("ulimits",)):
            # As it is written: a variable of the container may have such a name, too.
            spellings[place] = text
            return plain(text)
        spellings.pop(place, None)
        return text

    value = walked(parsed.value, ())
    return Parsed(value=value, marks=parsed.marks, spellings=spellings), mistakes


def references(value: object, place: Place = ()) -> Iterator[Place]:
    """The places of values that have a `${VAR}`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from references(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from references(item, (*place, index))
    elif isinstance(value, str) and _REFERENCE.search(value):
        yield place


class _Expansion:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._at = 0

    def whole(self) -> str:
        found = self._run(depth=0, is_used=True)
        if len(found) > LENGTH_MAX:
            raise _Wrong("is longer than 64 KiB once its variables are expanded")
        return found

    def _run(self, *, depth: int, is_used: bool) -> str:
        """Up to the end, or to the brace that ends a nested text."""
        if depth > DEPTH_MAX:
            raise _Wrong(f"has variables nested more than {DEPTH_MAX} deep")
        parts: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "}" and depth:
                return "".join(parts)
            self._at += 1
            parts.append(self._variable(depth=depth, is_used=is_used) if char == "$" else char)
        if depth:
            raise _Wrong("has a `${` without `}`")
        return "".join(parts)

    def _variable(self, *, depth: int, is_used: bool) -> str:
        if self._takes("$"):
            return "$"
        has_brace = self._takes("{")
        name = _NAME.match(self._text, self._at)
        if name is None:
            raise _Wrong("has a `$` that begins no variable; write `$$` for a dollar sign")
        self._at = name.end()
        if not has_brace:
            return self._value(name[0], is_used=is_used)
        operator = _OPERATOR.match(self._text, self._at)
        if operator is None:
            value = self._value(name[0], is_used=is_used and self._text.startswith("}", self._at))
        else:
            self._at = operator.end()
            value = self._chosen(name[0], operator[0], depth=depth, is_used=is_used)
        if not self._takes("}"):
            raise _Wrong(f"has a `${{{name[0]}` that does not end with `}}`")
        return value

    def _chosen(self, name: str, operator: str, *, depth: int, is_used: bool) -> str:
        value = self._variables.get(name)
        is_set = value is not None and not (operator.startswith(":") and not value)
        takes_operand = is_set if operator.endswith("+") else not is_set
        operand = self._run(depth=depth + 1, is_used=is_used and takes_operand)
        if operator.endswith("?") and not is_set and is_used:
            raise _Wrong(f"needs the variable {name[:60]}: {operand[:200] or 'it is not set'}")
        if operator.endswith("+"):
            return operand if is_set else ""
        return operand if takes_operand else value or ""

    def _value(self, name: str, *, is_used: bool) -> str:
        value = self._variables.get(name)
        if value is None and is_used:
            raise _Wrong(
                f"needs the variable {name[:60]}, which is not set; set it, or write ${{{name[:60]}:-DEFAULT}}"
            )
        return value or ""

    def _takes(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) * found
        return found
