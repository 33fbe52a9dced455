"""The objects of one kind, kept current by a watch, as the controllers of Kubernetes do it.

A list gives all objects, and a watch their changes since. The cache outlives a lost connection: the next watch begins
where the last one ended. When the API server has forgotten that place (410), everything is listed again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

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
    """`objects` by (namespace, name), of the whole cluster or of some namespaces, each with a watch of its own.

    `on_change` gets an object before and after each change, None where absent.
    """

    def __init__(
        self,
        client: KubernetesClient,
        kind: Kind,
        labels: str,
        on_change: OnChange,
        *,
        namespaces: Sequence[str] = (),
        silence_secs: float = SILENCE_SECS,
    ) -> None:
        self.kind = kind
        self.objects: dict[Key, Object] = {}
        self._on_change = on_change
        self._settled = asyncio.Event()
        self._watches = [_Watch(self, client, labels, one, silence_secs) for one in namespaces or (None,)]

    @property
    def is_listed(self) -> bool:
        """Whether the first list has come; of several namespaces, from each that may be read."""
        return self._settled.is_set() and any(watch.is_listed for watch in self._watches)

    @property
    def problem(self) -> str:
        """Why it is not current; empty while it is."""
        return next((watch.problem for watch in self._watches if watch.problem), "")

    @property
    def relists(self) -> int:
        """How often everything was listed again."""
        return sum(watch.relists for watch in self._watches)

    async def listed(self) -> None:
        """Wait for the first list."""
        await self._settled.wait()

    async def run(self) -> None:
        """Keep the cache current until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run(), name=f"watch {self.kind.plural}")

    def put(self, key: Key, obj: Object | None) -> None:
        """Note what a watch says of an object; None when it is gone."""
        before = self.objects.pop(key, None)
        if obj is not None:
            self.objects[key] = obj
        self._on_change(before, obj)

    def settle(self) -> None:
        """Called by a watch that was listed or refused: readers need not wait for a namespace that may not be read."""
        if all(watch.is_listed or watch.is_refused for watch in self._watches) and any(
            watch.is_listed for watch in self._watches
        ):
            self._settled.set()


class _Watch:
    """The list and the watch of one namespace, or of all (None)."""

    def __init__(
        self, cache: ObjectCache, client: KubernetesClient, labels: str, namespace: str | None, silence_secs: float
    ) -> None:
        self.kind = cache.kind
        self.problem = ""
        self.relists = 0
        self.is_listed = False
        self.is_refused = False
        self._cache = cache
        self._client = client
        self._labels = labels
        self._namespace = namespace
        self._silence_secs = silence_secs
        self._version = ""

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
                self.is_refused = True
                self._cache.settle()
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
        objects, version = await self._client.list(self.kind, self._namespace, labels=self._labels)
        self.relists += 1
        fresh = {key_of(obj): obj for obj in objects}
        known = self._cache.objects
        for key in [key for key in known.keys() - fresh.keys() if self._namespace in (None, key[0])]:
            self._cache.put(key, None)
        for key, obj in fresh.items():
            if _version(known.get(key)) != _version(obj):
                self._cache.put(key, obj)
        self._version = version
        self.is_listed, self.is_refused = True, False
        self._cache.settle()

    async def _watch(self) -> None:
        query = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECS),
            "labelSelector": self._labels,
        }
        lines = LineSplitter(MAX_LINE_BYTES)
        path, what = self.kind.path(self._namespace), f"watch {self.kind.plural}"
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
        self._cache.put(key_of(obj), None if kind == "DELETED" else obj)


def key_of(obj: Object) -> Key:
    """Namespace and name."""
    return text(obj, "metadata", "namespace"), text(obj, "metadata", "name")


def _version(obj: Object | None) -> str:
    return text(obj, "metadata", "resourceVersion")
