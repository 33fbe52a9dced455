"""Image references by the rules of the engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.errors import InvalidField
from syntra.model.image import ImageParts, ImageRef, make_image, split_image
from tests.model.samples import DIGEST, images, quick


def parse(text: str) -> ImageRef:
    return make_image(lambda _: "image", split_image(text))


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("nginx", "", "nginx", "latest"),
        ("nginx:1.25", "", "nginx", "1.25"),
        ("acme/api:v1", "", "acme/api", "v1"),
        ("ghcr.io/acme/api:v1", "ghcr.io", "acme/api", "v1"),
        ("localhost/api", "localhost", "api", "latest"),
        ("host:5000/api", "host:5000", "api", "latest"),
        ("host:5000", "", "host", "5000"),
        ("a__b/c-d---e.f:_x", "", "a__b/c-d---e.f", "_x"),
    ],
)
def test_a_reference_reads_as_the_engine_reads_it(text: str, registry: str, repository: str, tag: str) -> None:
    assert parse(text) == ImageRef(registry=registry, repository=repository, tag=tag)


def test_a_digest_pins_the_image_and_wins_over_the_tag() -> None:
    image = parse(f"ghcr.io/acme/api:v1@{DIGEST}")
    assert (image.tag, image.digest) == ("v1", DIGEST)
    assert image.version == DIGEST
    assert image.pullable == f"ghcr.io/acme/api@{DIGEST}"
    assert str(image) == f"ghcr.io/acme/api:v1@{DIGEST}"


def test_only_a_moving_tag_may_not_serve_from_the_cache() -> None:
    assert not parse("nginx").may_serve_from_cache
    assert parse("nginx:1").may_serve_from_cache
    assert parse(f"nginx@{DIGEST}").may_serve_from_cache


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "@", "nginx:", "nginx@", "Nginx", "a//b", "/a", "a/", "a b", "nginx:1:2", "nginx:-x", "nginx:a/b"),
        *("-h.io/x", "h..io/x", "ghcr.io/", "http://h.io/x", "nginx@sha256:12", f"nginx@{DIGEST}@{DIGEST}", "a\n"),
        *(f"nginx@{DIGEST.upper()}", "nginx:" + "t" * 129, "a" * 256, "h.io/" + "a" * 255, "né/x", "h.io:port/x"),
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(text)
    assert refused.value.field == "image"


def test_a_registry_that_the_engine_would_take_for_a_folder_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"^image\.registry: 'registry' is not a registry \(has a dot or a port"):
        make_image("image.{}".format, ImageParts(registry="registry", repository="api"))


@quick
@given(images)
def test_a_reference_reads_back_from_its_text(image: ImageRef) -> None:
    assert parse(str(image)) == image
    assert split_image(image.pullable).digest == image.digest


@quick
@given(st.text(alphabet="ab.:/@-_A1", max_size=20) | st.text(max_size=10))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        image = parse(text)
    except InvalidField:
        return
    assert parse(str(image)) == image


@pytest.mark.parametrize("text", ["someone:s3cr3t!@h.io/x", "someone:s3cr3t@h.io/x", "https://someone:s3cr3t@h.io/x:1"])
def test_credentials_in_a_reference_are_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(InvalidField, match="credentials have no place here") as refused:
        parse(text)
    assert "s3cr3t" not in str(refused.value)
