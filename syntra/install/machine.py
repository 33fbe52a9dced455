"""Observes the machine for an install or uninstall. Changes nothing."""

from __future__ import annotations

import filecmp
import json
import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

from syntra.agent.config import sources
from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.files import FileMissing, FileProblem, read_small
from syntra.install import places
from syntra.install.errors import InstallError
from syntra.install.observed import FileSeen, Manager, Observed
from syntra.install.places import below
from syntra.install.service_manager import ServiceManager
from syntra.update import layout

_FILES = (
    places.CONFIGURATION,
    places.TOKEN,
    places.ROOT_KEYS,
    places.BOOT_CHECK,
    places.UNIT,
    places.OPENRC_SCRIPT,
    "/var/log/syntra-agent.log",
)
_DIRECTORIES = ("/etc/syntra", places.DATA, places.CACHE, places.RUN, places.OPT)
_SMALL = 1024 * 1024


def observe(
    manager: ServiceManager,
    kind: Manager,
    *,
    systemd_version: int = 0,
    program: Path | None = None,
    prefix: str = "/",
    engine_socket: str = "/var/run/docker.sock",
) -> Observed:
    """What is there. `program` is the executable that would be installed. Raises InstallError or ConfigurationError."""
    root = Path(below(prefix, places.OPT))
    current = layout.linked(root, layout.CURRENT)
    installed = layout.program_of(root, current) if current is not None else None
    return Observed(
        manager=kind,
        systemd_version=systemd_version,
        files={path: seen for path in _FILES if (seen := _file(Path(below(prefix, path)))) is not None},
        directories={
            path: mode for path in _DIRECTORIES if (mode := _directory(Path(below(prefix, path)))) is not None
        },
        links={path: target for path in (places.COMMAND,) if (target := _link(Path(below(prefix, path)))) is not None},
        current=current,
        has_same_program=program is not None and installed is not None and _same(program, installed),
        is_enabled=manager.is_enabled(),
        is_active=manager.is_active(),
        configured=_configured(Path(below(prefix, places.CONFIGURATION))),
        kept_ids=_kept_ids(Path(below(prefix, places.IDENTITY))),
        has_engine=Path(below(prefix, engine_socket)).is_socket(),
        unpacked=_unpacked(prefix, root / layout.VERSIONS),
    )


def _unpacked(prefix: str, versions: Path) -> tuple[str, ...]:
    # The compiled program unpacks to ~/.cache/syntra-agent/syntra-agent-VERSION-CONTENT without XDG_CACHE_HOME.
    cache = f"{pwd.getpwuid(0).pw_dir}/.cache/{layout.PROGRAM}"
    try:
        installed = {f"{layout.PROGRAM}-{version.name}" for version in versions.iterdir()}
        found = sorted(path.name for path in Path(below(prefix, cache)).iterdir())
    except OSError:
        return ()
    return tuple(f"{cache}/{name}" for name in found if name.rpartition("-")[0] in installed)


def _file(path: Path) -> FileSeen | None:
    try:
        read = read_small(path, limit=_SMALL) if path.name != "syntra-agent.log" else None
        return FileSeen(content=read.data, mode=read.mode) if read else _exists(path)
    except FileMissing:
        return None
    except FileProblem as problem:
        raise InstallError(f"cannot read {path}: {problem}; run this as root, or move the file away") from problem


def _exists(path: Path) -> FileSeen | None:
    # Its content may be large, and does not matter.
    return FileSeen(content=b"", mode=0o600) if path.is_file() else None


def _directory(path: Path) -> int | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as refused:
        raise InstallError(f"cannot read {path}: {refused.strerror}; run this as root") from refused
    if not stat.S_ISDIR(status.st_mode):
        raise InstallError(f"cannot use {path}: it is not a directory; move it away")
    return stat.S_IMODE(status.st_mode)


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as refused:
        raise InstallError(
            f"cannot replace {path}: it is a file that this program did not make; move it away"
        ) from refused


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _configured(path: Path) -> Mapping[str, str | None] | None:
    try:
        read = sources.read(path)
    except FileMissing:
        return None
    except FileProblem as problem:
        raise ConfigurationError(str(path), str(problem)) from problem
    values = sources.checked(read, str(path))
    named = {"endpoint": values.get("control_plane.endpoint"), "server_id": values.get("server_id")}
    return {name: str(value) if value is not None else None for name, value in named.items()}


def _kept_ids(path: Path) -> Mapping[str, str]:
    try:
        kept = json.loads(path.read_bytes())
        return {name: kept[name] for name in ("agent_id", "server_id") if isinstance(kept.get(name), str)}
    except (OSError, ValueError, AttributeError):
        # The agent itself reports a broken file, at its next start.
        return {}
