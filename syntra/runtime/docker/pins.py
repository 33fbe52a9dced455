"""Pulls the images of deployments, pins them with the agent's tags, and removes the tags that are no longer needed."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping

from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.image import ImageRef, ResolvedImage
from syntra.model.spec import Deployment, RegistryAuth
from syntra.runtime.containers.engine import PullProgress
from syntra.runtime.docker import body, garbage, records
from syntra.runtime.docker import pull as pulls
from syntra.runtime.docker.errors import NotFound, PullFailed, PullFailure, translated
from syntra.runtime.docker.images import Images
from syntra.runtime.errors import StepFailed

log = logging.getLogger(__name__)

PULL_INACTIVITY_SECS = 60.0
# A registry says with `Retry-After` when to ask again, but the engine passes on only the text of the error. Registries
# count pulls over minutes to hours. The last pause repeats.
RATE_LIMIT_PAUSES_SECS = (5.0, 10.0, 20.0, 40.0, 60.0)
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

    async def held(self, deployment: Deployment) -> records.ImageDetails | None:
        """The pinned image; None when there is none, or when it is another than the deployment was resolved to.

        Any user may move a tag, a pin as well.
        """
        image = await self._images.inspect(self.of(deployment))
        known = deployment.resolved
        return image if image is None or known is None or is_same(known, image) else None

    async def resolved(self, deployment: Deployment) -> ResolvedImage | None:
        """What the pinned image is; None when none is."""
        image = await self.held(deployment)
        return None if image is None else ResolvedImage(image_id=image.id, digest=digest_of(image, deployment))

    async def image_volumes(self, deployment: Deployment) -> frozenset[str] | None:
        """As `runtime.containers.engine.Images` has it."""
        with translated("ENGINE_ERROR"):
            image = await self.held(deployment)
            if image is None:
                known = deployment.resolved
                image = await self._images.inspect(known.image_id if known else deployment.spec.image.pullable)
            return None if image is None else image.volumes

    async def obtain(
        self,
        deployment: Deployment,
        auth: RegistryAuth | None,
        progress: PullProgress,
        deadline: float | None = None,
    ) -> str:
        """Pull and pin; return a sentence when a local image was used instead of the registry's, else "".

        A registry that limits pulls is asked again until `deadline`, unless a local image serves. So does `restore`.
        """
        image = deployment.spec.image

        async def once() -> str:
            present = await self._images.inspect(image.pullable)
            note = ""
            pulled = present is None or image.digest is None
            if pulled:
                note = await self._pull(deployment, present, auth, progress, deadline)
            found = await self._images.inspect(image.pullable) if pulled else present
            if found is None:
                raise NotFound(404, f"no such image: {image}", method="GET", path="/images")
            await self._pin(deployment, found, image.pullable if pulled else "", present)
            return note

        return await self._insist(str(image), once)

    async def restore(
        self,
        deployment: Deployment,
        known: ResolvedImage | None,
        auth: RegistryAuth | None,
        progress: PullProgress,
        deadline: float | None = None,
    ) -> None:
        """Pin the image that the deployment was made of again; what its tag stands for today is not asked.

        Raises StepFailed (IMAGE_NOT_FOUND) when it is neither here nor at its registry, or is not known.
        """
        image = deployment.spec.image
        if known is None:
            raise _gone(deployment, "which image it was is not recorded; deploy anew")
        if found := await self._images.inspect(known.image_id):
            await self._pin(deployment, found, "", None)
            return
        if not known.digest:
            came = f"{known.image_id[:19]} came from no registry"
            raise _gone(deployment, f"{came}; load it again (docker load), or deploy anew")
        by_digest = dataclasses.replace(image, digest=known.digest)

        async def once() -> str:
            present = await self._images.inspect(by_digest.pullable)
            if present is None:
                await self._pull_as(by_digest, auth, progress, deadline)
            found = present or await self._images.inspect(by_digest.pullable)
            if found is None:
                raise NotFound(404, f"no such image: {by_digest}", method="GET", path="/images")
            await self._pin(deployment, found, "" if present else by_digest.pullable, present)
            return ""

        try:
            await self._insist(str(by_digest), once)
        except PullFailed as failed:
            if failed.reason is not PullFailure.NOT_FOUND:
                raise
            why = f"its registry no longer has {known.digest} ({failed.message}); deploy anew"
            raise _gone(deployment, why) from failed

    async def collect(self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]) -> int:
        """Remove the tags that are no longer needed; return how many."""
        async with self._tagging:
            names = [(*image.repo_tags, *image.repo_digests) for image in await self._images.list()]
            removals = garbage.unneeded(names, keep, known, self._owner)
            return sum([await self._images.remove(name) for name in removals])

    async def _insist(self, image: str, once: Callable[[], Awaitable[str]]) -> str:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await once()
            except NotFound as gone:
                if attempt == ATTEMPTS:
                    raise
                log.info("image was removed before it was pinned", extra={"image": image, "reason": str(gone)})
        raise AssertionError("cannot happen because the last attempt returns or raises")

    async def _pin(
        self, deployment: Deployment, found: records.ImageDetails, pulled: str, before: records.ImageDetails | None
    ) -> None:
        """Pin by id: a name may move meanwhile. `pulled` is the name it was pulled by, `before` what had it."""
        repository, tag = body.keep_tag(self._owner, deployment.spec.service_id, deployment.deployment_id)
        async with self._tagging:
            await self._images.tag(found.id, repository, tag)
            # After the pin: garbage collection removes marks without a pin. A pulled name that moved to another image
            # is still marked as the agent's.
            mark = f"{garbage.mark_repository(pulled)}:{garbage.MARK_TAG}"
            if pulled and (before is None or mark in before.repo_tags):
                await self._images.tag(found.id, *mark.rsplit(":", 1))

    async def _pull(
        self,
        deployment: Deployment,
        present: records.ImageDetails | None,
        auth: RegistryAuth | None,
        progress: PullProgress,
        deadline: float | None,
    ) -> str:
        image = deployment.spec.image
        serves = present is not None and _may_stand_in(PullFailure.RATE_LIMITED, present, image.may_serve_from_cache)
        try:
            await self._pull_as(image, auth, progress, None if serves else deadline)
        except PullFailed as failed:
            if present is None or not _may_stand_in(failed.reason, present, image.may_serve_from_cache):
                raise
            log.warning("pull failed; the local image is used", extra={"image": str(image), "reason": str(failed)})
            return f"the registry did not provide {image}; the local image is used"
        return ""

    async def _pull_as(
        self, image: ImageRef, auth: RegistryAuth | None, progress: PullProgress, deadline: float | None
    ) -> None:
        """Pull; as long as the registry limits pulls, again after a pause that still ends before the deadline."""
        now = asyncio.get_running_loop().time
        pauses = itertools.chain(RATE_LIMIT_PAUSES_SECS, itertools.repeat(RATE_LIMIT_PAUSES_SECS[-1]))
        for pause in pauses:
            try:
                await self._pull_once(image, auth, progress)
            except PullFailed as failed:
                is_limited = failed.reason is PullFailure.RATE_LIMITED
                if not is_limited or deadline is None or now() + pause >= deadline:
                    raise
                log.info("the registry limits pulls", extra={"image": str(image), "retry_secs": pause})
                progress(0, f"the registry limits pulls; it is asked again in {pause:g} s")
            else:
                return
            await asyncio.sleep(pause)

    async def _pull_once(self, image: ImageRef, auth: RegistryAuth | None, progress: PullProgress) -> None:
        credentials = None
        if auth is not None:
            credentials = records.RegistryAuth(
                username=auth.username, password=auth.password, server_address=image.registry
            )

        def report(state: pulls.PullProgress) -> None:
            progress(int(state.percent), state.text)

        await self._images.pull(
            image.name, image.version, credentials, inactivity_secs=PULL_INACTIVITY_SECS, on_progress=report
        )


def _gone(deployment: Deployment, why: str) -> StepFailed:
    about = f"{deployment.spec.image} of deployment {deployment.deployment_id}"
    return StepFailed("IMAGE_NOT_FOUND", f"cannot bring back {about}: it was removed from this server, and {why}")


def is_same(known: ResolvedImage, image: records.ImageDetails) -> bool:
    """Whether an image is the one a deployment was resolved to. Another image store may give it another id."""
    if image.id == known.image_id:
        return True
    return bool(known.digest) and any(name.endswith(f"@{known.digest}") for name in image.repo_digests)


def digest_of(image: records.ImageDetails, deployment: Deployment) -> str:
    """The digest under which the deployment's repository has the image; "" when it has none."""
    ref, known = deployment.spec.image, deployment.resolved
    there = [name.rpartition("@")[2] for name in image.repo_digests if _is_of(name, ref)]
    for wanted in (ref.digest, known.digest if known else None):
        if wanted and (wanted in there or not there):
            return wanted
    return there[0] if there else ""


def _is_of(repo_digest: str, image: ImageRef) -> bool:
    return _familiar(repo_digest.rpartition("@")[0]) == _familiar(image.name)


def _familiar(name: str) -> str:
    """As the engine lists it: without its default registry and that one's default folder."""
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name


def _may_stand_in(reason: PullFailure, present: records.ImageDetails, cache_allowed: bool) -> bool:
    # An image without a digest was built or loaded here and has no registry. Any other may be used only while its
    # registry does not answer, and only under a name that is not expected to move.
    if not present.repo_digests:
        return True
    return cache_allowed and reason in (PullFailure.UNREACHABLE, PullFailure.STALLED, PullFailure.RATE_LIMITED)
