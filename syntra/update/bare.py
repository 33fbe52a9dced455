"""A program that is not in the directory of an installed agent: replaced in place, or left to who owns it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from syntra.update import layout
from syntra.update.errors import UpdateError
from syntra.update.new_program import clean_environment, require_version
from syntra.update.swap import Before, Step
from syntra.update.unpack import unpack

_PACKAGES = (
    ("dpkg", ("dpkg", "-S"), "apt-get install --only-upgrade"),
    ("rpm", ("rpm", "-qf"), "dnf upgrade"),
    ("apk", ("apk", "info", "--who-owns"), "apk upgrade"),
)
_ASK_SECS = 20.0


def require_own(program: Path, *, is_compiled: bool, filesystem: Path = Path("/")) -> None:
    """Raises UpdateError that names the owner, where it is not this program's part to replace its file.

    `filesystem` is where the marks of a container are searched for.
    """
    if not is_compiled:
        raise UpdateError(
            "this agent runs from a Python package", "update that package, such as `pip install --upgrade syntra-agent`"
        )
    if any((filesystem / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        raise UpdateError("this agent is part of a container image", "run a newer image")
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        raise UpdateError("this agent runs in a pod", "change the image of its workload")
    for name, question, command in _PACKAGES:
        if (package := _owner(program, question)) is not None:
            raise UpdateError(f"{program} belongs to the {name} package {package}", f"run `{command} {package}`")
    if not os.access(program.parent, os.W_OK) or _is_another_users(program):
        raise UpdateError(
            f"{program} belongs to another user or its directory is not writable", "run it as the owner of that file"
        )


def replace_in_place(
    program: Path, version: str, download: Callable[[Path], None], *, before: Before = lambda step: None
) -> Path:
    """Replace the file of a bare program by a rename; returns the copy of the old one, `PROGRAM.previous`.

    Blocks. Raises UpdateError; the program is unchanged then.
    """
    folder = program.parent
    staging = folder / f".{program.name}.{secrets.token_hex(8)}.update"
    kept = folder / f"{program.name}.previous"
    with layout.on_disk(folder):
        before(Step.STAGE)
        staging.mkdir(mode=0o700)
        try:
            before(Step.DOWNLOAD)
            download(staging / "archive")
            before(Step.UNPACK)
            unpack(staging / "archive", staging / "program")
            before(Step.TRY)
            require_version(staging / "program", version)
            before(Step.LINK_PREVIOUS)
            # A hard link: the old file keeps its name until the rename replaces it.
            os.link(program, staging / "previous")
            (staging / "previous").replace(kept)
            before(Step.LINK_CURRENT)
            (staging / "program").replace(program)
            layout.sync_directory(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return kept


def _owner(program: Path, question: tuple[str, ...]) -> str | None:
    if shutil.which(question[0]) is None:
        return None
    with suppress(OSError, subprocess.TimeoutExpired):
        ended = subprocess.run(
            [*question, str(program)],
            env={**clean_environment(os.environ), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_SECS,
            check=False,
        )
        if ended.returncode == 0 and (said := ended.stdout.strip()):
            # dpkg: `package: /path`; rpm: the package; apk: `/path is owned by package-1.2`.
            first = said.splitlines()[0]
            return (first.rpartition(" is owned by ")[2] if " is owned by " in first else first.partition(":")[0])[:80]
    return None


def _is_another_users(program: Path) -> bool:
    return program.stat().st_uid != os.geteuid()
