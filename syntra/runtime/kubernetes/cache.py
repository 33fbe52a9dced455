"""The objects of one kind, kept current by a watch, as the controllers of Kubernetes do it.

A list gives all objects, and a watch their changes since. The cache outlives a lost connection: the next watch begins
where the last one ended. When the API server has forgotten that place (410), everything is listed again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

import orjson

from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.kubernetes.client import KubernetesClient, lean
from syntra.runtime.kubernetes.errors import ApiRefusal, ClusterUnavailable
from syntra.runtime.kubernetes.lines import LineSplitter
from syntra.runtime.kubernetes.objects import Object, integer, mapping, text
from syntra.runtime.kubernetes.resources import Kind

log = logging.getLogger(__name__)

# The API server ends the watch after this time, so that no watch stays for ever on one server of several.
WATCH_SECS = 290
# Later than the server's own end: a watch that is silent for longer has lost its server.
SILENCE_SECS = 330.0
FIRST_RETRY_SECS = 0.25
LONGEST_RETRY_SECS = 15.0
LEAST_WATCH_SECS = 1.0
MAX_LINE_BYTES = 4 * 1024 * 1024

Key = tuple[str, str]
OnChange = Callable[[Object | None, Object | None], None]


class ObjectCache:
    """`objects` by (namespace, name). `on_change` gets an object before and after each change, None where absent."""

    def __init__(
        self,
        client: KubernetesClient,
        kind: Kind,
        labels: str,
        on_change: OnChange,
        *,
        silence_secs: float = SILENCE_SECS,
    ) -> None:
        self.kind = kind
        self.objects: dict[Key, Object] = {}
        self.relists = 0
        """How often everything was listed again."""
        self._client = client
        self._labels = labels
        self._on_change = on_change
        self._silence_secs = silence_secs
        self._version = ""
        self._listed = asyncio.Event()
        self.problem = ""
        """Why it is not current; empty while it is."""

    @property
    def is_listed(self) -> bool:
        """Whether the first list has come."""
        return self._listed.is_set()

    async def listed(self) -> None:
        """Wait for the first list."""
        await self._listed.wait()

    async def run(self) -> None:
        """Keep the cache current until cancelled."""
        delay = FIRST_RETRY_SECS
        while True:
            try:
                if not self._version:
                    await self._list()
                self.problem = ""
                began = time.monotonic()
                await self._watch()
                if time.monotonic() - began >= LEAST_WATCH_SECS:
                    delay = FIRST_RETRY_SECS
                    continue
                # A server or a proxy that ends each watch at once must not be asked all the time.
            except ApiRefusal as refused:
                is_known = self.problem == str(refused)
                self.problem = str(refused)
                self._version = ""
                # The same refusal comes at each try. A forgotten place is not a fault.
                log.log(
                    logging.DEBUG if is_known or refused.is_expired else logging.WARNING,
                    "cannot watch",
                    extra={"kind": self.kind.plural, "reason": str(refused)},
                )
            except ClusterUnavailable as lost:
                self.problem = str(lost)
                log.debug("watch was lost", extra={"kind": self.kind.plural, "reason": str(lost)})
            except RuntimeFailure as failed:
                self.problem = str(failed)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_RETRY_SECS)

    async def _list(self) -> None:
        objects, version = await self._client.list(self.kind, labels=self._labels)
        self.relists += 1
        fresh = {key_of(obj): obj for obj in objects}
        for key in self.objects.keys() - fresh.keys():
            self._put(key, None)
        for key, obj in fresh.items():
            if _version(self.objects.get(key)) != _version(obj):
                self._put(key, obj)
        self._version = version
        self._listed.set()

    async def _watch(self) -> None:
        query = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECS),
            "labelSelector": self._labels,
        }
        lines = LineSplitter(MAX_LINE_BYTES)
        path, what = self.kind.path(), f"watch {self.kind.plural}"
        async with self._client.stream(path, query, what=what) as connection:
            while True:
                try:
                    async with asyncio.timeout(self._silence_secs):
                        chunk = await connection.read()
                except TimeoutError as silent:
                    address = self._client.access.address.authority
                    raise ClusterUnavailable(address, f"the watch of {self.kind.plural} is silent") from silent
                if not chunk:
                    return
                for line in lines.feed(chunk):
                    self._take(self._event(line))

    def _event(self, line: bytes) -> Object:
        try:
            event = orjson.loads(line)
        except ValueError as garbled:
            # Of a proxy in between, or longer than MAX_LINE_BYTES.
            self._version = ""
            address = self._client.access.address.authority
            raise ClusterUnavailable(address, f"the watch of {self.kind.plural} is not JSON lines") from garbled
        return event if isinstance(event, dict) else {}

    def _take(self, event: Object) -> None:
        kind, obj = text(event, "type"), lean(mapping(event, "object"))
        if kind == "ERROR":
            code, reason = integer(obj, "code", default=500), text(obj, "reason")
            raise ApiRefusal(code, reason, text(obj, "message"), what=f"watch {self.kind.plural}")
        self._version = text(obj, "metadata", "resourceVersion") or self._version
        if kind == "BOOKMARK":
            return
        obj.update(apiVersion=self.kind.api_version, kind=self.kind.kind)
        self._put(key_of(obj), None if kind == "DELETED" else obj)

    def _put(self, key: Key, obj: Object | None) -> None:
        before = self.objects.pop(key, None)
        if obj is not None:
            self.objects[key] = obj
        self._on_change(before, obj)


def key_of(obj: Object) -> Key:
    """Namespace and name."""
    return text(obj, "metadata", "namespace"), text(obj, "metadata", "name")


def _version(obj: Object | None) -> str:
    return text(obj, "metadata", "resourceVersion")
