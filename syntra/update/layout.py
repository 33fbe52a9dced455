"""The directory of an installed agent: versions side by side, and links to the current and the previous one.

    ROOT/versions/1.3.0/syntra-agent     one directory for each version
    ROOT/current  -> versions/1.3.0      what the service manager starts
    ROOT/previous -> versions/1.2.0      what `boot-check` brings back
    ROOT/trial                           exists while a new version has not shown that it holds
    ROOT/update-state.json               what the updater remembers
    ROOT/boot-check                      written by install only

Each change is one rename, after the data is on the disk: a kill or a power cut leaves the state before or after it.
All functions block on the disk. They raise UpdateError.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from syntra.update.errors import UpdateError
from syntra.update.trial import Trial, reason_line
from syntra.update.version import Version
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError

DEFAULT_ROOT = Path("/opt/syntra-agent")
PROGRAM = "syntra-agent"
VERSIONS = "versions"
CURRENT = "current"
PREVIOUS = "previous"
TRIAL = "trial"
STATE = "update-state.json"
BOOT_CHECK = "boot-check"
LOCK = "update.lock"
STAGING = "staging"
_COPY_BYTES = 1024 * 1024
_SMALL = 64 * 1024


def install_version(root: Path, version: str, binary: Path) -> Path:
    """Install a first version, or another one without a trial: copy `binary` and make it `current`.

    Creates `root` where it is missing. Returns the path to start, `root/current/syntra-agent`. A version that was
    current becomes `previous`.
    """
    with on_disk(root):
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
    add_version(root, version, binary)
    before = linked(root, CURRENT)
    if before != version:
        if before is not None:
            link(root, PREVIOUS, before)
        link(root, CURRENT, version)
    remove_trial(root)
    return root / CURRENT / PROGRAM


def write_boot_check(root: Path) -> Path:
    """Write `root/boot-check` (0755); install calls it, an update never does. Returns its path."""
    path = root / BOOT_CHECK
    with on_disk(root):
        atomic_file.write(path, boot_check_text().encode(), 0o755)
    return path


def boot_check_text() -> str:
    """The script that is part of this program."""
    return Path(__file__).with_name("boot_check.sh").read_text(encoding="utf-8")


def root_of(program: Path) -> Path | None:
    """The root that a program's path belongs to, with links followed; None for a program outside such a layout."""
    with suppress(OSError):
        real = program.resolve(strict=True)
        folder = real.parent.parent
        if real.name == PROGRAM and folder.name == VERSIONS and _is_version(real.parent.name):
            return folder.parent
    return None


def program_of(root: Path, version: str) -> Path:
    """The executable of a version."""
    return root / VERSIONS / _checked(version) / PROGRAM


def linked(root: Path, name: str) -> str | None:
    """The version that the link `name` points to; None without such a link."""
    try:
        folder, _, version = os.readlink(root / name).rpartition("/")
    except OSError:
        return None
    return version if folder == VERSIONS and _is_version(version) else None


def link(root: Path, name: str, version: str) -> None:
    """Point `name` to a version: a new link, renamed over the old one."""
    temporary = root / f".{secrets.token_hex(8)}.tmp"
    with on_disk(root):
        try:
            temporary.symlink_to(f"{VERSIONS}/{_checked(version)}")
            temporary.replace(root / name)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(root)


def add_version(root: Path, version: str, binary: Path) -> None:
    """Copy `binary` to `versions/VERSION/syntra-agent`, complete or not at all."""
    with on_disk(root):
        partial = new_partial(root, version)
        try:
            with binary.open("rb") as source, (partial / PROGRAM).open("xb") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
                os.fchmod(target.fileno(), 0o755)
                os.fsync(target.fileno())
            publish(root, version)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def new_partial(root: Path, version: str) -> Path:
    """An empty directory next to the versions, in which a version is assembled; see `publish`."""
    partial = _partial(root, version)
    with on_disk(root):
        (root / VERSIONS).mkdir(mode=0o755, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o755)
        # mkdir applies the umask, and the agent runs with 0077.
        partial.chmod(0o755)
    return partial


def publish(root: Path, version: str) -> None:
    """Give the assembled directory its name; the program of an existing one is replaced by a rename."""
    partial, final = _partial(root, version), root / VERSIONS / version
    with on_disk(root):
        sync_directory(partial)
        if final.exists():
            # Not the directory: it may be the one that `current` points to.
            (partial / PROGRAM).replace(final / PROGRAM)
            sync_directory(final)
            partial.rmdir()
        else:
            partial.rename(final)
            sync_directory(final.parent)


def read_trial(root: Path) -> Trial | None:
    """The trial under way; None without one."""
    try:
        text = (root / TRIAL).read_bytes()[:_SMALL].decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as refused:
        raise _error(root, refused) from refused
    return Trial.decode(text)


def write_trial(root: Path, trial: Trial) -> None:
    """Write the trial; from now on `boot-check` counts starts of its version."""
    with on_disk(root):
        atomic_file.write(root / TRIAL, trial.encode().encode(), 0o644)


def add_reason(root: Path, reason: str) -> None:
    """Add why the version on trial ends itself."""
    with on_disk(root), (root / TRIAL).open("a", encoding="utf-8") as file:
        file.write(reason_line(reason) + "\n")


def remove_trial(root: Path) -> None:
    """End the trial: `boot-check` does nothing from now on."""
    with on_disk(root):
        (root / TRIAL).unlink(missing_ok=True)
        sync_directory(root)


def remove_leftovers(root: Path) -> None:
    """Remove what an interrupted update left: downloads, assembled directories, temporary links."""
    with on_disk(root):
        shutil.rmtree(root / STAGING, ignore_errors=True)
        for path in [*root.glob(".*.tmp"), *(root / VERSIONS).glob(".*.partial")]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def remove_old_versions(root: Path, keep: frozenset[str]) -> list[str]:
    """Remove all versions but current, previous and those in `keep`. Returns the removed ones."""
    kept = keep | {linked(root, CURRENT), linked(root, PREVIOUS)}
    removed = []
    with on_disk(root):
        for folder in sorted((root / VERSIONS).iterdir()):
            if _is_version(folder.name) and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
    return removed


def sync_directory(path: Path) -> None:
    """fsync a directory, so that renames in it survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def on_disk(root: Path) -> Iterator[None]:
    """Raises UpdateError for an OSError inside, with the next step that it calls for."""
    try:
        yield
    except OSError as refused:
        raise _error(root, refused) from refused
    except UpdateError:
        raise
    except AgentError as refused:
        reason = str(refused).partition(": ")[2].partition("; ")[0]
        raise UpdateError(reason, _next_step(root, refused.__cause__), "UPDATE_FAILED") from refused


def _error(root: Path, refused: OSError) -> UpdateError:
    what = f"{refused.strerror or refused} ({refused.filename or root})"
    return UpdateError(what, _next_step(root, refused), "UPDATE_FAILED")


def _next_step(root: Path, refused: BaseException | None) -> str:
    number = refused.errno if isinstance(refused, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"free space on the filesystem of {root} and try again"
    if number in (errno.EACCES, errno.EPERM):
        return "run it as the owner of that directory (root for an installed agent)"
    if number == errno.EROFS:
        return f"make {root} writable for the agent (ReadWritePaths= in a systemd unit)"
    return "check the disk and try again"


def _partial(root: Path, version: str) -> Path:
    return root / VERSIONS / f".{_checked(version)}.partial"


def _is_version(text: str) -> bool:
    try:
        Version.parse(text)
    except ValueError:
        return False
    return True


def _checked(version: str) -> str:
    """A version as part of a path. Raises UpdateError for anything else, such as `../x`."""
    if not _is_version(version):
        raise UpdateError(f"{version[:40]!r} is not a version", "use N.N.N or N.N.N-beta.N")
    return version
