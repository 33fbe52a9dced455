"""Image references from the shapes of a deploy payload."""

from __future__ import annotations

import dataclasses

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.image import ImageParts, ImageRef, make_image, split_image


def read_image(payload: Fields, service: Fields) -> ImageRef:
    """The image of a payload; `service` is its nested `service`, or the payload itself. Raises InvalidField.

    Three shapes: an object with parts; `image` text with `tag` beside it; `docker {image, tag}` or
    `service.docker_image` of the nested shape.
    """
    docker = payload.section("docker")
    for source, key in ((docker, "image"), (service, "docker_image"), (payload, "image")):
        if source is None or not source.has(key):
            continue
        _, value = source.raw(key)
        if isinstance(value, str):
            return _from_text(source, key, [beside for beside in (docker, source, payload) if beside is not None])
        parts = source.section(key)
        assert parts is not None, "cannot happen because the key is present and not null"
        return make_image(parts.at, _parts(parts))
    if payload.has("git"):
        raise InvalidField(
            payload.at("image"), "is missing; this agent does not build from `git`: build the image and deploy that"
        )
    raise InvalidField(payload.at("image"), "is missing")


def _parts(fields: Fields) -> ImageParts:
    repository = fields.text("repository")
    registry = fields.optional_text("registry")
    # Without a registry beside it, the repository may be a whole reference.
    whole = ImageParts(registry=registry, repository=repository) if registry else split_image(repository)
    tag, digest = fields.optional_text("tag"), fields.optional_text("digest")
    for part, own, beside in (("tag", whole.tag, tag), ("digest", whole.digest, digest)):
        if own is not None and beside is not None and own != beside:
            raise InvalidField(fields.at(part), f"{beside[:60]!r} is not the {part} in {fields.at('repository')}")
    return dataclasses.replace(
        whole, tag=tag if whole.tag is None else whole.tag, digest=digest if whole.digest is None else whole.digest
    )


def _from_text(source: Fields, key: str, tag_sources: list[Fields]) -> ImageRef:
    whole = split_image(source.text(key))
    paths = {"tag": source.at(key)}
    if whole.tag is None and whole.digest is None:
        # A reference that says its version has the last word; a `tag` beside it repeats or is left over.
        for beside in tag_sources:
            tag = beside.optional_text("tag")
            if tag is not None:
                whole, paths = dataclasses.replace(whole, tag=tag), {"tag": beside.at("tag")}
                break
    return make_image(lambda part: paths.get(part, source.at(key)), whole)
