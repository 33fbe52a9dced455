"""`update` without a running agent: an installation that is stopped, or a program that stands alone."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from syntra import __version__
from syntra.agent.config.load import load
from syntra.agent.config.update_settings import UpdateSettings
from syntra.agent.update.installation import is_compiled, own_file
from syntra.cli.progress_bar import ProgressBar
from syntra.cli.reading import Json
from syntra.update.bare import replace_in_place, require_own
from syntra.update.build_target import build_target
from syntra.update.decide import Decision, Wanted
from syntra.update.release_source import ReleaseSource
from syntra.update.state import UpdateState
from syntra.update.transfer import Transfer
from syntra.update.updater import CHECK_SECS, DOWNLOAD_SECS, Installation, Updater, verified_decision
from syntra.update.version import Version

Approve = Callable[[Json], bool]


def update_here(args: argparse.Namespace, root: Path | None, say: Callable[[str], None], approve: Approve) -> Json:
    """Check, ask `approve`, update. Returns the data for --json. Raises UpdateError."""
    loaded = load(args.config, environ=os.environ)
    settings = loaded.settings.update
    wanted = Wanted(
        channel=args.channel or settings.channel,
        version=args.version,
        allow_downgrade=settings.allow_downgrade == "on",
        retry_rejected=bool(args.version),
    )
    if root is None:
        return _alone(settings, wanted, say, approve)
    configuration = ("--config", str(loaded.path)) if loaded.found else ()
    return _stopped(settings, wanted, root, configuration, say, approve)


def _stopped(
    settings: UpdateSettings,
    wanted: Wanted,
    root: Path,
    configuration: tuple[str, ...],
    say: Callable[[str], None],
    approve: Approve,
) -> Json:
    installation = Installation(root=root, running=__version__, target=build_target(), configuration=configuration)
    updater = Updater(installation, base_url=settings.base_url, root_keys_file=settings.root_keys_file)
    with updater.lock():
        decision = updater.check(wanted, Transfer(CHECK_SECS))
        found = _found(decision, "  the agent does not run: the new version is installed, and starts with it")
        if not approve(found):
            return found
        assert decision.artifact is not None, "cannot happen because an update was approved"
        with ProgressBar(sys.stderr) as bar:
            size = decision.artifact.size
            updater.prepare(decision, Transfer(DOWNLOAD_SECS), lambda count: bar.show("downloading", count, size))
        updater.swap(decision.version, was_connected=False)
    say(f"installed {decision.version}; start the agent, such as `systemctl start syntra-agent`")
    return {**found, "state": "installed"}


def _alone(settings: UpdateSettings, wanted: Wanted, say: Callable[[str], None], approve: Approve) -> Json:
    program = own_file().resolve()
    require_own(program, is_compiled=is_compiled())
    decision = verified_decision(
        settings.base_url,
        settings.root_keys_file,
        wanted,
        Transfer(CHECK_SECS),
        running=__version__,
        target=build_target(),
        # Without a directory of its own, it remembers nothing: only its own version protects from a replay.
        state=UpdateState(),
        now=time.time(),
    )
    found = _found(decision, f"  replace {program}; the old one stays as {program.name}.previous")
    if not approve(found):
        return found
    artifact = decision.artifact
    assert artifact is not None, "cannot happen because an update was approved"
    source = ReleaseSource(settings.base_url, ())
    version = Version.parse(decision.version)
    with ProgressBar(sys.stderr) as bar:

        def download(path: Path) -> None:
            show = lambda count: bar.show("downloading", count, artifact.size)  # noqa: E731
            source.download(version, artifact, path, Transfer(DOWNLOAD_SECS), show)

        replace_in_place(program, decision.version, download)
    say(f"replaced {program}; restart the agent if it runs from there")
    return {**found, "state": "installed"}


def _found(decision: Decision, plan: str) -> Json:
    found: Json = {"from": __version__, "to": decision.version, "state": "current"}
    if decision.artifact is not None:
        found = {**found, "state": "available", "size": decision.artifact.size, "plan": plan}
    return found
