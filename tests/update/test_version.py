"""Versions: which are accepted, and their order."""

from __future__ import annotations

import random

import pytest

from syntra.update.version import Version

IN_ORDER = ("0.0.1", "0.9.0", "0.10.0-beta.0", "0.10.0-beta.2", "0.10.0-beta.10", "0.10.0", "0.10.1", "1.0.0", "10.0.0")


def test_versions_are_ordered_by_their_numbers_and_a_beta_comes_before_its_release() -> None:
    shuffled = random.Random(3).sample(IN_ORDER, len(IN_ORDER))
    assert [str(version) for version in sorted(map(Version.parse, shuffled))] == list(IN_ORDER)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.3",
            "01.2.3",
            "1.2.3-rc.1",
            "1.2.3-beta",
            "1.2.3+build",
            "1.2.3\n",
            " 1.2.3",
        ),
        *("١.2.3", "1.2.-3", "1.2.1234567", "../1.2.3", "1.2.3-beta.01"),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"N\.N\.N"):
        Version.parse(text)
