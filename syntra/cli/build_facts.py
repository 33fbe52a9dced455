"""What this program was built from: a file that the build puts beside the compiled program."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from syntra.utils.frozen import frozen

FILE = "build.json"
SOURCE = "source"
"""Target of a program that was not compiled."""


@frozen
class BuildFacts:
    """Empty texts where nothing is known, as in a source checkout."""

    commit: str
    date: str
    target: str
    libraries: dict[str, str]


def build_facts(folder: Path) -> BuildFacts:
    """The facts in `folder`; without the file, those of an installation from source."""
    try:
        known: dict[str, Any] = json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        known = {"target": SOURCE}
    return BuildFacts(
        commit=str(known.get("commit", "")),
        date=str(known.get("date", "")),
        target=str(known["target"]),
        libraries=dict(known.get("libraries", {})),
    )


def program_folder() -> Path:
    """Where the running executable is: the unpack directory of a compiled program."""
    return Path(os.readlink("/proc/self/exe")).parent


def installed() -> BuildFacts:
    """An installation from source: the versions of the packages that it finds."""
    from importlib import metadata  # expensive to import, and a compiled program never asks

    try:
        wanted = metadata.requires("syntra-agent") or []
    except metadata.PackageNotFoundError:
        wanted = []
    names = [line.split(";")[0] for line in wanted if "extra ==" not in line]
    libraries = {}
    for line in names:
        name = line.split(">")[0].split("=")[0].strip()
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return BuildFacts(commit="", date="", target=SOURCE, libraries=libraries)
