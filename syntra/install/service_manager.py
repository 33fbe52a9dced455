"""systemd and OpenRC as the install needs them: a few commands, each with a deadline."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Protocol

from syntra.install import places
from syntra.install.errors import InstallError
from syntra.install.observed import Manager

START_SECS = 150.0
"""TimeoutStartSec=90, and TimeoutStopSec=60 of an agent that restarts."""
_SHORT_SECS = 30.0
_LAST_LINES = 5
_LOG = Path("/var/log/syntra-agent.log")


class ServiceManager(Protocol):
    """Controls the service syntra-agent. Every method but the two questions raises InstallError."""

    def is_enabled(self) -> bool:
        """Whether the service starts at boot."""

    def is_active(self) -> bool:
        """Whether the service runs or tries to."""

    def reload(self) -> None:
        """Read changed service files."""

    def enable(self) -> None:
        """Start at boot."""

    def disable(self) -> None:
        """Do not start at boot."""

    def start(self) -> None:
        """Start, and wait until the agent is ready."""

    def restart(self) -> None:
        """Stop and start, and wait until the agent is ready."""

    def stop(self) -> None:
        """Stop, and wait until it has ended."""


def find_manager() -> tuple[Manager, int]:
    """The running service manager, and the version of systemd."""
    # sd_booted(3).
    if Path("/run/systemd/system").is_dir():
        ended = _run(["systemctl", "--version"], _SHORT_SECS)
        found = re.match(r"systemd (\d+)", ended.stdout)
        return Manager.SYSTEMD, int(found[1]) if found else 0
    if Path("/run/openrc").is_dir():
        return Manager.OPENRC, 0
    return Manager.NONE, 0


def manager_of(kind: Manager) -> ServiceManager:
    """The adapter of a service manager."""
    match kind:
        case Manager.SYSTEMD:
            return Systemd()
        case Manager.OPENRC:
            return OpenRc()
        case Manager.NONE:
            return NoManager()


class Systemd:
    """systemctl(1)."""

    def is_enabled(self) -> bool:
        return _run(["systemctl", "is-enabled", "--quiet", places.SERVICE], _SHORT_SECS).returncode == 0

    def is_active(self) -> bool:
        state = _run(["systemctl", "show", "--property=ActiveState", "--value", places.SERVICE], _SHORT_SECS).stdout
        # An agent that crashes is `activating` between two starts.
        return state.strip() in ("active", "activating", "reloading")

    def reload(self) -> None:
        _must(["systemctl", "daemon-reload"])

    def enable(self) -> None:
        _must(["systemctl", "--quiet", "enable", places.SERVICE])

    def disable(self) -> None:
        _must(["systemctl", "--quiet", "disable", places.SERVICE])

    def start(self) -> None:
        self._until_ready("start")

    def restart(self) -> None:
        self._until_ready("restart")

    def stop(self) -> None:
        _must(["systemctl", "stop", places.SERVICE], START_SECS)
        # A unit that failed stays listed otherwise, after its file is gone.
        _run(["systemctl", "reset-failed", places.SERVICE], _SHORT_SECS)

    def _until_ready(self, verb: str) -> None:
        ended = _run(["systemctl", verb, places.SERVICE], START_SECS)
        if ended.returncode != 0:
            said = _run(
                ["journalctl", "--unit", places.SERVICE, "--lines", str(_LAST_LINES), "--output=cat", "--no-pager"],
                _SHORT_SECS,
            ).stdout
            raise _not_started(verb, said or ended.stderr)


class OpenRc:
    """rc-service(8) and rc-update(8)."""

    def is_enabled(self) -> bool:
        return Path("/etc/runlevels/default", places.SERVICE).is_symlink()

    def is_active(self) -> bool:
        return _run(["rc-service", "--quiet", places.SERVICE, "status"], _SHORT_SECS).returncode == 0

    def reload(self) -> None:
        """OpenRC reads the script at every call."""

    def enable(self) -> None:
        _must(["rc-update", "--quiet", "add", places.SERVICE, "default"])

    def disable(self) -> None:
        _must(["rc-update", "--quiet", "del", places.SERVICE, "default"])

    def start(self) -> None:
        self._begin("start")

    def restart(self) -> None:
        self._begin("restart")

    def stop(self) -> None:
        _must(["rc-service", "--quiet", places.SERVICE, "stop"], START_SECS)

    def _begin(self, verb: str) -> None:
        ended = _run(["rc-service", "--quiet", places.SERVICE, verb], START_SECS)
        if ended.returncode != 0:
            raise _not_started(verb, _tail(_LOG) or ended.stdout + ended.stderr)


class NoManager:
    """Neither of them: a plan never contains an action for it."""

    def is_enabled(self) -> bool:
        return False

    def is_active(self) -> bool:
        return False

    def reload(self) -> None:
        """Nothing to reload."""

    enable = disable = start = restart = stop = reload


def _must(command: list[str], timeout: float = _SHORT_SECS) -> None:
    ended = _run(command, timeout)
    if ended.returncode != 0:
        words = " ".join(command)
        raise InstallError(f"cannot run `{words}`: {_short(ended.stderr or ended.stdout)}; run it yourself to see why")


def _run(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as late:
        raise InstallError(
            f"cannot run `{' '.join(command)}`: it did not end within {timeout:.0f} s; "
            "see what the service manager waits for"
        ) from late
    except OSError as missing:
        raise InstallError(f"cannot run {command[0]}: {missing.strerror}; install it") from missing


def _not_started(verb: str, said: str) -> InstallError:
    return InstallError(f"cannot {verb} the service {places.SERVICE}: {_short(said)}; correct this and install again")


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    return " | ".join(lines)[-1000:] or "it gave no reason"


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2000))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
