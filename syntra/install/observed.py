"""What an install finds on the machine, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from syntra.utils.frozen import frozen


class Manager(Enum):
    """What starts services on the machine."""

    SYSTEMD = "systemd"
    OPENRC = "OpenRC"
    NONE = "none"


@frozen
class FileSeen:
    """A regular file."""

    content: bytes = field(repr=False)
    mode: int


@frozen
class Observed:
    """The machine before the install. Paths are those of `places`; what is missing from a mapping does not exist."""

    manager: Manager
    systemd_version: int = 0
    files: Mapping[str, FileSeen] = field(default_factory=dict, repr=False)
    directories: Mapping[str, int] = field(default_factory=dict)
    """Modes."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Targets."""
    current: str | None = None
    """The installed version."""
    has_same_program: bool = False
    """The current version's file has the same content as the program that installs."""
    is_enabled: bool = False
    is_active: bool = False
    configured: Mapping[str, str | None] | None = None
    """`endpoint` and `server_id` of an existing configuration; None without a configuration."""
    kept_ids: Mapping[str, str] = field(default_factory=dict)
    """`agent_id` and `server_id` that an earlier agent has generated."""
    has_engine: bool = False
    unpacked: tuple[str, ...] = ()
    """Directories to which installed versions have unpacked themselves for root, outside the service's cache."""
