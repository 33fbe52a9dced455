"""Canonical bytecode: the same bytes however the constants came into memory, and the same behaviour."""

from __future__ import annotations

import csv
import json
import marshal
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from build.canonical_code import Canonical

SOURCE = '''
"""Constants of all kinds."""
import math

EQUAL = ("a b", 1, True, 1.0, 0.0, -0.0, b"a b", 1j, -0.0j, 10**30, None, ..., ("a b", (1, 1.0)))
NOT_A_NUMBER = math.nan

def outer(word="a b", *, number=10**30):
    """A closure, and constants that come again."""
    hidden = 1e300 * 1e300
    def inner(letter):
        nonlocal hidden
        hidden += 1
        return letter in {"a", "b", "c", "\\u00e9"}, word, number, "a b", (1, "a b")
    try:
        return [inner(one) for one in "ab\\u00e9z"]
    except ValueError as error:
        raise KeyError("a b") from error

class Kept:
    "a b"
    def method(self): return __class__.__name__, lambda: self
'''


def compiled(source: str, name: str = "some/module.py") -> CodeType:
    return compile(source, name, "exec", dont_inherit=True)


def dumped(code: CodeType) -> bytes:
    canonical = Canonical()
    made = canonical.code(code)
    return marshal.dumps(made)


def scattered(value: Any) -> Any:
    """The same code, with every string and every tuple an object of its own."""
    if isinstance(value, str):
        return "".join([*value, ""]) if len(value) > 1 else value
    if isinstance(value, tuple):
        return tuple([scattered(one) for one in value])
    if isinstance(value, float | complex):
        return type(value)(repr(value))
    if isinstance(value, CodeType):
        parts = ("co_consts", "co_names", "co_varnames", "co_filename", "co_name", "co_qualname")
        return value.replace(**{name: scattered(getattr(value, name)) for name in parts})
    return value


@pytest.mark.parametrize("source", [SOURCE, Path(csv.__file__).read_text(), Path(json.decoder.__file__).read_text()])
def test_the_bytes_depend_on_the_source_alone(source: str) -> None:
    assert marshal.dumps(scattered(compiled(source))) != marshal.dumps(compiled(source)), "nothing to do"
    expected = dumped(compiled(source))
    held = [compiled(source) for _ in range(3)]  # makes the process hold what it did not
    assert dumped(held[0]) == expected
    assert dumped(marshal.loads(marshal.dumps(compiled(source)))) == expected
    assert dumped(scattered(compiled(source))) == expected
    one_after_the_other = Canonical()
    one_after_the_other.code(compiled("other = 'a b', 1e300"))
    assert marshal.dumps(one_after_the_other.code(compiled(source))) == expected


def test_it_is_the_same_code() -> None:
    source = compiled(SOURCE)
    restored = marshal.loads(dumped(source))
    assert restored == source
    assert list(restored.co_lines()) == list(source.co_lines())
    assert restored.co_exceptiontable == source.co_exceptiontable
    results = []
    for code in (source, restored):
        module = ModuleType("some")
        exec(code, module.__dict__)
        results.append((repr(module.EQUAL), module.outer(), module.Kept().method()[0], module.Kept.__doc__))
    assert results[0] == results[1]


def test_equal_constants_of_different_types_stay_apart() -> None:
    namespace: dict[str, Any] = {}
    exec(marshal.loads(dumped(compiled("found = (1, True, 1.0, (0.0, -0.0), (0, False), 1 + 0j)"))), namespace)
    assert repr(namespace["found"]) == "(1, True, 1.0, (0.0, -0.0), (0, False), (1+0j))"


def test_equal_strings_are_written_once() -> None:
    source = compiled("a = 'some words'\ndef f(): return 'some words'\ndef g(): return 'some words', 'some words'")
    assert dumped(source).count(b"some words") == 1
