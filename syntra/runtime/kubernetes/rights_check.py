"""Asks the API server what of the agent's rights is lacking, at the start and from time to time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.kubernetes import rights
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.objects import Object, is_true
from syntra.runtime.kubernetes.rights import Access
from syntra.runtime.kubernetes.settings import Groups

log = logging.getLogger(__name__)

PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
AT_ONCE = 4
# How long a complete answer is taken as known.
KNOWN_SECS = 300.0
# What is lacking is asked again sooner: an operator who binds a role reads the status next.
LACKING_SECS = 15.0


class RightsCheck:
    """`run` it beside the agent; `warning` is the sentence for `status`, empty while nothing is lacking."""

    def __init__(
        self, client: KubernetesClient, cluster: Groups, *, namespace: str, namespaces: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._namespace = namespace
        self._namespaces = namespaces
        self.missing: tuple[Access, ...] = ()

    @property
    def warning(self) -> str:
        return rights.lacking(self.missing)

    def lacks(self, resource: str) -> bool:
        """Whether a right to this resource is lacking."""
        return any(access.right.resource == resource for access in self.missing)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            before = self.warning
            try:
                await self.check()
            except RuntimeFailure as later:
                log.debug("rights are not known", extra={"reason": str(later)})
            else:
                self._tell(before)
            # A full answer takes one call for each right.
            await asyncio.sleep(LACKING_SECS if self.missing else KNOWN_SECS)

    async def check(self) -> None:
        """Ask for everything, or, while something is lacking, for that. Raises ClusterUnavailable and ApiRefusal."""
        if self.missing:
            self.missing = await self._denied(self.missing)
        if not self.missing and not await self._is_allowed(rights.review_of_all()):
            self.missing = await self._denied(rights.needed(await self._cluster.groups(), self._namespaces))

    def _tell(self, before: str) -> None:
        if self.warning and self.warning != before:
            log.warning("rights are lacking", extra={"reason": self.warning})
        elif before and not self.warning:
            log.info("no right is lacking any more")

    async def _denied(self, asked: Sequence[Access]) -> tuple[Access, ...]:
        limit = asyncio.Semaphore(AT_ONCE)

        async def is_allowed(access: Access) -> bool:
            async with limit:
                return await self._is_allowed(rights.review(access, self._namespace))

        try:
            async with asyncio.TaskGroup() as group:
                answers = [
                    group.create_task(is_allowed(access), name=f"may {access.verb} {access.right.resource}")
                    for access in asked
                ]
        except* RuntimeFailure as failed:
            raise failed.exceptions[0] from None
        return tuple(access for access, answer in zip(asked, answers, strict=True) if not answer.result())

    async def _is_allowed(self, review: Object) -> bool:
        answer = await self._client.call("POST", PATH, body=review, what="ask for the rights of the agent's user")
        return is_true(answer, "status", "allowed")
