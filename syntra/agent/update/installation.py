"""Where this agent is installed, and whether a service manager starts it again when it ends."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from syntra.update.layout import root_of

_SUPERVISED = ("INVOCATION_ID", "RC_SVCNAME")
"""Set by systemd (systemd.exec(5)) and by OpenRC."""


def is_compiled() -> bool:
    """Whether this is the compiled program."""
    return "__compiled__" in globals()


def own_file() -> Path:
    """The program's file. The compiled program runs from the directory that its file unpacked to; the file's launcher
    says where the file is."""
    if is_compiled() and (file := os.environ.get("SYNTRA_BINARY")):
        return Path(file)
    started_as = sys.argv[0]
    found = shutil.which(started_as) if os.sep not in started_as else started_as
    return Path(found or started_as).absolute()


def own_root() -> Path | None:
    """The directory of the installed agent that this program belongs to; None outside one.

    Call it at the start: an update changes the links that lead here.
    """
    return root_of(own_file())


def is_supervised(environ: Mapping[str, str]) -> bool:
    """Whether a service manager started this process, and so starts it again."""
    return any(environ.get(name) for name in _SUPERVISED)
