"""Compile the agent into one executable for machines like this one: `dist/syntra-agent`.

Run by `scripts/build` with the project's own Python. Prints one JSON line: path, bytes, seconds, version, inputs.
`dist/syntra-agent.json` holds the same line, so that a caller can see whether the file still belongs to the sources.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import time
from pathlib import Path

from build import compile as compiler
from build import facts, pack
from build.cache import ROOT
from build.errors import BuildError, ToolsMissing
from build.launcher import launcher
from build.nuitka_tree import nuitka

DIST = ROOT / "dist"
NAME = "syntra-agent"


def inputs_digest(root: Path = ROOT) -> str:
    """SHA-256 over everything the binary is made of: our sources, this folder, the pins, and the Python in use."""
    files = [
        *root.glob("syntra/**/*.py"),
        *root.glob("syntra/**/*.sh"),
        *root.glob("build/**/*.[pch]*"),
        root / "requirements/run.txt",
    ]
    whole = hashlib.sha256(f"{sys.version} {sys.platform} {os.uname().machine}".encode())
    for path in sorted(path for path in files if path.is_file() and path.suffix != ".pyc"):
        name = path.relative_to(root).as_posix()
        whole.update(f"\0{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return whole.hexdigest()


def require_tools() -> None:
    """Name everything that is missing at once, as packages of a Debian-like system."""
    needed = {"gcc": "gcc", "strip": "binutils", "patchelf": "patchelf"}
    missing = [package for program, package in needed.items() if shutil.which(program) is None]
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("python3-dev")
    if missing:
        raise ToolsMissing(
            f"cannot build the binary: {', '.join(missing)} missing; apt-get install {' '.join(missing)}"
        )


def compile_agent() -> dict[str, object]:
    """Build the file, move the result into place atomically, write and return the receipt."""
    require_tools()
    started = time.monotonic()
    digest, version = inputs_digest(), facts.version_of()
    log = DIST / f"{NAME}.log"
    folder = compiler.compiled(sys.executable, DIST / "nuitka", log, python_path=[nuitka(), ROOT], env={})
    compiler.strip_libraries(folder)
    facts.write(folder, facts.collect("this machine", {}))
    zstd, target = compiler.own_nuitka() / "build/inline_copy/zstd", DIST / NAME
    pack.pack(launcher("local", ["gcc"], zstd), folder, version, target, level=pack.FAST)
    receipt: dict[str, object] = {
        "path": str(target.relative_to(ROOT)),
        "bytes": target.stat().st_size,
        "seconds": round(time.monotonic() - started, 1),
        "version": version,
        "inputs": digest,
    }
    (DIST / f"{NAME}.json").write_text(json.dumps(receipt) + "\n")
    return receipt


def current_receipt() -> dict[str, object] | None:
    """The receipt of the file when it was made from exactly these sources, else None."""
    target = DIST / NAME
    try:
        receipt: dict[str, object] = json.loads((DIST / f"{NAME}.json").read_text())
    except (OSError, ValueError):
        return None
    fits = (
        receipt.get("inputs") == inputs_digest() and target.is_file() and receipt.get("bytes") == target.stat().st_size
    )
    return receipt if fits else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/build", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--force", action="store_true", help="build even when the file fits the sources")
    chosen = parser.parse_args(arguments)
    DIST.mkdir(exist_ok=True)
    try:
        with (DIST / f".{NAME}.lock").open("w") as lock:
            # Two builds would write the same work folder; the second one waits and usually finds the work done.
            fcntl.flock(lock, fcntl.LOCK_EX)
            receipt = (None if chosen.force else current_receipt()) or compile_agent()
    except BuildError as error:
        sys.stderr.write(f"scripts/build: {error}\n")
        return error.status
    sys.stdout.write(json.dumps(receipt) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
