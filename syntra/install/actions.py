"""What an install or uninstall does, as values. Pure.

Each action says in `says` what it will do, in the imperative: this is the line that the user reads, before it happens
or instead of it (`--dry-run`).
"""

from __future__ import annotations

from dataclasses import field

from syntra.utils.frozen import frozen


@frozen
class MakeDirectory:
    """Create a directory, or give an existing one its mode."""

    path: str
    mode: int

    @property
    def says(self) -> str:
        return f"create {self.path} (mode {self.mode:04o})"


@frozen
class WriteFile:
    """Write a file as a whole."""

    path: str
    content: bytes = field(repr=False)
    mode: int
    purpose: str

    @property
    def says(self) -> str:
        return f"write {self.path} (mode {self.mode:04o}): {self.purpose}"


@frozen
class MakeLink:
    """Point a symbolic link to a target."""

    path: str
    target: str

    @property
    def says(self) -> str:
        return f"link {self.path} to {self.target}"


@frozen
class InstallVersion:
    """Copy this program to the versions, and make it the current one."""

    root: str
    version: str
    replaces: str | None

    @property
    def says(self) -> str:
        what = f"replace version {self.replaces} by {self.version}" if self.replaces else f"copy version {self.version}"
        return f"{what} in {self.root}"


@frozen
class ReloadManager:
    """Let the service manager read changed units."""

    @property
    def says(self) -> str:
        return "reload systemd"


@frozen
class Enable:
    """Start the agent at every boot."""

    @property
    def says(self) -> str:
        return "enable the service syntra-agent (start at boot)"


@frozen
class Start:
    """Start the service, and wait until it says that it is ready."""

    @property
    def says(self) -> str:
        return "start the service syntra-agent"


@frozen
class Restart:
    """Restart the running service; containers keep running."""

    @property
    def says(self) -> str:
        return "restart the service syntra-agent (services keep running)"


@frozen
class Stop:
    """Stop the service; containers keep running."""

    @property
    def says(self) -> str:
        return "stop the service syntra-agent (its services keep running)"


@frozen
class Disable:
    """No start at boot."""

    @property
    def says(self) -> str:
        return "disable the service syntra-agent"


@frozen
class RemoveFile:
    """Remove a file or a link."""

    path: str

    @property
    def says(self) -> str:
        return f"remove {self.path}"


@frozen
class RemoveTree:
    """Remove a directory and everything in it."""

    path: str

    @property
    def says(self) -> str:
        return f"remove {self.path} with all its contents"


Action = (
    MakeDirectory
    | WriteFile
    | MakeLink
    | InstallVersion
    | ReloadManager
    | Enable
    | Start
    | Restart
    | Stop
    | Disable
    | RemoveFile
    | RemoveTree
)


@frozen
class Plan:
    """What will be done, in this order, and what the user should know besides."""

    actions: tuple[Action, ...]
    notes: tuple[str, ...] = ()
