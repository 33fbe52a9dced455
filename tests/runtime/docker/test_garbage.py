"""Which image names go: only ours, only those nothing needs, in an order that may stop anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syntra.model.ids import DeploymentId, ServiceId
from syntra.runtime.docker.body import KEEP_PREFIX, keep_tag, kept_by
from syntra.runtime.docker.garbage import MARK_PREFIX, MARK_TAG, mark_repository, unneeded
from tests.model.samples import quick

API, WEB = ServiceId("api"), ServiceId("web")
ONE, TWO = DeploymentId("dep_1"), DeploymentId("dep_2")
KNOWN = frozenset({API, WEB})
OWNER, OTHER = "0a1b2c3d4e5f", "ffffffffffff"


def pin(service: ServiceId, deployment_id: DeploymentId, owner: str = OWNER) -> str:
    return ":".join(keep_tag(owner, service, deployment_id))


def mark(name: str) -> str:
    return f"{mark_repository(name)}:{MARK_TAG}"


def test_a_pin_goes_when_its_deployment_is_not_kept() -> None:
    images = [[pin(API, ONE), "nginx:1"], [pin(API, TWO), "nginx:2"]]
    assert unneeded(images, {API: frozenset({TWO})}, KNOWN, OWNER) == [pin(API, ONE)]


def test_nothing_of_a_service_that_is_not_known_goes() -> None:
    images = [[pin(API, ONE), mark("nginx:1"), "nginx:1"]]
    assert unneeded(images, {}, frozenset({WEB}), OWNER) == []
    assert unneeded(images, {}, frozenset(), OWNER) == []


def test_what_another_agent_pins_stays_with_all_its_names() -> None:
    images = [[pin(API, ONE, OTHER), pin(API, ONE), mark("nginx:1"), "nginx:1"]]
    assert unneeded(images, {}, KNOWN, OWNER) == [pin(API, ONE)]


def test_what_we_pulled_goes_with_its_last_pin_and_the_mark_goes_last() -> None:
    images = [["nginx:1", mark("nginx:1"), pin(API, ONE), pin(WEB, ONE)]]
    assert unneeded(images, {}, KNOWN, OWNER) == [pin(API, ONE), pin(WEB, ONE), "nginx:1", mark("nginx:1")]
    assert unneeded(images, {WEB: frozenset({ONE})}, KNOWN, OWNER) == [pin(API, ONE)]


def test_names_of_others_stay() -> None:
    images = [
        ["nginx:1", pin(API, ONE)],
        ["nginx:2", "mine:2", mark("nginx:2"), pin(API, TWO)],
        ["postgres:16"],
        [],
        [f"host:5000/syntra-keep/{OWNER}/617069:dep_1", f"syntra-keep/{OWNER}/not-hex:1"],
    ]
    assert unneeded(images, {}, KNOWN, OWNER) == [pin(API, ONE), pin(API, TWO), "nginx:2", mark("nginx:2")]


def test_a_mark_takes_only_the_name_it_was_made_for() -> None:
    # Somebody has pulled nginx:1 anew since: the name has moved to another image, the mark has not.
    assert unneeded([["old:name", mark("nginx:1")], ["nginx:1"]], {}, KNOWN, OWNER) == [mark("nginx:1")]


def test_a_removal_that_was_cut_short_is_taken_up_again() -> None:
    assert unneeded([["nginx:1", mark("nginx:1")]], {}, KNOWN, OWNER) == ["nginx:1", mark("nginx:1")]
    assert unneeded([[mark("nginx:1")]], {}, KNOWN, OWNER) == [mark("nginx:1")]


def test_a_mark_is_a_name_the_engine_takes_however_long_the_marked_one_is() -> None:
    for name in ("nginx:1", "registry.example:5000/" + "a" * 200 + ":" + "t" * 128):
        assert len(mark(name)) < 100
        assert mark(name) == mark(name).lower()


NAMES = ["nginx:1", "ghcr.io/acme/api:2", "mine:dev"]


@st.composite
def engines(draw: Callable[..., Any]) -> list[list[str]]:
    """Images with names of every sort; each name is on one image, as on an engine."""
    names = [pin(service, of) for service in (API, WEB, ServiceId("gone")) for of in (ONE, TWO)]
    names += NAMES + [mark(name) for name in NAMES]
    images: list[list[str]] = [[] for _ in range(draw(st.integers(1, 4)))]
    for name in draw(st.permutations(names)):
        where = draw(st.integers(-1, len(images) - 1))
        if where >= 0:
            images[where].append(name)
    return images


@quick
@given(engines(), st.sets(st.sampled_from([ONE, TWO])), st.sets(st.sampled_from([API, WEB])), st.integers(0, 12))
def test_stopping_anywhere_and_going_on_ends_the_same_and_takes_nothing_that_is_needed(
    images: list[list[str]], kept: set[DeploymentId], known: set[ServiceId], cut: int
) -> None:
    keep = {API: frozenset(kept)}

    def without(gone: list[str]) -> list[list[str]]:
        return [[name for name in names if name not in gone] for names in images]

    whole = unneeded(images, keep, frozenset(known), OWNER)
    assert len(whole) == len(set(whole))
    first = whole[:cut]
    assert sorted(first + unneeded(without(first), keep, frozenset(known), OWNER)) == sorted(whole)
    assert unneeded(without(whole), keep, frozenset(known), OWNER) == []
    for names in images:
        left = [name for name in names if name not in whole]
        for name in set(names) - set(left):
            owner = kept_by(OWNER, name)
            if owner is not None:
                assert owner[0] in known
                assert owner[1] not in keep.get(owner[0], ())
            else:
                assert not [pinned for pinned in left if pinned.startswith(KEEP_PREFIX)], "needed: keeps its names"
                assert name.startswith(MARK_PREFIX) or mark(name) in names
