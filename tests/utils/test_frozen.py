"""`@frozen` is to its users what a frozen, keyword-only dataclass is; the dataclass itself is the oracle."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.utils.frozen import frozen


@frozen
class Plain:
    number: int
    text: str = "x"
    many: Mapping[str, int] = field(default_factory=dict)
    secret: str = field(default="s", repr=False)
    aside: int = field(default=0, compare=False)
    kind: ClassVar[str] = "plain"


@dataclass(frozen=True, kw_only=True)
class Oracle:
    number: int
    text: str = "x"
    many: Mapping[str, int] = field(default_factory=dict)
    secret: str = field(default="s", repr=False)
    aside: int = field(default=0, compare=False)
    kind: ClassVar[str] = "plain"


@frozen
class Derived(Plain):
    more: tuple[int, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.number


@frozen
class Checked:
    port: int

    def __post_init__(self) -> None:
        if self.port < 1:
            raise ValueError("port")


@frozen
class Hashed:
    one: int
    other: str = field(default="", compare=False)


ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "number": st.integers(0, 2),
        "text": st.sampled_from(["", "x", "y"]),
        "many": st.dictionaries(st.sampled_from("ab"), st.integers(0, 1)),
        "secret": st.sampled_from(["s", "t"]),
        "aside": st.integers(0, 1),
        "strange": st.none(),
    },
)


def made(of: Any, arguments: dict[str, Any]) -> Any:
    try:
        return of(**arguments)
    except TypeError:
        return None


@given(ARGUMENTS, ARGUMENTS)
def test_it_is_made_compared_and_shown_as_the_dataclass_is(one: dict[str, Any], other: dict[str, Any]) -> None:
    ours, theirs = made(Plain, one), made(Oracle, one)
    assert (ours is None) == (theirs is None)
    if ours is None:
        return
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs).replace("Oracle", "Plain")
    second, oracle = made(Plain, other), made(Oracle, other)
    if second is not None:
        assert (ours == second) == (theirs == oracle)
        assert (ours != second) == (theirs != oracle)


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(TypeError, match="missing number"):
        Plain()  # type: ignore[call-arg]  # the point
    with pytest.raises(TypeError, match="unexpected strange"):
        Plain(number=1, strange=2)  # type: ignore[call-arg]  # the point
    with pytest.raises(TypeError):
        Plain(1)  # type: ignore[call-arg]  # the point


def test_it_cannot_be_changed() -> None:
    plain = Plain(number=1)
    with pytest.raises(FrozenInstanceError):
        plain.number = 2  # type: ignore[misc]  # the point
    with pytest.raises(FrozenInstanceError):
        del plain.number
    with pytest.raises(FrozenInstanceError):
        plain.unknown = 2  # type: ignore[attr-defined]  # the point
    assert plain == Plain(number=1)


def test_factories_make_a_new_value_each_time() -> None:
    one, other = Plain(number=1), Plain(number=1)
    assert one.many == other.many and one.many is not other.many


def test_replace_fields_copy_and_pickle_work() -> None:
    derived = Derived(number=1, more=(1, 2))
    assert replace(derived, number=2) == Derived(number=2, more=(1, 2))
    assert [f.name for f in dataclasses.fields(derived)] == ["number", "text", "many", "secret", "aside", "more"]
    assert copy.copy(derived) == copy.deepcopy(derived) == pickle.loads(pickle.dumps(derived)) == derived
    with pytest.raises(TypeError):
        replace(derived, unknown=1)  # type: ignore[call-arg]  # the point


def test_a_derived_class_is_not_equal_to_its_base_and_keeps_its_own() -> None:
    assert Derived(number=1) != Plain(number=1)
    assert Derived(number=2).twice == 4
    match Derived(number=3, more=(7,)):
        case Derived(number=3, more=(seven,)):
            assert seven == 7
        case _:
            pytest.fail("it does not match by keyword")


def test_a_hash_goes_by_what_is_compared() -> None:
    assert len({Hashed(one=1), Hashed(one=1, other="x"), Hashed(one=2)}) == 2
    with pytest.raises(TypeError):
        hash(Plain(number=1))


def test_what_a_class_checks_itself_is_checked() -> None:
    assert Checked(port=1).port == 1
    with pytest.raises(ValueError, match="port"):
        Checked(port=0)
    with pytest.raises(ValueError, match="port"):
        replace(Checked(port=1), port=0)
