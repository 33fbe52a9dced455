"""Two versions of the test service in a registry of their own, under one token that clean-up goes by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine import LocalRegistry, api, busybox_image, cleanup, new_token, require_engine

VERSIONS = ("v1", "v2")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedImages:
    """Images `REGISTRY/TOKEN:v1` and `:v2`; nothing of them is on the engine until it is pulled."""

    token: str
    registry: LocalRegistry
    digests: dict[str, str]

    @property
    def repository(self) -> str:
        """The name without a tag."""
        return f"{self.registry.address}/{self.token}"

    def image(self, version: str = "v1", *, digest: bool = False) -> dict[str, Any]:
        """The `image` of a deploy payload."""
        parts: dict[str, Any] = {"registry": self.registry.address, "repository": self.token, "tag": version}
        if digest:
            parts["digest"] = self.digests[version]
        return parts


@contextmanager
def served_images(folder: Path, *, user: str | None = None, password: str = "") -> Iterator[ServedImages]:
    """Make, push and forget the images; everything that carries the token is removed at the end."""
    require_engine()
    token = new_token()
    try:
        with LocalRegistry(folder, user=user, password=password) as registry:
            digests = {}
            for version in VERSIONS:
                local = f"{token}-build:{version}"
                busybox_image(local, version)
                digests[version] = registry.push(local, token, version)
                api("DELETE", f"/images/{local}")
            yield ServedImages(token=token, registry=registry, digests=digests)
    finally:
        cleanup(token)
