"""Results of build steps, kept by the content of what went in.

An entry is a directory below `~/.cache/syntra-agent-build` (or `$SYNTRA_BUILD_CACHE`). Its name has a digest over all
its inputs, so an entry never changes once it is complete, and a changed input means another entry.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from build.errors import BuildError

ROOT = Path(__file__).resolve().parent.parent
COMPLETE = ".complete"
UNUSED_SECS = 14 * 86400
"""An entry that no build used for so long is removed when a new one of the same name is made."""


def root() -> Path:
    """The directory of all entries."""
    chosen = os.environ.get("SYNTRA_BUILD_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "syntra-agent-build"


def digest(*parts: str | bytes | Path) -> str:
    """Sixteen hexadecimal digits over words and the bytes of files."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()[:16]


def entry(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory of `name` in the version `key`; `make` fills it when it is new. Safe for builds side by side.

    The entry is made in its final place, because compilers and configure scripts write that place into their results.
    """
    place = root() / f"{name}-{key}"
    if (place / COMPLETE).exists():
        (place / COMPLETE).touch()
        return place
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f".{name}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / COMPLETE).exists():
            return place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        started, before = time.monotonic(), os.times()
        make(place)
        (place / COMPLETE).touch()
        after = os.times()
        remove_unused(name)
        used = sum(after[:4]) - sum(before[:4])
        sys.stderr.write(f"{name}: made in {time.monotonic() - started:.0f} s ({used:.0f} s of CPU time)\n")
    return place


def remove_unused(name: str) -> None:
    """Remove entries of this name that no build used for a long time."""
    for marker in root().glob(f"{name}-{'[0-9a-f]' * 16}/{COMPLETE}"):
        if time.time() - marker.stat().st_mtime > UNUSED_SECS:
            shutil.rmtree(marker.parent, ignore_errors=True)


def run(command: list[str], log: Path, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a build step with its output in `log`; a failure is a BuildError with the end of that output."""
    with log.open("a") as output:
        ended = subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if ended.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        raise BuildError(f"cannot build: {command[0]} ended with {ended.returncode}; see {log}\n{tail}")
