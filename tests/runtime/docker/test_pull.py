"""Pull progress as one figure, and the kinds of failure."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.errors import PullFailed, PullFailure
from syntra.runtime.docker.pull import PullFold, classify


def layer(name: str, status: str, current: int | None = None, total: int | None = None) -> dict[str, object]:
    detail = {} if current is None else {"current": current, "total": total}
    return {"status": status, "id": name, "progressDetail": detail}


def test_layers_add_up_to_one_progress() -> None:
    fold = PullFold()
    assert not fold.feed({"status": "Pulling from shop/web", "id": "v1"})
    assert fold.progress.percent == 0.0
    assert fold.feed(layer("a", "Pulling fs layer"))
    assert fold.feed(layer("b", "Already exists"))
    assert fold.progress.layers_total == 2
    assert fold.progress.layers_done == 1
    assert fold.feed(layer("a", "Downloading", 500_000, 1_000_000))
    assert fold.progress.bytes_done == 500_000
    assert fold.progress.bytes_total == 1_000_000
    assert fold.progress.text == "1/2 layers, 0.5 of 1.0 MB"
    halfway = fold.progress.percent
    assert fold.feed(layer("a", "Download complete"))
    assert fold.feed(layer("a", "Extracting", 1_000_000, 1_000_000))
    assert halfway < fold.progress.percent <= 100.0
    assert fold.feed(layer("a", "Pull complete"))
    assert not fold.feed({"status": "Digest: sha256:00"})
    assert not fold.feed({"status": "Status: Downloaded newer image for shop/web:v1"})
    assert fold.progress.percent == 100.0
    assert fold.progress.layers_done == 2
    assert fold.error is None


def test_a_repeated_message_changes_nothing() -> None:
    fold = PullFold()
    message = layer("a", "Downloading", 1, 2)
    assert fold.feed(message)
    assert not fold.feed(message)


def test_a_layer_of_unknown_size_weighs_as_much_as_the_others() -> None:
    fold = PullFold()
    fold.feed(layer("a", "Downloading", 10, 10))
    fold.feed(layer("b", "Waiting"))
    assert fold.progress.percent == 40.0


def test_nonsense_from_the_engine_is_survived() -> None:
    fold = PullFold()
    nonsense: list[dict[str, object]] = [{}, {"id": 3}, {"status": None}, {"progressDetail": []}]
    for message in [*nonsense, layer("a", "Downloading", -5, 0)]:
        fold.feed(message)
    assert 0.0 <= fold.progress.percent <= 100.0


@pytest.mark.parametrize(
    "message",
    [
        {"errorDetail": {"message": "unknown blob"}, "error": "unknown blob"},
        {"error": "unknown blob"},
        {"errorDetail": {"code": 1, "message": "unknown blob"}},
    ],
)
def test_an_error_is_found_in_the_old_and_the_new_field(message: dict[str, object]) -> None:
    fold = PullFold()
    fold.feed(message)
    assert fold.error == "unknown blob"


def test_an_error_without_words_is_still_an_error() -> None:
    fold = PullFold()
    fold.feed({"errorDetail": {}})
    assert fold.error is not None


@pytest.mark.parametrize(
    ("message", "status", "expected"),
    [
        ("Get http://127.0.0.1:1/v2/: dial tcp 127.0.0.1:1: connect: connection refused", 500, PullFailure.UNREACHABLE),
        ("dial tcp: lookup registry on 127.0.0.53:53: no such host", 500, PullFailure.UNREACHABLE),
        ("net/http: TLS handshake timeout", 500, PullFailure.UNREACHABLE),
        ("received unexpected HTTP status: 503 Service Unavailable", 500, PullFailure.UNREACHABLE),
        ("Get http://r/v2/a/manifests/v1: no basic auth credentials", 500, PullFailure.UNAUTHORIZED),
        ("unauthorized: authentication required", 500, PullFailure.UNAUTHORIZED),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            404,
            PullFailure.DENIED,
        ),
        ("denied: requested access to the resource is denied", 500, PullFailure.DENIED),
        ("error parsing HTTP 403 response body: 403 Forbidden", 500, PullFailure.DENIED),
        ("toomanyrequests: You have reached your pull rate limit.", 500, PullFailure.RATE_LIMITED),
        ("received unexpected HTTP status: 429 Too Many Requests", 500, PullFailure.RATE_LIMITED),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", 404, PullFailure.PLATFORM),
        ('image operating system "windows" cannot be used on this platform', None, PullFailure.PLATFORM),
        ("manifest for r/a:v9 not found: manifest unknown: manifest unknown", 404, PullFailure.NOT_FOUND),
        ("some words", 404, PullFailure.NOT_FOUND),
        ("unknown blob", None, PullFailure.OTHER),
        ("write /var/lib/docker/tmp/x: no space left on device", None, PullFailure.OTHER),
        ("manifest for r/timeout-unauthorized:v9 is odd", None, PullFailure.OTHER),
    ],
)
def test_failures_are_classified_by_the_engines_words(message: str, status: int | None, expected: PullFailure) -> None:
    assert classify(message, status, repository="r/timeout-unauthorized") is expected


def test_a_failure_tells_the_next_step_and_no_signed_address() -> None:
    text = 'Get "https://blobs.example/layer?X-Signature=abc": error from https://user:pw@registry.example/v2/'
    error = PullFailed("shop/web:v1", PullFailure.UNAUTHORIZED, text)
    assert "cannot pull shop/web:v1: " in str(error)
    assert "fresh registry credentials" in str(error)
    assert "abc" not in str(error)
    assert "pw" not in str(error)
