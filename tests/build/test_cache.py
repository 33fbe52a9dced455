"""Entries of the build cache: made once per content, never half."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from build import cache
from build.errors import BuildError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTRA_BUILD_CACHE", str(tmp_path / "cache"))


def test_an_entry_is_made_once_per_key() -> None:
    made: list[Path] = []
    places = [cache.entry("thing", key, made.append) for key in ("a", "a", "b")]
    assert places[0] == places[1] != places[2]
    assert made == [places[0], places[2]]


def test_side_by_side_only_one_makes_it() -> None:
    started, made = threading.Barrier(4), []

    def make(place: Path) -> None:
        made.append(place)

    def ask() -> None:
        started.wait()
        cache.entry("thing", "key", make)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_failed_entry_is_made_again_from_nothing() -> None:
    def half(place: Path) -> None:
        (place / "half").touch()
        raise BuildError("cannot")

    with pytest.raises(BuildError):
        cache.entry("thing", "key", half)
    place = cache.entry("thing", "key", lambda place: (place / "whole").touch())
    assert {path.name for path in place.iterdir()} == {"whole", cache.COMPLETE}


def test_an_entry_that_was_not_used_for_weeks_makes_room() -> None:
    keys = [cache.digest(word) for word in ("old", "used", "new")]
    old, used = (cache.entry("thing", key, lambda place: None) for key in keys[:2])
    other = cache.entry("thing-else", keys[0], lambda place: None)
    for place in (old, used, other):
        os.utime(place / cache.COMPLETE, (1, 1))
    cache.entry("thing", keys[1], lambda place: None)
    cache.entry("thing", keys[2], lambda place: None)
    assert (old.exists(), used.exists(), other.exists()) == (False, True, True)


def test_a_digest_separates_its_parts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ab")
    assert cache.digest("a", "b") != cache.digest("ab")
    assert cache.digest(tmp_path / "file") == cache.digest("ab") == cache.digest(b"ab")


def test_a_failed_step_shows_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"(?s)sh ended with 3; see .*/log\n.*the reason"):
        cache.run(["sh", "-c", "seq 100; echo the reason; exit 3"], tmp_path / "log")
