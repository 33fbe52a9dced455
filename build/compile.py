"""Compile the agent into one executable for this machine: `dist/syntra-agent`.

Run by `scripts/build` with the project's own Python. Prints one JSON line: path, bytes, seconds, version, inputs.
`dist/syntra-agent.json` holds the same line, so that a caller can see whether the file still belongs to the sources.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
DIST = ROOT / "dist"
TARGET = DIST / "syntra-agent"
RECEIPT = DIST / "syntra-agent.json"
LOG = DIST / "build.log"

NOT_NEEDED = (
    "psutil._psaix",  # other systems' halves of psutil
    "psutil._psbsd",
    "psutil._psosx",
    "psutil._pssunos",
    "psutil._pswindows",
    "websockets.legacy",  # the superseded interface of websockets
    "zstandard._cffi",  # 12 MB; the C backend is the one in use
    "zstandard.backend_cffi",
    "grpc._channel",  # the blocking half of grpc; the agent uses grpc.aio
    "grpc._interceptor",
    "grpc._server",
    "grpc._simple_stubs",
    "grpc.experimental",
    "grpc_tools",  # 8 MB, the Protocol Buffer compiler; grpc imports it where it is installed
    "tkinter",
    "unittest",
)
NOT_NEEDED_FILES = ("grpc/_cython/_credentials/roots.pem",)  # 0.5 MB; certificates are checked with the system's roots
REALLY_NEEDED = (
    "_bisect",  # Nuitka leaves these accelerators out and falls back to slow Python
    "_json",
)


class BuildError(Exception):
    """The build cannot go on; the text says why and what to do."""

    status = 1


class ToolsMissing(BuildError):
    """The machine lacks a tool; a caller may take that for a reason to go on without the binary."""

    status = 3


def inputs_digest(root: Path = ROOT) -> str:
    """SHA-256 over everything the binary is made of: our sources, this folder, the pins, and the Python in use."""
    files = [
        *root.glob("syntra/**/*.py"),
        *root.glob("syntra/**/*.sh"),
        *root.glob("build/*.*"),
        root / "requirements/run.txt",
    ]
    whole = hashlib.sha256(f"{sys.version} {sys.platform} {os.uname().machine}".encode())
    for path in sorted(path for path in files if path.is_file()):
        name = path.relative_to(root).as_posix()
        whole.update(f"\0{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return whole.hexdigest()


def version_of(root: Path = ROOT) -> str:
    """`syntra.__version__`, read without importing the package."""
    tree = ast.parse((root / "syntra/__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__version__"]:
            return str(ast.literal_eval(node.value))
    raise BuildError("cannot read the version: syntra/__init__.py assigns no __version__")


def require_tools() -> None:
    """Name everything that is missing at once, as packages of a Debian-like system."""
    missing = []
    if shutil.which("gcc") is None:
        missing.append("gcc")
    if shutil.which("strip") is None:
        missing.append("binutils")
    if shutil.which("patchelf") is None:
        missing.append("patchelf")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("python3-dev")
    if missing:
        raise ToolsMissing(
            f"cannot build the binary: {', '.join(missing)} missing; apt-get install {' '.join(missing)}"
        )


def environment(caches: Path) -> dict[str, str]:
    """The compiler's environment: persistent caches, small code, the one-process bootstrap, one hash seed."""
    env = dict(os.environ)
    env.setdefault("NUITKA_CACHE_DIR", str(caches / "nuitka"))
    env.setdefault("CCACHE_DIR", str(caches / "ccache"))
    # Small C code: half the compiler's time and two thirds of the size of -O2. The time of the agent's own code goes to
    # Python objects in either case.
    env["CFLAGS"] = f"{env.get('CFLAGS', '')} -Os -include {BUILD / 'execin.h'}".strip()
    env["PYTHONHASHSEED"] = "0"
    env["PYTHONPATH"] = str(ROOT)
    return env


def command(work: Path, version: str) -> list[str]:
    """Nuitka's command line; results land below `work`."""
    return [
        sys.executable,
        "-m",
        "nuitka",
        "--mode=onefile",
        # Without it an unhandled KeyboardInterrupt ends in a segmentation fault.
        "--deployment",
        "--python-flag=-m,no_docstrings,no_asserts",
        f"--user-plugin={BUILD / 'bytecode_plugin.py'}",
        "--include-package=syntra",
        "--include-package-data=syntra:*.sh",
        *(f"--include-module={name}" for name in REALLY_NEEDED),
        f"--nofollow-import-to={','.join(NOT_NEEDED)}",
        *(f"--noinclude-data-files={name}" for name in NOT_NEEDED_FILES),
        # Cached and private: below XDG_CACHE_HOME or the home directory, mode 0700, one per content.
        f"--onefile-tempdir-spec={{CACHE_DIR}}/syntra-agent/{version}-CONTENT",
        f"--output-dir={work}",
        f"--output-filename={TARGET.name}",
        f"--report={work / 'report.xml'}",
        f"--jobs={len(os.sched_getaffinity(0))}",
        "--update-check=never",
        "syntra",
    ]


def compile_agent() -> dict[str, object]:
    """Build, move the result into place atomically, write and return the receipt."""
    require_tools()
    started = time.monotonic()
    digest, version = inputs_digest(), version_of()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syntra-agent-build"
    work = DIST / "nuitka"
    work.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        ended = subprocess.run(
            command(work, version),
            cwd=ROOT,
            env=environment(caches),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode != 0 or not (work / TARGET.name).is_file():
        tail = "\n".join(LOG.read_text(errors="replace").splitlines()[-40:])
        raise BuildError(f"cannot build the binary: nuitka ended with {ended.returncode}; see {LOG}\n{tail}")
    os.replace(work / TARGET.name, TARGET)
    receipt: dict[str, object] = {
        "path": str(TARGET.relative_to(ROOT)),
        "bytes": TARGET.stat().st_size,
        "seconds": round(time.monotonic() - started, 1),
        "version": version,
        "inputs": digest,
    }
    RECEIPT.write_text(json.dumps(receipt) + "\n")
    return receipt


def current_receipt() -> dict[str, object] | None:
    """The receipt of `dist/syntra-agent` when it was made from exactly these sources, else None."""
    try:
        receipt: dict[str, object] = json.loads(RECEIPT.read_text())
    except (OSError, ValueError):
        return None
    fits = (
        receipt.get("inputs") == inputs_digest() and TARGET.is_file() and receipt.get("bytes") == TARGET.stat().st_size
    )
    return receipt if fits else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/build", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--force", action="store_true", help="build even when dist/syntra-agent fits the sources")
    chosen = parser.parse_args(arguments)
    DIST.mkdir(exist_ok=True)
    try:
        with (DIST / ".lock").open("w") as lock:
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
