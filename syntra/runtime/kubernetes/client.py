"""The Kubernetes API client: objects are dicts, as the API has them.

`call` makes a short call, with one total deadline, over a small pool of connections. `stream` reads a body that arrives
over time (watches, logs), on a connection of its own. Both can be cancelled at any moment, which closes the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import orjson

import syntra
from syntra.runtime.errors import RuntimeUnavailable
from syntra.runtime.kubernetes.access import Access
from syntra.runtime.kubernetes.connection import ApiConnection, encode
from syntra.runtime.kubernetes.errors import ApiRefusal, ClusterUnavailable, is_temporary
from syntra.runtime.kubernetes.names import MANAGER
from syntra.runtime.kubernetes.objects import Object, items, mapping, text
from syntra.runtime.kubernetes.resources import Kind, kind_of
from syntra.utils.http1 import Head

Query = Mapping[str, str] | list[tuple[str, str]]

DEADLINE_SECS = 30.0
PAGE = 500
"""Objects in one page of a list, as kubectl asks."""
POOL_SIZE = 4
# Load balancers in front of API servers drop idle connections after a minute or more.
MAX_IDLE_SECS = 30.0
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_RETRY_SECS = 10.0

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"


class KubernetesClient:
    """Use as `async with`. Raises ClusterUnavailable and ApiRefusal."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._idle: list[ApiConnection] = []
        self._is_closed = False
        self.calls = 0
        """How many requests were sent."""
        self.answered_at = self.failed_at = float("-inf")
        """When the API server answered last, and when it did not, on the monotonic clock."""
        self.hindrance: Callable[[], str] = str
        """Says why nothing may be changed now; empty while it may."""

    async def __aenter__(self) -> KubernetesClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    @property
    def access(self) -> Access:
        return self._access

    async def get(self, path: str, query: Query | None = None, *, what: str | None = None) -> Object:
        """Read an object."""
        return await self.call("GET", path, query=query, what=what)

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        """All objects that match the selectors, page by page, and the resource version of the list."""
        found: list[Object] = []
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            page = await self.get(kind.path(namespace), query, what=f"list {kind.plural}")
            for item in items(page, "items"):
                # The items of a list do not name their kind.
                item.update(apiVersion=kind.api_version, kind=kind.kind)
                found.append(lean(item))
            rest = text(page, "metadata", "continue")
            if not rest:
                return found, text(page, "metadata", "resourceVersion")
            query["continue"] = rest

    async def apply(self, obj: Object, *, manager: str = MANAGER, dry_run: bool = False) -> Object:
        """Server-side apply: create the object or make it so, and take over the fields of other managers."""
        kind, name, namespace = kind_of(obj), text(obj, "metadata", "name"), text(obj, "metadata", "namespace")
        query = {"fieldManager": manager, "force": "true"}
        if dry_run:
            query |= {"dryRun": "All", "fieldValidation": "Strict"}
        path = kind.path(namespace or None, name)
        what = f"apply {kind.kind} {name}"
        return await self.call("PATCH", path, query=query, body=obj, content_type=APPLY, what=what)

    async def find(self, obj: Object) -> Object | None:
        """The object of this kind, namespace and name as it is in the cluster; None when there is none."""
        kind, name = kind_of(obj), text(obj, "metadata", "name")
        try:
            found = await self.get(kind.path(text(obj, "metadata", "namespace") or None, name), what=f"read {name}")
        except ApiRefusal as refused:
            if refused.is_not_found:
                return None
            raise
        return lean(found)

    async def merge(self, path: str, change: Object, *, manager: str = MANAGER, what: str | None = None) -> Object:
        """Merge-patch an object."""
        query = {"fieldManager": manager}
        return await self.call("PATCH", path, query=query, body=change, content_type=MERGE, what=what)

    async def create(self, obj: Object, *, manager: str = MANAGER) -> Object:
        """Create an object; its name may be generated."""
        kind = kind_of(obj)
        path = kind.path(text(obj, "metadata", "namespace") or None)
        return await self.call("POST", path, query={"fieldManager": manager}, body=obj, what=f"create {kind.kind}")

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        is_foreground: bool = True,
        grace_secs: int | None = None,
    ) -> None:
        """Delete an object; no effect when it is gone. In the foreground, what it owns is deleted before it.

        `grace_secs` is the time that a pod has to end; None means its own.
        """
        policy = "Foreground" if is_foreground else "Background"
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        if grace_secs is not None:
            body["gracePeriodSeconds"] = grace_secs
        try:
            await self.call("DELETE", kind.path(namespace, name), body=body, what=f"delete {kind.kind} {name}")
        except ApiRefusal as refused:
            if not refused.is_not_found:
                raise

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        deadline: float = DEADLINE_SECS,
        what: str | None = None,
    ) -> Object:
        """Make a short call and decode its answer. `what` names it in errors, after `cannot`.

        A request that the API server is too busy for (429) is sent again after the time that it asks for. A GET is sent
        again once when a pooled connection had been closed.
        """
        payload = await self.read(
            method, path, query=query, body=body, content_type=content_type, deadline=deadline, what=what
        )
        try:
            decoded = orjson.loads(payload)
        except ValueError as exc:
            raise ClusterUnavailable(self._access.address.authority, "the answer is not JSON", sent=True) from exc
        return decoded if isinstance(decoded, dict) else {"items": decoded}

    async def read(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        deadline: float = DEADLINE_SECS,
        what: str | None = None,
    ) -> bytes:
        """Make a short call; the body of its answer as it is."""
        if method != "GET" and (reason := self.hindrance()):
            raise RuntimeUnavailable(f"cannot {what or method}: {reason}")
        try:
            async with asyncio.timeout(deadline):
                while True:
                    connection, head = await self._send(method, path, query, body, content_type, is_own=False)
                    payload = await self._finish(connection)
                    self.answered_at = time.monotonic()
                    if head.status == 429:
                        await asyncio.sleep(_retry_after(head))
                        continue
                    if head.status == 401 and await self._renewed():
                        continue
                    if head.status >= 400:
                        raise self._refusal(head, payload, what or f"{method} {path}")
                    return payload
        except ClusterUnavailable:
            self.failed_at = time.monotonic()
            raise
        except TimeoutError as late:
            self.failed_at = time.monotonic()
            reason = f"no answer within {deadline:g} s"
            raise ClusterUnavailable(self._access.address.authority, reason, sent=True) from late

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query | None = None, *, deadline: float = DEADLINE_SECS, what: str | None = None
    ) -> AsyncIterator[ApiConnection]:
        """A GET whose body arrives over time. `deadline` is for its head; the caller limits each `read`."""
        try:
            async with asyncio.timeout(deadline):
                connection, head = await self._send("GET", path, query, None, JSON, is_own=True)
                if head.status >= 400:
                    raise self._refusal(head, await self._finish(connection), what or f"GET {path}")
        except TimeoutError as late:
            raise ClusterUnavailable(self._access.address.authority, f"no answer within {deadline:g} s") from late
        try:
            yield connection
        finally:
            await connection.close()

    async def _send(
        self, method: str, path: str, query: Query | None, body: Object | None, content_type: str, *, is_own: bool
    ) -> tuple[ApiConnection, Head]:
        headers = {"User-Agent": f"syntra-agent/{syntra.__version__}", "Accept": JSON}
        authorization = await self._access.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        payload: bytes | None = None
        if body is not None:
            payload = orjson.dumps(body)
            headers["Content-Type"] = content_type
        address = self._access.address
        target = f"{path}?{urlencode(query)}" if query else path
        encoded = encode(address, method, target, headers, payload)
        while True:
            pooled = None if is_own else self._take()
            connection = pooled or await ApiConnection.open(address)
            self.calls += 1
            try:
                return connection, await connection.request(encoded, method=method)
            except ClusterUnavailable:
                connection.abort()
                if pooled is None or connection.has_answered or method not in ("GET", "PATCH"):
                    raise
                # It had been closed meanwhile. An apply or a merge changes nothing more the second time.
            except BaseException:
                connection.abort()
                raise

    async def _finish(self, connection: ApiConnection) -> bytes:
        body = bytearray()
        try:
            while chunk := await connection.read():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    address = self._access.address.authority
                    raise ClusterUnavailable(address, f"an answer is longer than {MAX_BODY_BYTES} bytes", sent=True)
        except BaseException:
            connection.abort()
            raise
        if self._is_closed or not connection.is_reusable or len(self._idle) >= POOL_SIZE:
            connection.abort()
        else:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        return bytes(body)

    def _take(self) -> ApiConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if asyncio.get_running_loop().time() - connection.idle_since < MAX_IDLE_SECS and connection.is_reusable:
                return connection
            connection.abort()
        return None

    async def _renewed(self) -> bool:
        """Read the credentials again; whether they have changed."""
        before = await self._access.authorization()
        await self._access.renew()
        return await self._access.authorization() != before

    def _refusal(self, head: Head, payload: bytes, what: str) -> RuntimeUnavailable | ApiRefusal:
        try:
            status = orjson.loads(payload)
            message, reason = str(status["message"]), str(status.get("reason", ""))
            causes = frozenset(text(one, "reason") for one in items(mapping(status, "details"), "causes"))
        except (ValueError, KeyError, TypeError, AttributeError):
            # An unknown API group is answered in plain text.
            message, reason = payload[:500].decode("utf-8", "replace").strip() or f"status {head.status}", ""
            causes = frozenset()
        if is_temporary(head.status, message):
            return ClusterUnavailable(self._access.address.authority, f"{head.status}: {message}", sent=True)
        return ApiRefusal(head.status, reason, message, what=what, causes=causes)


def lean(obj: Object) -> Object:
    """An object without what only other clients need: `managedFields` are 40 % of a pod."""
    mapping(obj, "metadata").pop("managedFields", None)
    return obj


def _retry_after(head: Head) -> float:
    try:
        return min(max(float(head.headers.get("retry-after", "1")), 0.1), MAX_RETRY_SECS)
    except ValueError:
        return 1.0
