"""Runs a new program before anything points to it: it must start here, and be the version that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from syntra.update.errors import UpdateError

TRY_SECS = 60.0
_OUTPUT_MAX = 4096
# Of the running agent alone: with NOTIFY_SOCKET a child could report readiness, WATCHDOG_* is checked by pid.
_NOT_PASSED_ON = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID")


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for another program of the agent."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _NOT_PASSED_ON and not name.startswith("NUITKA_")
    }


def require_version(program: Path, version: str) -> None:
    """`PROGRAM version --json` must name this version. Raises UpdateError. Blocks for at most TRY_SECS."""
    text = _run(program, ["version", "--json"], version)
    try:
        found = json.loads(text)["version"]
    except (ValueError, KeyError, TypeError):
        found = text[:80]
    if found != version:
        raise UpdateError(f"the program of release {version} says that it is {found!r}", "do not install this release")


def require_configuration(program: Path, arguments: Sequence[str], version: str) -> None:
    """`PROGRAM ARGUMENTS config check` must accept this server's configuration. Raises UpdateError."""
    _run(program, [*arguments, "config", "check"], version)


def _run(program: Path, arguments: Sequence[str], version: str) -> str:
    shown = " ".join(arguments)
    try:
        ended = subprocess.run(
            [program, *arguments],
            cwd="/",
            env=clean_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRY_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise UpdateError(
            f"`{shown}` of version {version} did not end within {TRY_SECS:g} s", "wait for the next release"
        ) from late
    except OSError as refused:
        raise UpdateError(
            f"version {version} does not start here: {refused.strerror}", "check that the filesystem allows programs"
        ) from refused
    if ended.returncode != 0:
        said = (ended.stderr or ended.stdout).decode(errors="replace").strip()[-300:]
        raise UpdateError(
            f"`{shown}` of version {version} ended with {ended.returncode}: {said or 'no message'}",
            "wait for the next release, or fix what it names",
        )
    return ended.stdout[:_OUTPUT_MAX].decode(errors="replace")
