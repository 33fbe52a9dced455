"""One update from its check to the swap, as the agent and the command line run it. Blocks; call it from a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from syntra.update import layout
from syntra.update.decide import Decision, Wanted, decide
from syntra.update.errors import UpdateError
from syntra.update.manifest import Target
from syntra.update.release_source import ReleaseSource, trusted_roots
from syntra.update.state import UpdateState
from syntra.update.state_file import change_state, read_state
from syntra.update.swap import Before, prepare, swap
from syntra.update.transfer import Transfer
from syntra.update.version import Version
from syntra.utils.file_lock import FileLock, Locked
from syntra.utils.frozen import frozen

CHECK_SECS = 120.0
DOWNLOAD_SECS = 1800.0


@frozen
class Installation:
    """What is updated: the root of an installed agent, and its version that runs. `target` is its platform."""

    root: Path
    running: str
    target: Target
    configuration: tuple[str, ...] = ()
    """Options that name the configuration, which a new version must accept."""


class Updater:
    """Updates one installation from one release server."""

    def __init__(
        self,
        installation: Installation,
        *,
        base_url: str,
        root_keys_file: Path | None,
        clock: Callable[[], float] = time.time,
        before: Before = lambda step: None,
    ) -> None:
        self._installation = installation
        self._base_url = base_url
        self._root_keys_file = root_keys_file
        self._clock = clock
        self._before = before

    @property
    def root(self) -> Path:
        """The directory of the installed agent."""
        return self._installation.root

    def lock(self) -> FileLock:
        """Only one update at a time. Raises UpdateError while another process has one under way."""
        path = self.root / layout.LOCK
        try:
            return FileLock.acquire(path)
        except Locked as held:
            who = f"process {held.holder}" if held.holder else "another process"
            raise UpdateError(f"{who} is updating it", "wait for that to end", "BUSY") from held

    def check(self, wanted: Wanted, transfer: Transfer) -> Decision:
        """Ask the release server, verify, decide, and remember what was seen. Raises UpdateError."""
        decision = verified_decision(
            self._base_url,
            self._root_keys_file,
            wanted,
            transfer,
            running=self._installation.running,
            target=self._installation.target,
            state=read_state(self.root),
            now=self._clock(),
        )
        return replace(decision, state=change_state(self.root, lambda state: state.with_seen(decision.state)))

    def prepare(self, decision: Decision, transfer: Transfer, on_bytes: Callable[[int], None]) -> None:
        """Download, verify, unpack and try a version. Raises UpdateError; nothing that runs is touched."""
        artifact = decision.artifact
        assert artifact is not None, "cannot happen because only a decision for an update is prepared"
        source = ReleaseSource(self._base_url, ())
        version = Version.parse(decision.version)
        self._require_current()
        prepare(
            self.root,
            decision.version,
            artifact.size,
            lambda path: source.download(version, artifact, path, transfer, on_bytes),
            configuration=self._installation.configuration,
            before=self._before,
        )

    def swap(self, version: str, *, was_connected: bool) -> None:
        """Make a prepared version current, on trial. Raises UpdateError; the old version is current then."""
        self._require_current()
        swap(
            self.root,
            self._installation.running,
            version,
            was_connected=was_connected,
            before=self._before,
        )

    def _require_current(self) -> None:
        running = self._installation.running
        current = layout.linked(self.root, layout.CURRENT)
        if layout.read_trial(self.root) is not None:
            raise UpdateError(
                f"version {current} is on trial after an update",
                "wait until it holds; see `syntra-agent status`",
                "BUSY",
            )
        if current != running:
            raise UpdateError(
                f"version {current} is installed, and {running} runs", "restart the agent first", "UPDATE_FAILED"
            )


def verified_decision(
    base_url: str,
    root_keys_file: Path | None,
    wanted: Wanted,
    transfer: Transfer,
    *,
    running: str,
    target: Target,
    state: UpdateState,
    now: float,
) -> Decision:
    """Fetch and verify the manifest of what is wanted, and decide. Raises UpdateError."""
    if wanted.version:
        try:
            Version.parse(wanted.version)
        except ValueError as broken:
            raise UpdateError(f"{wanted.version[:40]!r} is not a version", "use N.N.N or N.N.N-beta.N") from broken
    source = ReleaseSource(base_url, trusted_roots(root_keys_file))
    manifest, remembered = source.manifest(wanted.version or wanted.channel, state, now, transfer)
    return decide(manifest, wanted, running=running, target=target, state=remembered, now=now)
