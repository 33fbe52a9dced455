"""Follows a pull: turns the engine's JSON messages into one percentage, and classifies failures. Pure.

A pull that fails before the first progress message has an error status. One that fails later has status 200 and an
error as its last message. `classify` handles both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from syntra.runtime.docker import fields
from syntra.runtime.docker.errors import PullFailure
from syntra.utils.frozen import frozen

_DOWNLOAD_SHARE = 0.8
"""The share of downloading in the work for a layer; the rest is extracting."""

_WAITING = {"Pulling fs layer", "Waiting", "Preparing"}
_DONE = {"Pull complete", "Already exists"}
_DOWNLOADED = {"Verifying Checksum", "Download complete"}

_RATE_LIMITED = ("toomanyrequests", "too many requests", "rate limit", "status: 429", "http 429")
# The engine's words for a manifest list without this server's platform, and for a single image of another one.
_PLATFORM = (
    "no matching manifest for ",
    "no match for platform",
    "cannot be used on this platform",
    "does not match the specified platform",
)
# An engine without credentials puts its own guess behind a refusal: "… or may require 'docker login': denied: …".
_UNAUTHORIZED = (
    "no basic auth credentials",
    "unauthorized",
    "authentication required",
    "incorrect username or password",
    "status code 401",
    "status: 401",
)
_DENIED = ("access denied", "access to the resource is denied", "denied: ", "403 forbidden", "status: 403")
_NOT_FOUND = ("manifest unknown", "name unknown", "not found", "no such image", "does not exist")
_UNREACHABLE = (
    "connection refused",
    "connection reset",
    "no such host",
    "no route to host",
    "network is unreachable",
    "i/o timeout",
    "timeout",
    "deadline exceeded",
    "temporary failure in name resolution",
    "server misbehaving",
    "unexpected eof",
    ": eof",
    "received unexpected http status: 5",
    "bad gateway",
    "service unavailable",
)


@frozen
class PullProgress:
    """The progress of a pull. Bytes count compressed layers whose size is known so far; `percent` is 0 to 100."""

    layers_total: int
    layers_done: int
    bytes_done: int
    bytes_total: int
    percent: float
    text: str


@dataclass(slots=True)
class _Layer:
    current: int = 0
    total: int = 0
    share: float = 0.0
    done: bool = False


class PullFold:
    """Processes messages in order; `progress` is the total so far, `error` the engine's final error."""

    def __init__(self) -> None:
        self.error: str | None = None
        self._layers: dict[str, _Layer] = {}

    def feed(self, message: Mapping[str, object]) -> bool:
        """Process one message; True when the progress changed."""
        error = fields.text(message, "errorDetail", "message") or fields.text(message, "error")
        if error or "errorDetail" in message or "error" in message:
            self.error = error or "the pull failed without a message"
            return False
        return self._fold_layer(fields.text(message, "id"), fields.text(message, "status"), message)

    def _fold_layer(self, name: str, status: str, message: Mapping[str, object]) -> bool:
        current = fields.integer(message, "progressDetail", "current")
        total = fields.integer(message, "progressDetail", "total")
        layer = self._layers.get(name) or _Layer()
        before = replace(layer)
        if status == "Downloading":
            layer.total = max(total, layer.total)
            layer.current = min(current, layer.total) if layer.total else current
            layer.share = _DOWNLOAD_SHARE * _ratio(layer.current, layer.total)
        elif status in _DOWNLOADED:
            layer.current = layer.total
            layer.share = _DOWNLOAD_SHARE
        elif status == "Extracting":
            layer.current = layer.total
            layer.share = _DOWNLOAD_SHARE + (1 - _DOWNLOAD_SHARE) * _ratio(current, total)
        elif status in _DONE:
            layer.current = layer.total
            layer.share, layer.done = 1.0, True
        elif status not in _WAITING:
            return False  # "Pulling from …" has the tag as id; "Digest: …" and "Status: …" have none
        new = name not in self._layers
        self._layers[name] = layer
        return new or before != layer

    @property
    def progress(self) -> PullProgress:
        layers = list(self._layers.values())
        known = [layer.total for layer in layers if layer.total]
        typical = sum(known) / len(known) if known else 1.0
        weights = [layer.total or typical for layer in layers]
        work = sum(weight * layer.share for weight, layer in zip(weights, layers, strict=True))
        done = sum(layer.done for layer in layers)
        current, total = sum(layer.current for layer in layers), sum(known)
        percent = 100.0 * work / sum(weights) if layers else 0.0
        return PullProgress(
            layers_total=len(layers),
            layers_done=done,
            bytes_done=current,
            bytes_total=total,
            percent=round(percent, 1),
            text=f"{done}/{len(layers)} layers, {current / 1e6:.1f} of {total / 1e6:.1f} MB",
        )


def _ratio(current: int, total: int) -> float:
    return min(1.0, max(0.0, current / total)) if total > 0 else 0.0


def classify(message: str, status: int | None = None, *, repository: str = "") -> PullFailure:
    """Classify a failure by the engine's message and, if there was one, its error status.

    A registry hides private repositories behind "denied … does not exist", so check for missing rights first; and for
    the registry's limits before that, as their message has the same advice in it. The repository's name is removed from
    the message, as it may contain any of the searched words.
    """
    lowered = message.lower()
    if repository:
        lowered = lowered.replace(repository.lower(), "")
    for reason, marks in (
        (PullFailure.RATE_LIMITED, _RATE_LIMITED),
        (PullFailure.PLATFORM, _PLATFORM),
        (PullFailure.UNAUTHORIZED, _UNAUTHORIZED),
        (PullFailure.DENIED, _DENIED),
        (PullFailure.NOT_FOUND, _NOT_FOUND),
        (PullFailure.UNREACHABLE, _UNREACHABLE),
    ):
        if any(mark in lowered for mark in marks):
            return reason
    return PullFailure.NOT_FOUND if status == 404 else PullFailure.OTHER
