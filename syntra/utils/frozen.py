"""Frozen value classes that are cheap to import.

`@dataclass(frozen=True, slots=True, kw_only=True)` compiles five functions per class, which takes half a millisecond:
with two hundred classes, a large part of the start. `@frozen` means the same to readers and type checkers, but all
classes share one set of functions. It supports `field`, `replace` and `fields` of `dataclasses`. It has no `InitVar`,
no ordering, no positional arguments and no `__slots__`.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass
class _Sample:
    """Source of the standard library's own markers."""

    field: int


_SAMPLE = dataclasses.fields(_Sample)[0]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a value class from annotations: keyword-only, immutable, compared and hashed by its fields.

    Methods that the class defines (`__eq__`, `__hash__`, `__repr__`, `__init__`) stay; `__post_init__` is called.
    """
    fields: dict[str, Field[Any]] = {}
    for base in reversed(cls.__mro__[1:]):
        fields |= getattr(base, "__dataclass_fields__", {})
    for name, annotation in inspect.get_annotations(cls).items():
        # Annotations that are not evaluated are strings, as in all our modules.
        if str(annotation).startswith(("ClassVar", "typing.ClassVar")):
            continue
        given = cls.__dict__.get(name, MISSING)
        made: Field[Any] = given if isinstance(given, Field) else field(default=given)
        made.name, made.type, made.kw_only = name, annotation, True
        made._field_type = _SAMPLE._field_type  # type: ignore[attr-defined]  # `fields` and `replace` read this
        fields[name] = made
        if made.default is not MISSING:
            setattr(cls, name, made.default)
        elif given is made:
            delattr(cls, name)
    all_fields = fields.values()
    compared = tuple(f.name for f in all_fields if f.compare)
    made_here: dict[str, object] = {
        "__dataclass_fields__": fields,
        "_defaults_": {f.name: f.default for f in all_fields if f.default is not MISSING},
        "_factories_": {f.name: f.default_factory for f in all_fields if f.default_factory is not MISSING},
        "_compared_": compared,
        "_compares_all_": len(compared) == len(fields),
        "_has_post_init_": hasattr(cls, "__post_init__"),
    }
    own = {name for base in cls.__mro__[:-1] for name in base.__dict__ if base.__dict__[name] is not None}
    methods = {name: made for name, made in _METHODS.items() if name not in own}
    for name, item in (made_here | methods).items():
        setattr(cls, name, item)
    return cls


def _init(self: Any, /, **given: object) -> None:
    cls = type(self)
    fields, values = cls.__dataclass_fields__, self.__dict__
    if len(given) < len(fields):
        values.update(cls._defaults_)
        for name, factory in cls._factories_.items():
            if name not in given:
                values[name] = factory()
    values.update(given)
    if values.keys() != fields.keys():
        _refuse_arguments(cls, given)
    if cls._has_post_init_:
        self.__post_init__()


def _refuse_arguments(cls: Any, given: dict[str, object]) -> NoReturn:
    unknown = [name for name in given if name not in cls.__dataclass_fields__]
    missing = [
        name
        for name in cls.__dataclass_fields__
        if name not in given and name not in cls._defaults_ and name not in cls._factories_
    ]
    what = f"got unexpected {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
    raise TypeError(f"{cls.__name__}() {what}")


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    if self._compares_all_:
        return self.__dict__ == other.__dict__
    return all(getattr(self, name) == getattr(other, name) for name in self._compared_)


def _hash(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in self._compared_))


def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in self.__dataclass_fields__.values() if f.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_set(self: Any, name: str, value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS: dict[str, object] = {
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_delete,
}
