"""Image references, parsed by the grammar of the OCI distribution reference.

    [registry/]repository[:tag][@digest]

The first path component is a registry when it has a dot, a colon or is `localhost` (Docker's rule); otherwise the
reference names a repository of the engine's default registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from syntra.model.errors import InvalidField

_REGISTRY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::\d{1,5})?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_NAME = 255
MOVING_TAG = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """One image: `registry` is "" for the engine's default; `digest` pins it and wins over `tag`."""

    registry: str
    repository: str
    tag: str
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository, without tag or digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def version(self) -> str:
        """What is pulled: the digest when given, else the tag."""
        return self.digest or self.tag

    @property
    def pullable(self) -> str:
        """The reference that the engine resolves to exactly this image."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def may_serve_from_cache(self) -> bool:
        """Whether a present image may stand in when the registry does not answer; a moving tag may not."""
        return self.digest is not None or self.tag != MOVING_TAG

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


def parse_image(field: str, text: str) -> ImageRef:
    """Parse a whole reference; raises InvalidField naming `field`."""
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.partition("/")
    registry = ""
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, rest = head, tail
    repository, _, tag = rest.partition(":")
    return make_image(field, registry=registry, repository=repository, tag=tag, digest=digest or None)


def make_image(field: str, *, registry: str, repository: str, tag: str, digest: str | None) -> ImageRef:
    """Check the parts of a reference; an empty tag is `latest`, an empty digest is none. Raises InvalidField."""
    if registry and _REGISTRY.fullmatch(registry) is None:
        raise InvalidField(field, f"{registry[:60]!r} is not a registry (host or host:port)")
    if _REPOSITORY.fullmatch(repository) is None or len(registry) + len(repository) > MAX_NAME:
        raise InvalidField(field, f"{repository[:60]!r} is not a repository (lower-case parts separated by `/`)")
    tag = tag or MOVING_TAG
    if _TAG.fullmatch(tag) is None:
        raise InvalidField(field, f"{tag[:60]!r} is not a tag (letters, digits, `_`, `.`, `-`; ≤ 128)")
    if digest and _DIGEST.fullmatch(digest) is None:
        raise InvalidField(field, f"{digest[:80]!r} is not a digest (sha256: and 64 hex digits)")
    return ImageRef(registry=registry, repository=repository, tag=tag, digest=digest or None)
