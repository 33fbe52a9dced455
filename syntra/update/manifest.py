"""The manifest of a release: the only source of what is installed. Pure.

    {"schema": 1, "product": "syntra-agent", "version": "1.3.0", "channel": "stable",
     "released": "2026-11-30T00:00:00Z", "expires": "2027-02-28T00:00:00Z",
     "artifacts": [{"name": "syntra-agent-1.3.0-x86_64-unknown-linux-gnu.tar.gz",
                    "os": "linux", "arch": "x86_64", "libc": "gnu", "size": 31457280, "sha256": "…"}]}

Name, version, platform, size, hash and expiry are all inside the signed bytes: a signature over a hash alone would also
verify an old version, or the same version for another platform.
"""

from __future__ import annotations

from syntra.update.fields import Document, Malformed
from syntra.update.version import Version
from syntra.utils.frozen import frozen

CHANNELS = ("stable", "beta")
ARCHIVE_MAX = 256 * 1024 * 1024
ARTIFACTS_MAX = 64


@frozen
class Target:
    """The platform that a program is built for."""

    os: str
    arch: str
    libc: str

    def __str__(self) -> str:
        return f"{self.arch}-unknown-{self.os}-{self.libc}"


@frozen
class Artifact:
    """One archive. `size` in bytes; `sha256` in hexadecimal digits."""

    name: str
    target: Target
    size: int
    sha256: str


@frozen
class Manifest:
    """A release. Times are seconds since the epoch."""

    version: Version
    channel: str
    released: float
    expires: float
    artifacts: tuple[Artifact, ...]

    def artifact_for(self, target: Target) -> Artifact | None:
        """The archive for a platform."""
        return next((one for one in self.artifacts if one.target == target), None)


def archive_name(version: str, target: Target) -> str:
    """The file name of an artifact."""
    return f"syntra-agent-{version}-{target}.tar.gz"


def parse_manifest(data: bytes) -> Manifest:
    """The manifest, once its signature is verified. Raises Malformed."""
    document = Document.parse(data, "the manifest")
    try:
        version = Version.parse(document.text("version"))
    except ValueError as broken:
        raise Malformed(f"the manifest: version is invalid: {broken}") from broken
    artifacts = tuple(_artifact(one, version) for one in document.objects("artifacts", at_most=ARTIFACTS_MAX))
    if len({one.target for one in artifacts}) != len(artifacts):
        raise Malformed("the manifest: two artifacts for the same platform")
    channel = document.text("channel")
    if channel not in CHANNELS:
        raise Malformed(f"the manifest: channel {channel!r} is not one of {', '.join(CHANNELS)}")
    if channel == "stable" and version.beta is not None:
        raise Malformed(f"the manifest: {version} is a beta and cannot be in the channel stable")
    return Manifest(
        version=version,
        channel=channel,
        released=document.moment("released"),
        expires=document.moment("expires"),
        artifacts=artifacts,
    )


def _artifact(entry: Document, version: Version) -> Artifact:
    target = Target(
        os=entry.text("os", r"[a-z]{1,20}"),
        arch=entry.text("arch", r"[a-z0-9_]{1,20}"),
        libc=entry.text("libc", r"[a-z]{1,20}"),
    )
    name = entry.text("name")
    if name != archive_name(str(version), target):
        raise Malformed(f"the manifest: the artifact {name!r} does not have the name of its version and platform")
    return Artifact(
        name=name,
        target=target,
        size=entry.integer("size", low=1, high=ARCHIVE_MAX),
        sha256=entry.text("sha256", r"[0-9a-f]{64}"),
    )
