"""The images of deployments: obtained, pinned by a tag of ours, and dropped when nothing needs them any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment, RegistryAuth
from syntra.runtime.containers.engine import PullProgress
from syntra.runtime.docker import body, garbage, records
from syntra.runtime.docker import pull as pulls
from syntra.runtime.docker.errors import NotFound, PullFailed, PullFailure
from syntra.runtime.docker.images import Images

log = logging.getLogger(__name__)

PULL_INACTIVITY_SECS = 60.0
# How often an image may be gone again between its pull and its pin before that is a failure.
ATTEMPTS = 3


class Pins:
    """The pins of one owner. Raises the client's errors."""

    def __init__(self, images: Images, *, owner: str) -> None:
        self._images = images
        self._owner = owner
        # Garbage collection must not look before a pin and remove after it. A pull is too long to be waited for: what
        # goes between its end and the pin is pulled again.
        self._tagging = asyncio.Lock()

    def of(self, deployment: Deployment) -> str:
        """The pin of a deployment's image."""
        return ":".join(body.keep_tag(self._owner, deployment.spec.service_id, deployment.deployment_id))

    async def obtain(self, deployment: Deployment, auth: RegistryAuth | None, progress: PullProgress) -> str:
        """Pull and pin; a sentence when a present image stood in for the registry, else an empty string."""
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
        """Remove the names that nothing needs; how many went."""
        async with self._tagging:
            names = [image.repo_tags for image in await self._images.list()]
            removals = garbage.unneeded(names, keep, known, self._owner)
            return sum([await self._images.remove(name) for name in removals])

    async def _pin(self, deployment: Deployment, present: records.ImageDetails | None, *, pulled: bool) -> None:
        image = deployment.spec.image
        repository, tag = body.keep_tag(self._owner, deployment.spec.service_id, deployment.deployment_id)
        await self._images.tag(image.pullable, repository, tag)
        if pulled and image.digest is None:
            # After the pin: a mark without a pin is what garbage collection looks for. A name that moved from an
            # image we pulled to another one is still ours.
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
    # An image without a digest was built or loaded here: no registry could have given it. Any other may serve only
    # while its registry does not answer, and only under a name that is not meant to move.
    if not present.repo_digests:
        return True
    return cache_allowed and reason in (PullFailure.UNREACHABLE, PullFailure.STALLED)
