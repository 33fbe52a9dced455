"""Pulls the images of deployments, pins them with the agent's tags, and removes the tags that are no longer needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment, RegistryAuth
from syntra.runtime.containers.engine import PullProgress
from syntra.runtime.docker import body, garbage, records
from syntra.runtime.docker import pull as pulls
from syntra.runtime.docker.errors import NotFound, PullFailed, PullFailure, translated
from syntra.runtime.docker.images import Images

log = logging.getLogger(__name__)

PULL_INACTIVITY_SECS = 60.0
# How often the image may vanish between pull and pin before this fails.
ATTEMPTS = 3


class Pins:
    """The pins of one owner. Raises the client's errors."""

    def __init__(self, images: Images, *, owner: str) -> None:
        self._images = images
        self._owner = owner
        # Garbage collection must not list before a new pin and remove after it. It does not wait for pulls: an image
        # that is removed between pull and pin is pulled again.
        self._tagging = asyncio.Lock()

    def of(self, deployment: Deployment) -> str:
        """The pin of a deployment's image."""
        return ":".join(body.keep_tag(self._owner, deployment.spec.service_id, deployment.deployment_id))

    async def image_volumes(self, deployment: Deployment) -> frozenset[str] | None:
        """As `runtime.containers.engine.Images` has it. Before the pin is made, the image of that name counts."""
        with translated("ENGINE_ERROR"):
            for name in (self.of(deployment), deployment.spec.image.pullable):
                if (image := await self._images.inspect(name)) is not None:
                    return image.volumes
            return None

    async def obtain(self, deployment: Deployment, auth: RegistryAuth | None, progress: PullProgress) -> str:
        """Pull and pin; return a sentence when a local image was used instead of the registry's, else ""."""
        image = deployment.spec.image
        for attempt in range(1, ATTEMPTS + 1):
            present = await self._images.inspect(image.pullable)
            note = ""
            pulled = present is None or image.digest is None
            if pulled:
                note = await self._pull(deployment, present, auth, progress)
            try:
                async with self._tagging:
                    await self._pin(deployment, present, pulled=pulled)
            except NotFound as gone:
                if attempt == ATTEMPTS:
                    raise
                log.info("image was removed before it was pinned", extra={"image": str(image), "reason": str(gone)})
                continue
            return note
        raise AssertionError("cannot happen because the last attempt returns or raises")

    async def collect(self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]) -> int:
        """Remove the tags that are no longer needed; return how many."""
        async with self._tagging:
            names = [image.repo_tags for image in await self._images.list()]
            removals = garbage.unneeded(names, keep, known, self._owner)
            return sum([await self._images.remove(name) for name in removals])

    async def _pin(self, deployment: Deployment, present: records.ImageDetails | None, *, pulled: bool) -> None:
        image = deployment.spec.image
        repository, tag = body.keep_tag(self._owner, deployment.spec.service_id, deployment.deployment_id)
        await self._images.tag(image.pullable, repository, tag)
        if pulled and image.digest is None:
            # After the pin: garbage collection removes marks without a pin. A pulled name that moved to another image
            # is still marked as the agent's.
            mark = f"{garbage.mark_repository(image.pullable)}:{garbage.MARK_TAG}"
            if present is None or mark in present.repo_tags:
                await self._images.tag(image.pullable, *mark.rsplit(":", 1))

    async def _pull(
        self,
        deployment: Deployment,
        present: records.ImageDetails | None,
        auth: RegistryAuth | None,
        progress: PullProgress,
    ) -> str:
        image = deployment.spec.image
        credentials = None
        if auth is not None:
            credentials = records.RegistryAuth(
                username=auth.username, password=auth.password, server_address=image.registry
            )

        def report(state: pulls.PullProgress) -> None:
            progress(int(state.percent), state.text)

        try:
            await self._images.pull(
                image.name, image.version, credentials, inactivity_secs=PULL_INACTIVITY_SECS, on_progress=report
            )
        except PullFailed as failed:
            if present is None or not _may_stand_in(failed.reason, present, image.may_serve_from_cache):
                raise
            log.warning("pull failed; the local image is used", extra={"image": str(image), "reason": str(failed)})
            return f"the registry did not provide {image}; the local image is used"
        return ""


def _may_stand_in(reason: PullFailure, present: records.ImageDetails, cache_allowed: bool) -> bool:
    # An image without a digest was built or loaded here and has no registry. Any other may be used only while its
    # registry does not answer, and only under a name that is not expected to move.
    if not present.repo_digests:
        return True
    return cache_allowed and reason in (PullFailure.UNREACHABLE, PullFailure.STALLED)
