"""The error codes that the sources use, found in their syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")

# Calls that take a code, and the position of that argument.
POSITIONS = {
    "RequestError": 0,
    "StepFailed": 0,
    "translated": 0,
    "Refused": 1,
    "error_response": 1,
    "UpdateError": 2,
    "refuse": 1,
}
KEYWORDS = {"Failure": "code"}


def codes_in(source: str) -> set[str]:
    """The codes of errors that a module raises or answers with, and of its error classes."""
    tree = ast.parse(source)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            argument = _code_argument(node)
            if argument is not None:
                found |= set(_values(argument, tree))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "code":
                    found |= set(_values(value, tree))
        elif isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.Assign) and [ast.unparse(t) for t in statement.targets] == ["code"]:
                    found |= set(_values(statement.value, tree))
    return found


def codes_below(*paths: Path, without: tuple[Path, ...] = ()) -> set[str]:
    """The codes of all modules below the paths."""
    found: set[str] = set()
    for path in paths:
        for module in [path] if path.is_file() else sorted(path.rglob("*.py")):
            if not any(module.is_relative_to(excluded) for excluded in without):
                found |= codes_in(module.read_text())
    return found


def _code_argument(call: ast.Call) -> ast.expr | None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "__init__" and ast.unparse(call.func) == "super().__init__" and call.args:
        # `super().__init__("CODE", sentence)` of an error class.
        first = call.args[0]
        return first if isinstance(first, ast.Constant) and len(call.args) > 1 else None
    if name in KEYWORDS:
        return next((keyword.value for keyword in call.keywords if keyword.arg == KEYWORDS[name]), None)
    position = POSITIONS.get(name)
    return call.args[position] if position is not None and len(call.args) > position else None


def _values(expression: ast.expr, tree: ast.Module) -> Iterator[str]:
    """The codes an expression can be: a literal, a choice of two, or a name assigned in the same module.

    An attribute (`failed.code`) is some other error's code, which is found where that error is made.
    """
    match expression:
        case ast.Constant(value=str(text)) if CODE.fullmatch(text):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from _values(body, tree)
            yield from _values(other, tree)
        case ast.Call(func=ast.Attribute(attr="get"), args=[_, default]):
            yield from _values(default, tree)
        case ast.Name(id=name):
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign):
                    for target, value in _pairs(node):
                        if isinstance(target, ast.Name) and target.id == name and not isinstance(value, ast.Name):
                            yield from _values(value, tree)


def _pairs(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=False)
        else:
            yield target, node.value
