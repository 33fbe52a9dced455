"""Decides which containers are the agent's. Labels alone are no proof: a container also has those of its image.

A container that runs from a copy of a replica (`docker commit`) has all of the replica's labels. The engine takes a
label from the image where the create body has none of that name (Engine API, "Create a container"), so the value tells
a label that was given at create from an inherited one: each container that the agent creates gets a new random
`syntra.instance`, which equals its image's only if it came from there. Neither the journal nor the name is used, so a
lost journal, a rename and a kill between a create and its answer change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syntra.runtime.docker.body import DEPLOYMENT, INSTANCE, OWNER, SERVICE
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.records import ContainerDetails, ContainerSummary
from syntra.utils.frozen import frozen

# The labels that distinguish a container from its image, best first. Containers of earlier agents have no instance, and
# their proxies have no deployment either.
_MARKS = (INSTANCE, DEPLOYMENT, OWNER)
MOST_IMAGES = 1000
"""Images whose labels are cached. An image never changes, so an entry stays valid."""


@frozen
class Stray:
    """A container that has the agent's labels but is not the agent's. `has_image`: its image exists, with them."""

    name: str
    service_id: str
    has_image: bool

    def __str__(self) -> str:
        why = "has its labels from its image" if self.has_image else "has lost its image, which its labels may be from"
        return (
            f"container {self.name} looks like a replica of {self.service_id} but {why}: it is left alone; remove it, "
            "or run it with --label syntra.managed=false"
        )


def is_inherited(labels: Mapping[str, str], image_labels: Mapping[str, str]) -> bool:
    """Whether the agent's labels of a container came from its image."""
    mark = next((name for name in _MARKS if labels.get(name)), None)
    return mark is not None and image_labels.get(mark) == labels[mark]


class Identity:
    """Judges containers with the agent's labels; inspects each image once. Raises the client's errors."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._marks: dict[str, Mapping[str, str]] = {}
        self._verdicts: dict[str, bool] = {}

    async def is_ours(self, container: ContainerSummary | ContainerDetails) -> bool:
        """Whether the agent created it. False without its image, as it may then be a copy."""
        marks = await self._marks_of(container.image_id)
        verdict = marks is not None and not is_inherited(container.labels, marks)
        self._verdicts[container.id] = verdict
        return verdict

    async def stray(self, container: ContainerSummary) -> Stray:
        """Describe a container that is not the agent's."""
        has_image = await self._marks_of(container.image_id) is not None
        return Stray(name=container.name, service_id=container.labels.get(SERVICE, ""), has_image=has_image)

    def made(self, container_id: str) -> None:
        """The agent has just created it."""
        self._verdicts[container_id] = True

    def verdict(self, container_id: str) -> bool | None:
        """The last result of `is_ours`; None when it was not judged yet."""
        return self._verdicts.get(container_id)

    def keep_only(self, ids: Iterable[str]) -> None:
        """Drop containers that no longer exist."""
        for gone in self._verdicts.keys() - set(ids):
            del self._verdicts[gone]

    async def _marks_of(self, image_id: str) -> Mapping[str, str] | None:
        known = self._marks.get(image_id)
        if known is not None:
            return known
        image = await self._images.inspect(image_id)
        if image is None:
            return None
        if len(self._marks) >= MOST_IMAGES:
            self._marks.clear()
        found = self._marks[image_id] = {name: image.labels[name] for name in _MARKS if name in image.labels}
        return found
