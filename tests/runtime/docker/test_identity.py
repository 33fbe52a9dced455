"""Labels of a container's own tell it from a copy, whose labels are its image's."""

from __future__ import annotations

from typing import cast

import pytest

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.identity import MOST_IMAGES, Identity, is_inherited
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.records import ContainerSummary, ImageDetails

OURS = {
    "syntra.managed": "true",
    "syntra.owner": "me",
    "syntra.service_id": "web",
    "syntra.deployment_id": "d1",
    "syntra.replica": "1",
}
MADE = {**OURS, "syntra.instance": "aa"}
PROXY = {"syntra.owner": "me", "syntra.component": "proxy"}


@pytest.mark.parametrize("ours", [OURS, MADE, PROXY])
def test_a_copy_is_told_and_what_it_was_made_of_is_not(ours: dict[str, str]) -> None:
    assert is_inherited(ours, ours)
    assert is_inherited({**ours, "mine": "1"}, ours)
    assert not is_inherited(ours, {})
    assert not is_inherited(ours, {"maintainer": "somebody"})


def test_other_labels_given_to_a_copy_do_not_make_it_ours() -> None:
    for name in ("syntra.replica", "syntra.deployment_id", "syntra.service_id", "syntra.owner"):
        assert is_inherited({**MADE, name: "other"}, MADE)
    assert is_inherited({**OURS, "syntra.replica": "7"}, OURS)


def test_a_service_that_is_deployed_from_a_copy_s_image_is_ours() -> None:
    assert not is_inherited({**MADE, "syntra.instance": "bb"}, MADE), "also under the same deployment id"
    assert not is_inherited({**MADE, "syntra.deployment_id": "d2", "syntra.instance": "bb"}, OURS)
    assert not is_inherited({**OURS, "syntra.deployment_id": "d2"}, OURS), "by an agent that draws no instances"


def test_an_emptied_instance_is_none() -> None:
    assert is_inherited({**MADE, "syntra.instance": ""}, MADE)


class FewImages(Images):
    """An engine with these images: labels by id."""

    def __init__(self, images: dict[str, dict[str, str]]) -> None:
        super().__init__(cast(EngineClient, None))
        self.images = images
        self.asked: list[str] = []

    async def inspect(self, reference: str) -> ImageDetails | None:
        self.asked.append(reference)
        if reference not in self.images:
            return None
        return ImageDetails(
            id=reference,
            repo_tags=(),
            repo_digests=(),
            labels=self.images[reference],
            env={},
            created="",
            size_bytes=0,
        )


def row(container_id: str, image_id: str, labels: dict[str, str]) -> ContainerSummary:
    return ContainerSummary(
        id=container_id,
        name=f"name-{container_id}",
        image_id=image_id,
        image_ref="x",
        labels=labels,
        state="running",
        status_text="",
        created=0,
        addresses={},
    )


async def test_the_engine_is_asked_once_about_each_image() -> None:
    images = FewImages({"plain": {}, "copy": MADE})
    identity = Identity(images)
    for _ in range(3):
        assert await identity.is_ours(row("a", "plain", MADE))
        assert not await identity.is_ours(row("b", "copy", MADE))
    assert images.asked == ["plain", "copy"]
    assert (identity.verdict("a"), identity.verdict("b"), identity.verdict("c")) == (True, False, None)
    identity.keep_only(["b"])
    assert (identity.verdict("a"), identity.verdict("b")) == (None, False)


async def test_what_has_lost_its_image_is_not_taken_for_ours_and_may_be_again() -> None:
    images = FewImages({})
    identity = Identity(images)
    item = row("a", "gone", MADE)
    assert not await identity.is_ours(item)
    assert "lost its image" in str(await identity.stray(item))
    images.images["gone"] = {}
    assert await identity.is_ours(item)


async def test_what_is_remembered_of_images_is_bounded() -> None:
    images = FewImages({str(number): {} for number in range(MOST_IMAGES + 1)})
    identity = Identity(images)
    for number in range(MOST_IMAGES + 1):
        await identity.is_ours(row("a", str(number), MADE))
    await identity.is_ours(row("a", str(MOST_IMAGES), MADE))
    assert len(images.asked) == MOST_IMAGES + 1
    await identity.is_ours(row("a", "0", MADE))
    assert len(images.asked) == MOST_IMAGES + 2
