"""What the API server says about objects before they are applied: dry runs, and whose objects have their names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from syntra.runtime.errors import StepFailed
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.names import MANAGED_BY, MANAGER, SERVICE
from syntra.runtime.kubernetes.objects import Object, label, text, value
from syntra.runtime.kubernetes.preview import changes, masked, object_name
from syntra.runtime.kubernetes.render import Rendered
from syntra.runtime.kubernetes.resources import NAMESPACE
from syntra.runtime.runtime import ObjectPreview

TERMINATING_SECS = 0.5


class Checks:
    """Changes nothing. Raises the client's errors, and StepFailed for a name that is taken.

    `are_given`: the namespaces are an administrator's, who has named them to the agent. It neither reads nor changes
    them.
    """

    def __init__(self, client: KubernetesClient, *, are_given: bool = False) -> None:
        self._client = client
        self.are_given = are_given

    async def dry_run(self, rendered: Rendered) -> None:
        """Dry-run the whole set. Objects of a namespace that does not exist yet cannot be dry-run."""
        if not self.are_given:
            await self.own_namespace(rendered.namespace)
            await self._client.apply(rendered.namespace, dry_run=True)
            if await self._namespace(rendered) is None:
                return
        for obj in (rendered.workload, *rendered.services):
            await self._check_owned(obj)
        for obj in rendered.objects:
            if obj is not rendered.namespace:
                await self._client.apply(obj, dry_run=True)

    async def preview(self, rendered: Rendered) -> Sequence[ObjectPreview]:
        """What applying the set would change."""
        is_new = not self.are_given and _is_gone(await self._namespace(rendered))
        return [
            await self._previewed(obj, is_new=is_new)
            for obj in rendered.objects
            if not (self.are_given and obj is rendered.namespace)
        ]

    async def own_namespace(self, wanted: Object) -> None:
        """Refuse to take over a namespace that is not the agent's; wait for the end of one that is being deleted."""
        name = text(wanted, "metadata", "name")
        while True:
            found = await self._find_namespace(name)
            if found is None or not _is_gone(found):
                break
            # The project's last service was removed a moment ago. The caller has the deadline.
            await asyncio.sleep(TERMINATING_SECS)
        if found is not None and label(found, MANAGED_BY) != MANAGER:
            raise StepFailed(
                "NAMESPACE_TAKEN",
                f"cannot use namespace {name}: it exists and is not the agent's; "
                f"label it `{MANAGED_BY}={MANAGER}`, or choose another project name",
            )

    async def is_ours(self, namespace: str) -> bool:
        """Whether the namespace exists and is the agent's."""
        found = await self._find_namespace(namespace)
        return found is not None and label(found, MANAGED_BY) == MANAGER

    async def _check_owned(self, obj: Object) -> None:
        """Refuse to take over an object of another service, or of none: an apply would."""
        found = await self._client.find(obj)
        if found is not None and label(found, SERVICE) != label(obj, SERVICE):
            raise StepFailed(
                "NAME_CONFLICT",
                f"cannot use the name of {object_name(obj)}: it exists and is not this service's; "
                "choose another service or host name",
            )

    async def _previewed(self, obj: Object, *, is_new: bool) -> ObjectPreview:
        found: list[str] = ["created"]
        if not is_new:
            found = changes(await self._client.find(obj), await self._client.apply(obj, dry_run=True))
        return ObjectPreview(name=object_name(obj), changes=tuple(found), manifest=masked(obj))

    async def _namespace(self, rendered: Rendered) -> Object | None:
        return await self._find_namespace(text(rendered.namespace, "metadata", "name"))

    async def _find_namespace(self, name: str) -> Object | None:
        try:
            return await self._client.get(NAMESPACE.path(name=name), what=f"read namespace {name}")
        except ApiRefusal as refused:
            if refused.is_not_found:
                return None
            raise


def _is_gone(namespace: Object | None) -> bool:
    """Whether it does not exist, or is being deleted with all that it has."""
    return namespace is None or value(namespace, "metadata", "deletionTimestamp") is not None
