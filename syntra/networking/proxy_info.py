"""Asks a running Traefik for its version, start time and entrypoints."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.networking.api_client import ApiClient
from syntra.networking.errors import ProxyUnreachable
from syntra.utils.frozen import frozen


@frozen
class ProxyVersion:
    """`since` is RFC 3339 as Traefik writes it; missing values are empty."""

    version: str
    since: str


class ProxyInfo:
    """Queries the API at `api_url`. Raises ProxyUnreachable when there is no answer, or not one of Traefik's."""

    def __init__(self, api_url: str) -> None:
        self._api = ApiClient(api_url)
        self._url = api_url

    async def version(self) -> ProxyVersion:
        """Safe to cancel."""
        found = await self._api.get("/api/version")
        if not isinstance(found, Mapping) or not isinstance(found.get("Version"), str):
            raise ProxyUnreachable(
                f"cannot ask the proxy at {self._url}: what answers there is not Traefik; check networking.traefik_api"
            )
        since = found.get("startDate")
        return ProxyVersion(version=found["Version"], since=since if isinstance(since, str) else "")

    async def entrypoints(self) -> dict[str, str]:
        """Entrypoint names to addresses, including the internal entrypoint. Safe to cancel."""
        found = await self._api.get("/api/entrypoints")
        rows = found if isinstance(found, list) else []
        return {str(row.get("name")): str(row.get("address")) for row in rows if isinstance(row, Mapping)}
