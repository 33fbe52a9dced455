"""What a built program knows about itself: `build.json` beside the program, printed by `version --verbose`."""

from __future__ import annotations

import ast
import datetime
import json
import re
import subprocess
from pathlib import Path

from build.cache import ROOT
from build.errors import BuildError
from build.sources import PINS

FILE = "build.json"


def version_of(root: Path = ROOT) -> str:
    """`syntra.__version__`, read without importing the package."""
    tree = ast.parse((root / "syntra/__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__version__"]:
            return str(ast.literal_eval(node.value))
    raise BuildError("cannot read the version: syntra/__init__.py assigns no __version__")


def requirements(root: Path = ROOT) -> dict[str, str]:
    """The Python packages inside, by name, with their versions."""
    lines = (root / "requirements/run.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if re.match(r"^[\w.-]+==", line))
    return {name: version for name, version in pinned.items() if name not in PINS["python_packages"]["left_out"]}


def git(*arguments: str, root: Path = ROOT) -> str:
    """What git says; empty outside a repository."""
    ended = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else ""


def commit() -> tuple[str, str]:
    """The commit, with `+changes` when files differ from it, and its time in UTC, which is the same in every build."""
    changed = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    revision, seconds = git("rev-parse", "HEAD"), git("log", "-1", "--format=%ct")
    if not revision:
        return "unknown", "unknown"
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return revision + changed, moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def collect(target: str, libraries: dict[str, str]) -> dict[str, object]:
    """All of it; `libraries` are the native ones, by name with version."""
    revision, date = commit()
    return {
        "version": version_of(),
        "commit": revision,
        "date": date,
        "target": target,
        "libraries": libraries | requirements(),
    }


def write(folder: Path, known: dict[str, object]) -> None:
    """Add the file to a program's folder."""
    (folder / FILE).write_text(json.dumps(known, indent=1) + "\n")
