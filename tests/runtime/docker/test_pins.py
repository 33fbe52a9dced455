"""Pins and garbage collection at the same time, on images in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import NotFound
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.pins import ATTEMPTS, Pins
from syntra.runtime.docker.records import ImageDetails, ImageSummary
from tests.agent.samples import deployment

NAME = "shop/web:1"


class OneImage(Images):
    """An engine with one image or none; `pulled` happens after each pull."""

    def __init__(self) -> None:
        super().__init__(cast(EngineClient, None))
        self.names: set[str] = set()
        self.pulls = 0
        self.pulled: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def inspect(self, reference: str) -> ImageDetails | None:
        found = cast(ImageDetails, type("Found", (), {"repo_tags": tuple(self.names), "repo_digests": ("x",)})())
        return found if reference in self.names else None

    async def list(self, **_: Any) -> list[ImageSummary]:
        return [cast(ImageSummary, type("Found", (), {"repo_tags": tuple(sorted(self.names))})())]

    async def pull(self, *_: Any, **__: Any) -> None:
        self.pulls += 1
        self.names.add(NAME)
        await self.pulled()

    async def tag(self, reference: str, repository: str, tag: str) -> None:
        await asyncio.sleep(0)
        if reference not in self.names:
            raise NotFound(404, f"No such image: {reference}", method="POST", path="/images/tag")
        self.names.add(f"{repository}:{tag}")

    async def remove(self, reference: str) -> bool:
        await asyncio.sleep(0)
        self.names.discard(reference)
        return True


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
