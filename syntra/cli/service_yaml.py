"""YAML for service files: only its JSON-like core, with the line and column of each value.

Values follow YAML 1.2's core schema; in YAML 1.1 `no` would be false, `22:22` a number and `012` ten.
Tags beyond the core are refused, so no file can name a Python object.
"""

from __future__ import annotations

import re

import yaml

from syntra.cli.service_document import DEPTH_MAX, VALUES_MAX, Mark, Parsed, Place, Unreadable

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# YAML 1.2.2 section 10.3.2, without hexadecimal, octal and infinities: no field takes them.
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,2})?", re.ASCII)
_CORE = "tag:yaml.org,2002:"
_GUESSED = frozenset(_CORE + name for name in ("null", "bool", "int", "float", "timestamp", "value"))


def parse_yaml(text: str) -> Parsed:
    """Parse one document. Raises Unreadable."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = f": {exc.problem}" if exc.problem else ""
        raise Unreadable(f"it is not valid YAML{problem}", _mark(mark) if mark else None) from exc
    except yaml.YAMLError as exc:  # a character that YAML does not allow
        raise Unreadable("it is not valid YAML: it holds a control character") from exc
    except RecursionError as exc:
        raise Unreadable(f"it is nested more than {DEPTH_MAX} levels deep") from exc
    parsed = Parsed(value=None)
    if node is None:
        return parsed
    walk = _Walk(parsed)
    return Parsed(value=walk.value(node, ()), marks=parsed.marks, spellings=parsed.spellings)


class _Walk:
    """Converts nodes to values and counts every visit: an alias counts each time it is used."""

    def __init__(self, parsed: Parsed) -> None:
        self._marks = parsed.marks
        self._spellings = parsed.spellings
        self._visits = 0

    def value(self, node: yaml.Node, place: Place) -> object:
        self._visits += 1
        mark = _mark(node.start_mark)
        self._marks.setdefault(place, mark)
        if self._visits > VALUES_MAX:
            raise Unreadable(f"it holds more than {VALUES_MAX} values", mark)
        if len(place) > DEPTH_MAX:
            raise Unreadable(f"it is nested more than {DEPTH_MAX} levels deep", mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == _CORE + "seq":
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == _CORE + "map":
            return self._mapping(node, place)
        raise Unreadable("tags are not allowed in a service file", mark)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            mark = _mark(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _CORE + "merge":
                raise Unreadable("a key must be a plain word (and << is not supported)", mark)
            key: str = key_node.value
            if key in mapping:
                raise Unreadable(f"duplicate key {key[:60]!r}", mark)
            self._marks[(*place, key)] = mark
            mapping[key] = self.value(value_node, (*place, key))
        return mapping

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> object:
        text: str = node.value
        if node.tag == _CORE + "str":
            return text
        # Any other tag was inferred from a plain scalar by YAML 1.1's rules, or written in the file.
        if node.tag not in _GUESSED or node.style is not None:
            raise Unreadable("tags are not allowed in a service file", _mark(node.start_mark))
        self._spellings[place] = text
        return plain(text)


def plain(text: str) -> object:
    """The value of a scalar without quotes."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _mark(mark: yaml.Mark) -> Mark:
    return mark.line + 1, mark.column + 1
