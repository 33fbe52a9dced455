"""Pins and garbage collection at the same time, on images in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef, ResolvedImage, make_image, split_image
from syntra.model.spec import Deployment
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import NotFound, PullFailed, PullFailure
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.pins import ATTEMPTS, Pins, digest_of
from syntra.runtime.docker.records import ImageDetails, ImageSummary
from syntra.runtime.errors import StepFailed
from tests.agent.samples import deployment
from tests.agent.virtual_time import now

NAME = "shop/web:1"


class OneImage(Images):
    """An engine with one image or none; `pulled` happens after each pull."""

    def __init__(self) -> None:
        super().__init__(cast(EngineClient, None))
        self.names: set[str] = set()
        self.pulls = 0
        self.pulled: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def inspect(self, reference: str) -> ImageDetails | None:
        return details("i1", tags=self.names, digests=["x"]) if reference in self.names else None

    async def list(self, **_: Any) -> list[ImageSummary]:
        return [summary("i1", self.names)]

    async def pull(self, *_: Any, **__: Any) -> None:
        self.pulls += 1
        self.names.add(NAME)
        await self.pulled()

    async def tag(self, reference: str, repository: str, tag: str) -> None:
        await asyncio.sleep(0)
        if reference != "i1" or not self.names:
            raise NotFound(404, f"No such image: {reference}", method="POST", path="/images/tag")
        self.names.add(f"{repository}:{tag}")

    async def remove(self, reference: str) -> bool:
        await asyncio.sleep(0)
        self.names.discard(reference)
        return True


def details(image_id: str, *, tags: Iterable[str] = (), digests: Iterable[str] = ()) -> ImageDetails:
    return ImageDetails(
        id=image_id,
        repo_tags=tuple(sorted(tags)),
        repo_digests=tuple(digests),
        labels={},
        env={},
        created="",
        size_bytes=0,
    )


def summary(image_id: str, tags: Iterable[str]) -> ImageSummary:
    return ImageSummary(id=image_id, repo_tags=tuple(sorted(tags)), repo_digests=(), labels={}, created=0, size_bytes=0)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


class Shelf(Images):
    """An engine and a registry: `served` is what a name is there, `names` what it is here, both by number.

    Image 7 has the id `i7` and the digest `digest(7)`.
    """

    def __init__(self) -> None:
        super().__init__(cast(EngineClient, None))
        self.served: dict[str, int] = {"shop/web:1": 1}
        self.names: dict[str, int] = {}
        self.pulls: list[str] = []
        self.failure: PullFailure | None = None

    async def inspect(self, reference: str) -> ImageDetails | None:
        number = self.names.get(reference)
        if number is None:
            number = next((n for n in self.names.values() if f"i{n}" == reference), None)
        if number is None:
            return None
        mine = [name for name, n in self.names.items() if n == number]
        digests = [name for name in mine if "@" in name]
        return details(f"i{number}", tags=set(mine) - set(digests), digests=digests)

    async def list(self, **_: Any) -> list[ImageSummary]:
        return [
            summary(f"i{n}", [name for name in self.names if self.names[name] == n]) for n in {*self.names.values()}
        ]

    async def pull(self, repository: str, tag_or_digest: str, *_: Any, **__: Any) -> None:
        name = f"{repository}{'@' if ':' in tag_or_digest else ':'}{tag_or_digest}"
        self.pulls.append(name)
        if self.failure is not None:
            raise PullFailed(name, self.failure, "the registry says no")
        if name not in self.served:
            raise PullFailed(name, PullFailure.NOT_FOUND, "manifest unknown")
        self.names[name] = number = self.served[name]
        self.names[f"{repository}@{digest(number)}"] = number

    async def tag(self, reference: str, repository: str, tag: str) -> None:
        found = await self.inspect(reference)
        if found is None:
            raise NotFound(404, f"No such image: {reference}", method="POST", path="/images/tag")
        self.names[f"{repository}:{tag}"] = int(found.id[1:])

    async def remove(self, reference: str) -> bool:
        self.names.pop(reference, None)
        return True


def ignore(percent: int, text: str) -> None:
    """Nobody follows."""


async def resolved_once(shelf: Shelf, pins: Pins, deployment_id: str = "d1") -> Deployment:
    """A deployment that was obtained, with what it was resolved to."""
    wanted = deployment(deployment_id)
    await pins.obtain(wanted, None, ignore)
    return replace(wanted, resolved=await pins.resolved(wanted))


async def test_a_deployment_keeps_its_image_when_its_tag_moves_and_its_pin_goes() -> None:
    shelf = Shelf()
    pins = Pins(shelf, owner="own")
    wanted = await resolved_once(shelf, pins)
    assert wanted.resolved == ResolvedImage(image_id="i1", digest=digest(1))
    # Somebody else pulled what the tag stands for today; the image itself is still here.
    shelf.served = {"shop/web:1": 2}
    shelf.names["shop/web:1"] = 2
    del shelf.names[pins.of(wanted)]
    assert await pins.held(wanted) is None
    pulls = len(shelf.pulls)
    await pins.restore(wanted, wanted.resolved, None, ignore)
    assert shelf.names[pins.of(wanted)] == 1
    assert len(shelf.pulls) == pulls, "what is here is not asked for"


async def test_a_pin_that_somebody_moved_is_not_taken_for_it() -> None:
    shelf = Shelf()
    pins = Pins(shelf, owner="own")
    wanted = await resolved_once(shelf, pins)
    shelf.names[pins.of(wanted)] = 2
    assert await pins.held(wanted) is None
    await pins.restore(wanted, wanted.resolved, None, ignore)
    held = await pins.held(wanted)
    assert held is not None
    assert held.id == "i1"


async def test_what_was_pruned_is_pulled_by_its_digest_and_goes_again_when_nothing_needs_it() -> None:
    shelf = Shelf()
    pins = Pins(shelf, owner="own")
    wanted = await resolved_once(shelf, pins)
    shelf.names.clear()
    shelf.served = {"shop/web:1": 2, f"shop/web@{digest(1)}": 1}
    await pins.restore(wanted, wanted.resolved, None, ignore)
    assert shelf.pulls[-1] == f"shop/web@{digest(1)}"
    assert await pins.resolved(wanted) == wanted.resolved
    await pins.collect({}, frozenset({wanted.spec.service_id}))
    assert shelf.names == {}


@pytest.mark.parametrize("known", [ResolvedImage(image_id="i9"), ResolvedImage(image_id="i9", digest=digest(9)), None])
async def test_what_is_nowhere_is_refused_with_the_reason(known: ResolvedImage | None) -> None:
    shelf = Shelf()
    with pytest.raises(StepFailed, match="deploy anew") as refused:
        await Pins(shelf, owner="own").restore(deployment(), known, None, ignore)
    assert refused.value.code == "IMAGE_NOT_FOUND"
    assert "shop/web:1" not in shelf.pulls, "what the tag stands for is no answer"
    assert shelf.names == {}


async def test_a_registry_that_does_not_answer_is_said_as_that() -> None:
    shelf = Shelf()
    shelf.failure = PullFailure.UNREACHABLE
    known = ResolvedImage(image_id="i9", digest=digest(9))
    with pytest.raises(PullFailed):
        await Pins(shelf, owner="own").restore(deployment(), known, None, ignore)


@pytest.mark.parametrize(
    ("reason", "serves"),
    [
        (PullFailure.UNREACHABLE, True),
        (PullFailure.RATE_LIMITED, True),
        (PullFailure.STALLED, True),
        (PullFailure.DENIED, False),
        (PullFailure.UNAUTHORIZED, False),
        (PullFailure.NOT_FOUND, False),
        (PullFailure.PLATFORM, False),
        (PullFailure.OTHER, False),
    ],
)
async def test_the_image_that_is_here_serves_while_its_registry_has_no_answer(
    reason: PullFailure, serves: bool
) -> None:
    shelf = Shelf()
    pins = Pins(shelf, owner="own")
    await pins.obtain(deployment("d1"), None, ignore)
    shelf.failure = reason
    if serves:
        assert "the local image is used" in await pins.obtain(deployment("d2"), None, ignore)
        return
    with pytest.raises(PullFailed):
        await pins.obtain(deployment("d2"), None, ignore)


@pytest.mark.virtual_time
async def test_a_registry_that_limits_pulls_is_asked_again_until_the_deadline() -> None:
    shelf, said = Shelf(), list[str]()
    shelf.failure = PullFailure.RATE_LIMITED
    begun = now()
    with pytest.raises(PullFailed, match="limits how often this server may pull: wait") as limited:
        await Pins(shelf, owner="own").obtain(deployment(), None, lambda _, text: said.append(text), begun + 100)
    assert limited.value.reason is PullFailure.RATE_LIMITED
    # The pause after the fifth question would end after the deadline.
    assert now() - begun == 5 + 10 + 20 + 40
    assert len(shelf.pulls) == len(said) + 1 == 5
    assert said[-1] == "the registry limits pulls; it is asked again in 40 s"


@pytest.mark.virtual_time
async def test_a_limit_that_ends_lets_the_pull_go_through() -> None:
    shelf = Shelf()
    pins = Pins(shelf, owner="own")
    shelf.failure = PullFailure.RATE_LIMITED

    def lift(_: int, text: str) -> None:
        shelf.failure = None

    begun = now()
    assert await pins.obtain(deployment(), None, lift, begun + 60) == ""
    assert now() - begun == 5
    known = await pins.resolved(deployment())
    assert known is not None
    shelf.names.clear()
    shelf.served[f"shop/web@{digest(1)}"] = 1
    shelf.failure = PullFailure.RATE_LIMITED
    await pins.restore(deployment(), known, None, lift, now() + 60)
    assert now() - begun == 10


@pytest.mark.virtual_time
async def test_a_limit_is_not_waited_for_without_a_deadline_or_with_an_image_that_serves() -> None:
    shelf = Shelf()
    pins = Pins(shelf, owner="own")
    begun = now()
    shelf.failure = PullFailure.RATE_LIMITED
    with pytest.raises(PullFailed):
        await pins.obtain(deployment(), None, ignore)
    shelf.failure = None
    await pins.obtain(deployment("d1"), None, ignore)
    shelf.failure = PullFailure.RATE_LIMITED
    assert "the local image is used" in await pins.obtain(deployment("d2"), None, ignore, begun + 600)
    assert now() == begun


@pytest.mark.parametrize(
    ("name", "listed", "found"),
    [
        ("shop/web", "shop/web", True),
        ("docker.io/library/nginx", "nginx", True),
        ("library/nginx", "nginx", True),
        ("r.example:5000/shop/web", "r.example:5000/shop/web", True),
        ("shop/web", "other/web", False),
    ],
)
def test_the_digest_is_that_of_the_deployment_s_own_repository(name: str, listed: str, found: bool) -> None:
    plain = deployment()
    wanted = replace(plain, spec=replace(plain.spec, image=make_image(str, split_image(f"{name}:1"))))
    image = details("i1", digests=[f"mirror/x@{digest(5)}", f"{listed}@{digest(1)}"])
    assert digest_of(image, wanted) == (digest(1) if found else "")


async def test_an_image_that_goes_with_another_service_before_it_is_pinned_is_pulled_again() -> None:
    images = OneImage()
    pins = Pins(images, owner="own")
    await pins.obtain(deployment("d1", "a"), None, lambda *_: None)
    gone: list[int] = []

    async def a_is_removed() -> None:
        if not gone:
            gone.append(await pins.collect({}, frozenset({ServiceId("a")})))

    images.pulled = a_is_removed
    await pins.obtain(deployment("d1", "b"), None, lambda *_: None)
    assert gone == [3]
    assert {NAME, pins.of(deployment("d1", "b"))} < images.names
    assert images.pulls == 3


async def test_an_image_that_always_goes_is_a_failure_in_the_end() -> None:
    images = OneImage()

    async def pruned() -> None:
        images.names.clear()

    images.pulled = pruned
    with pytest.raises(NotFound):
        await Pins(images, owner="own").obtain(deployment(), None, lambda *_: None)
    assert images.pulls == ATTEMPTS


async def test_garbage_is_not_collected_between_pin_and_mark() -> None:
    images = OneImage()
    pins = Pins(images, owner="own")
    await pins.obtain(deployment("d1", "a"), None, lambda *_: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(pins.collect({}, frozenset({ServiceId("a")})), name="garbage")
        group.create_task(pins.obtain(deployment("d1", "b"), None, lambda *_: None), name="obtain")
    assert pins.of(deployment("d1", "b")) in images.names
    assert NAME in images.names


async def test_a_digest_that_is_here_is_pinned_without_a_pull() -> None:
    images = OneImage()
    image = ImageRef(registry="", repository="shop/web", tag="latest", digest="sha256:" + "a" * 64)
    images.names.add(image.pullable)
    plain = deployment()
    pinned = replace(plain, spec=replace(plain.spec, image=image))
    await Pins(images, owner="own").obtain(pinned, None, lambda *_: None)
    assert images.pulls == 0
