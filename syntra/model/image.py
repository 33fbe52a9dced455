"""Image references, parsed by the grammar of the OCI distribution reference.

    [registry/]repository[:tag][@digest]

The first path component is a registry when it has a dot, a colon or is `localhost` (Docker's rule); otherwise the
reference names a repository of the engine's default registry.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from syntra.model.errors import InvalidField
from syntra.utils.frozen import frozen

_REGISTRY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::\d{1,5})?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_NAME = 255
MOVING_TAG = "latest"


@frozen
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


@frozen
class ResolvedImage:
    """What a reference stood for when a deployment was made: a tag may stand for another image tomorrow.

    `digest` is that of the registry's manifest, "" for an image that was built or loaded here.
    """

    image_id: str
    digest: str = ""


@frozen
class ImageParts:
    """A reference taken apart and not checked yet; None is what it does not say."""

    registry: str | None = None
    repository: str
    tag: str | None = None
    digest: str | None = None


def split_image(text: str) -> ImageParts:
    """Take a whole reference apart."""
    rest, at, digest = text.partition("@")
    head, slash, tail = rest.partition("/")
    has_registry = bool(slash) and _names_registry(head)
    repository, colon, tag = (tail if has_registry else rest).partition(":")
    return ImageParts(
        registry=head if has_registry else None,
        repository=repository,
        tag=tag if colon else None,
        digest=digest if at else None,
    )


def make_image(at: Callable[[str], str], parts: ImageParts) -> ImageRef:
    """Check the parts; without a tag it is `latest`. Raises InvalidField naming the field `at(part)`."""
    registry, repository = parts.registry or "", parts.repository
    tag = MOVING_TAG if parts.tag is None else parts.tag
    if parts.digest is not None and _DIGEST.fullmatch(parts.digest) is None:
        # Checked first and not quoted: the text around an `@` may be a password.
        raise InvalidField(
            at("digest"), "what follows `@` is not a digest (sha256: and 64 hex digits); credentials have no place here"
        )
    if registry and _REGISTRY.fullmatch(registry) is None:
        raise InvalidField(at("registry"), f"{registry[:60]!r} is not a registry (host or host:port)")
    if registry and not _names_registry(registry):
        # The engine would take it for a folder of its default registry, and send that one the credentials.
        raise InvalidField(
            at("registry"), f"{registry[:60]!r} is not a registry (has a dot or a port, or is localhost)"
        )
    if _REPOSITORY.fullmatch(repository) is None or len(registry) + len(repository) > MAX_NAME:
        raise InvalidField(
            at("repository"), f"{repository[:60]!r} is not a repository (lower-case parts separated by `/`)"
        )
    if _TAG.fullmatch(tag) is None:
        raise InvalidField(at("tag"), f"{tag[:60]!r} is not a tag (letters, digits, `_`, `.`, `-`; ≤ 128)")
    return ImageRef(registry=registry, repository=repository, tag=tag, digest=parts.digest)


def _names_registry(head: str) -> bool:
    return "." in head or ":" in head or head == "localhost"
