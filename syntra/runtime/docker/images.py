"""Images: inspect, pull, tag, remove (Engine API, "Images")."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from syntra.runtime.docker import fields, parsing
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import (
    Conflict,
    EngineError,
    EngineTimeout,
    NotFound,
    PullFailed,
    PullFailure,
)
from syntra.runtime.docker.garbage import is_pulled
from syntra.runtime.docker.jsonlines import JsonStream
from syntra.runtime.docker.paths import label_filter, path
from syntra.runtime.docker.product import Product
from syntra.runtime.docker.pull import PullFold, PullProgress, classify
from syntra.runtime.docker.records import ImageDetails, ImageSummary, RegistryAuth

REMOVE_SECS = 120.0
"""Removing deletes layers, which is slow for large images."""


class Images:
    """The image calls of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def inspect(self, reference: str) -> ImageDetails | None:
        """By name, digest or id; None when the engine has no such image.

        Podman gives every image a digest. There, one that the agent has not pulled counts as built or loaded here.
        """
        try:
            response = await self._client.request("GET", path("images", reference, "json"))
        except NotFound:
            return None
        found = parsing.image_details(response.json())
        if await self._client.product() is Product.PODMAN and not is_pulled(found.repo_tags):
            return replace(found, repo_digests=())
        return found

    async def list(
        self, *, labels: Mapping[str, str | None] | None = None, reference: str | None = None
    ) -> list[ImageSummary]:
        """Images with all these labels, and with a name that matches `reference` (`*` within a path component)."""
        filters: dict[str, object] = {}
        if labels:
            filters["label"] = label_filter(labels)
        if reference is not None:
            filters["reference"] = [reference]
        response = await self._client.request("GET", "/images/json", query={"filters": filters})
        return [parsing.image_summary(row) for row in fields.array({"rows": response.json()}, "rows")]

    async def pull(
        self,
        repository: str,
        tag_or_digest: str,
        auth: RegistryAuth | None = None,
        *,
        inactivity_secs: float,
        on_progress: Callable[[PullProgress], None] | None = None,
    ) -> None:
        """Pull one image and return when it is complete; cancelling cancels the pull.

        Raises PullFailed, with STALLED when the engine reports nothing for `inactivity_secs`; the total time is
        unlimited. An image pulled by digest has no tag, and the next prune would remove it: tag it.
        """
        separator = "@" if ":" in tag_or_digest else ":"
        image = f"{repository}{separator}{tag_or_digest}"
        if not tag_or_digest:
            # Without a tag the engine pulls every tag of the repository.
            raise PullFailed(repository, PullFailure.NOT_FOUND, "neither tag nor digest is given")
        fold, decoder = PullFold(), JsonStream()
        try:
            async with self._client.stream(
                "POST",
                "/images/create",
                query={"fromImage": repository, "tag": tag_or_digest},
                headers={} if auth is None else {"X-Registry-Auth": registry_header(auth)},
                connect_deadline=inactivity_secs,
                idle_deadline=inactivity_secs,
            ) as stream:
                async for chunk in stream:
                    for message in decoder.feed(chunk):
                        if fold.feed(message) and on_progress is not None:
                            on_progress(fold.progress)
                    if decoder.error is not None:
                        break
        except EngineTimeout as exc:
            raise PullFailed(image, PullFailure.STALLED, f"no progress for {inactivity_secs:g} s") from exc
        except EngineError as exc:
            reason = classify(exc.message, exc.status, repository=repository)
            raise PullFailed(image, reason, exc.message) from exc
        decoder.feed_eof()
        if decoder.error is not None:
            raise decoder.error
        if fold.error is not None:
            raise PullFailed(image, classify(fold.error, repository=repository), fold.error)

    async def tag(self, reference: str, repository: str, tag: str) -> None:
        """Give the image another name; any other image loses that name."""
        await self._client.request("POST", path("images", reference, "tag"), query={"repo": repository, "tag": tag})

    async def remove(self, reference: str) -> bool:
        """Remove a name, and with its last name the image; True also when it does not exist.

        False when a container uses the image; it then stays as it is.
        """
        try:
            await self._client.request("DELETE", path("images", reference), deadline=REMOVE_SECS)
        except NotFound:
            return True
        except Conflict:
            return False
        return True


def registry_header(auth: RegistryAuth) -> str:
    """The value of X-Registry-Auth: JSON in URL-safe base64. The engine ignores values that it cannot decode."""
    document = {
        "username": auth.username,
        "password": auth.password,
        "identitytoken": auth.identity_token,
        "serveraddress": auth.server_address,
    }
    present = {name: value for name, value in document.items() if value}
    return base64.urlsafe_b64encode(json.dumps(present).encode()).decode("ascii")
