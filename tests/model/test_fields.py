"""Typed reading: what each accessor takes, and that it names what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.errors import InvalidField
from syntra.model.fields import MAX_TEXT, Fields
from tests.model.samples import SECRET, json_values, quick


def refusal(read: Callable[[Fields], object], value: object) -> InvalidField:
    with pytest.raises(InvalidField) as refused:
        read(Fields({"key": value}, "outer"))
    return refused.value


def test_absent_and_null_give_the_default() -> None:
    for fields in (Fields({}), Fields({"key": None})):
        assert fields.text("key", default="x") == "x"
        assert fields.optional_text("key") is None
        assert fields.quantity("key") is None
        assert fields.secret("key") is None
        assert fields.integer("key", default=7, low=0, high=9) == 7
        assert fields.number("key", default=0.5, low=0, high=9) == 0.5
        assert fields.boolean("key", default=False) is False
        assert fields.choice("key", among={"a": 1}, default=2) == 2
        assert fields.section("key") is None
        assert (fields.sections("key"), fields.texts("key"), fields.text_map("key")) == ([], (), {})
        assert not fields.has("key")


READS: dict[str, Callable[[Fields], object]] = {
    "text": lambda fields: fields.text("key"),
    "integer": lambda fields: fields.integer("key", low=0, high=9),
    "number": lambda fields: fields.number("key", low=0, high=9),
    "boolean": lambda fields: fields.boolean("key"),
    "choice": lambda fields: fields.choice("key", among={"a": 1}),
    "quantity": lambda fields: fields.quantity("key"),
    "secret": lambda fields: fields.secret("key"),
    "section": lambda fields: fields.section("key"),
    "sections": lambda fields: fields.sections("key"),
    "texts": lambda fields: fields.texts("key"),
    "text_map": lambda fields: fields.text_map("key"),
}


@pytest.mark.parametrize("name", ["text", "integer", "number", "boolean", "choice"])
def test_a_required_key_that_is_missing_is_named(name: str) -> None:
    assert str(refusal(READS[name], None)) == "outer.key: is missing"


def test_the_first_alias_that_is_present_is_read_and_named() -> None:
    fields = Fields({"new": None, "old": 5})
    assert fields.integer("new", "old", low=0, high=9) == 5
    with pytest.raises(InvalidField, match=r"^old: 5 is out of range \(0–4\)"):
        fields.integer("new", "old", low=0, high=4)


WRONG: dict[str, tuple[object, ...]] = {
    "text": (True, 5, 1.5, [], {}, "a\0b", "x" * (MAX_TEXT + 1), "\ud800"),
    "integer": (True, "5", 1.5, [], {}, -1, 10, 10**5000, float("inf"), float("nan"), 1e300),
    "number": (True, "x", "", "5x", "1.2.3", "٣", [], {}, -0.1, 9.1, 10**400, float("nan"), "1h", "9" * 5000, "1e0"),
    "boolean": (0, 1, "true", [], {}),
    "choice": (True, 5, "b", "", [], {}),
    "quantity": (True, [], {}),
    "secret": (True, 5, [], {}, "x" * (MAX_TEXT + 1)),
    "section": (True, 5, "x", [], {5: 1}),
    "sections": (True, 5, "x", {}, [{}] * 1001),
    "texts": (True, 5, "x", {}, ["x"] * 1001),
    "text_map": (True, 5, "x", [], {5: "x"}, {str(n): "" for n in range(1001)}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_the_wrong_kind_or_range_is_refused_by_its_path(name: str) -> None:
    for value in WRONG[name]:
        refused = refusal(READS[name], value)
        assert refused.field == "outer.key"
        assert len(str(refused)) < 200


def test_the_place_inside_a_list_or_an_object_is_named() -> None:
    assert refusal(READS["texts"], ["a", 5]).field == "outer.key[1]"
    assert refusal(READS["sections"], [{}, 5]).field == "outer.key[1]"
    assert refusal(READS["text_map"], {"A": []}).field == "outer.key.A"
    (section,) = Fields({"key": [{"inner": 5}]}).sections("key")
    assert section.at("inner") == "key[0].inner"


def test_what_may_hold_secrets_is_not_quoted() -> None:
    for name in ("section", "sections", "texts", "text_map"):
        assert SECRET not in str(refusal(READS[name], f"TOKEN={SECRET}"))
    for name in ("section", "sections", "texts", "text_map", "text", "secret"):
        assert "123456789" not in str(refusal(READS[name], 123456789))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(2, 2.0), (0.5, 0.5), ("2", 2.0), ("2s", 2.0), ("500ms", 0.5), ("0.1m", 6.0), ("0.001h", 3.6)],
)
def test_numbers_and_durations_are_seconds(value: object, seconds: float) -> None:
    assert READS["number"](Fields({"key": value})) == pytest.approx(seconds)


def test_a_whole_float_is_a_whole_number() -> None:
    assert READS["integer"](Fields({"key": 3.0})) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (2, "2"), (10.0, "10"), (536870912, "536870912"), (1e-12, "0"), ("", ""), ("1g", "1g")],
)
def test_a_quantity_is_text_or_a_plain_number(value: object, text: str) -> None:
    assert Fields({"key": value}).quantity("key") == text


def test_numbers_and_booleans_in_a_text_map_become_their_json_spelling() -> None:
    fields = Fields({"key": {"A": 1, "B": True, "C": 1.5, "D": "x"}})
    assert fields.text_map("key") == {"A": "1", "B": "true", "C": "1.5", "D": "x"}


def test_a_text_map_refuses_what_has_no_plain_spelling() -> None:
    without_spelling: tuple[object, ...] = (None, float("nan"), float("inf"), 10**5000, [], {})
    for value in without_spelling:
        assert refusal(READS["text_map"], {"A": value}).field == "outer.key.A"


def test_a_text_map_refuses_a_name_that_is_no_text() -> None:
    for key in ("a\0b", "\ud800", "x" * (MAX_TEXT + 1)):
        refused = refusal(READS["text_map"], {key: "x"})
        assert refused.field == "outer.key"
        str(refused).encode()


@quick
@given(st.sampled_from(sorted(READS)), json_values)
def test_any_value_is_read_or_refused(name: str, value: object) -> None:
    try:
        READS[name](Fields({"key": value}))
    except InvalidField as refused:
        assert refused.field.startswith("key")
