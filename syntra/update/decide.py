"""Decides whether a verified manifest is installed here. Pure.

The order of the checks: product (on parsing), expiry, channel and version asked for, replay and downgrade, platform.
"""

from __future__ import annotations

from dataclasses import replace

from syntra.update.errors import UpdateError
from syntra.update.manifest import Artifact, Manifest, Target
from syntra.update.state import UpdateState, higher
from syntra.update.version import Version
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_secs


@frozen
class Wanted:
    """What is asked for. `version` is empty for the newest of the channel.

    `allow_downgrade` comes from this server's configuration only. `retry_rejected`: also a version that was rolled back
    here, which a person names.
    """

    channel: str
    version: str = ""
    allow_downgrade: bool = False
    retry_rejected: bool = False


@frozen
class Decision:
    """The update to make, or none where `artifact` is None: the server has the version already.

    `state` remembers what the manifest has shown; store it in either case.
    """

    version: str
    artifact: Artifact | None
    state: UpdateState


def decide(
    manifest: Manifest, wanted: Wanted, *, running: str, target: Target, state: UpdateState, now: float
) -> Decision:
    """Raises UpdateError with the reason where the manifest must not be installed. `now`: seconds since the epoch."""
    version = str(manifest.version)
    # The clock may have been set back; a time that a signed document named has passed for certain.
    known_now = max(now, state.latest_time)
    if manifest.expires <= known_now:
        raise UpdateError(
            f"the manifest of {version} expired on {format_secs(manifest.expires)}",
            "check the clock of this server; if it is right, the release server is out of date or newer releases are "
            "held back on the way",
        )
    if wanted.version and version != wanted.version:
        raise UpdateError(
            f"version {wanted.version} was asked for, and the manifest is of {version}", "check update.base_url"
        )
    if not wanted.version and manifest.channel != wanted.channel:
        raise UpdateError(
            f"the manifest is of the channel {manifest.channel}, not {wanted.channel}", "check update.base_url"
        )
    _refuse_older(manifest, wanted, running, state)
    highest = {**state.highest, manifest.channel: higher(state.highest.get(manifest.channel, ""), version)}
    remembered = replace(
        state, highest=highest, latest_time=max(state.latest_time, manifest.released), checked_at=known_now
    )
    if version == running:
        return Decision(version=version, artifact=None, state=remembered)
    if version in state.rejected and not wanted.retry_rejected:
        raise UpdateError(
            f"version {version} was rolled back on this server: {state.rejected[version]}",
            f"wait for the next release, or try it again with `syntra-agent update --version {version}`",
        )
    artifact = manifest.artifact_for(target)
    if artifact is None:
        offered = ", ".join(str(one.target) for one in manifest.artifacts) or "no platform"
        raise UpdateError(
            f"release {version} has no program for this platform ({target}), only for {offered}",
            "wait for a release that has one",
        )
    return Decision(version=version, artifact=artifact, state=remembered)


def _refuse_older(manifest: Manifest, wanted: Wanted, running: str, state: UpdateState) -> None:
    if wanted.allow_downgrade:
        return
    seen = state.highest.get(manifest.channel, "")
    if not wanted.version and seen and manifest.version < Version.parse(seen):
        raise UpdateError(
            f"the manifest of {manifest.version} is older than {seen}, which this server has seen before",
            "the release server is out of date or the manifest is a replay; to go back anyway, set "
            'update.allow_downgrade = "on" in the configuration of this server',
        )
    newest = higher(state.installed, running)
    if newest and manifest.version < Version.parse(newest):
        raise UpdateError(
            f"version {manifest.version} is older than {newest}, which this server had",
            'to go back anyway, set update.allow_downgrade = "on" in the configuration of this server',
        )
