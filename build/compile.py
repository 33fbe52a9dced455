"""Make a folder of the agent: bytecode (`decision`), and the native libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from build import cache
from build.errors import BuildError

PLUGIN = Path(__file__).parent / "bytecode_plugin.py"
PROGRAM = "syntra-agent.bin"
"""The launcher runs the file of this name."""
LOADED_BY_NAME = (
    "kubernetes.client.api_client",
    "kubernetes.client.api_response",
    "kubernetes.client.configuration",
    "kubernetes.client.exceptions",
    "kubernetes.client.rest",
)
"""Modules that packages import by name at run time. The Kubernetes client's models and calls, 900 modules, stay out."""
NOT_NEEDED = (
    "psutil._psaix",  # other systems' halves of psutil
    "psutil._psbsd",
    "psutil._psosx",
    "psutil._pssunos",
    "psutil._pswindows",
    "websockets.legacy",  # the superseded interface of websockets
    "zstandard._cffi",  # 12 MB; the C backend is the one in use
    "zstandard.backend_cffi",
    "aiohttp",  # the Kubernetes client's half for asyncio, and its parts
    "kubernetes.aio",
    "mypy",  # 30 MB; pydantic, which the Kubernetes client uses, has a plug-in for it
    "pydantic.mypy",
    "pydantic.v1",  # the superseded interface of pydantic
    "hypothesis",  # and one for this
    "pydantic._hypothesis_plugin",
    "rich",  # pydantic and others print with it where it is installed
    "pygments",
    "attr",  # classes that msgspec can also encode
    "attrs",
    "grpc",  # 17 MB; generated modules import it where it is installed
    "tkinter",
    "unittest",
)
REALLY_NEEDED = (
    "_bisect",  # Nuitka leaves these accelerators out and falls back to slow Python
    "_json",
)


def command(python: str, work: Path, *more: str) -> list[str]:
    """Nuitka's command line; results land below `work`."""
    return [
        python,
        "-m",
        "nuitka",
        "--mode=standalone",
        # Without it an unhandled KeyboardInterrupt ends in a segmentation fault.
        "--deployment",
        "--python-flag=-m,no_docstrings,no_asserts",
        f"--user-plugin={PLUGIN}",
        "--include-package=syntra",
        "--include-package-data=syntra:*.sh",
        *(f"--include-module={name}" for name in (*REALLY_NEEDED, *LOADED_BY_NAME)),
        f"--nofollow-import-to={','.join(NOT_NEEDED)}",
        f"--output-dir={work}",
        f"--output-filename={PROGRAM}",
        f"--report={work / 'report.xml'}",
        f"--jobs={len(os.sched_getaffinity(0))}",
        "--update-check=never",
        *more,
        "syntra",
    ]


def environment(python_path: Sequence[Path], more: Mapping[str, str]) -> dict[str, str]:
    """The compiler's environment: persistent caches, small code, one hash seed."""
    env = dict(os.environ)
    env.setdefault("NUITKA_CACHE_DIR", str(cache.root() / "nuitka"))
    env.setdefault("CCACHE_DIR", str(cache.root() / "ccache"))
    # Paths below the checkout as relative ones: one checkout uses what another has compiled.
    env.setdefault("CCACHE_BASEDIR", str(cache.ROOT))
    # Small C code: half the compiler's time and two thirds of the size of -O2. The time of the compiled code goes to
    # Python objects in either case.
    env["CFLAGS"] = f"{env.get('CFLAGS', '')} -Os".strip()
    env["PYTHONHASHSEED"] = "0"
    env["PYTHONPATH"] = os.pathsep.join(map(str, python_path))
    return {**env, **more}


def compiled(
    python: str, work: Path, log: Path, *more: str, python_path: Sequence[Path], env: Mapping[str, str]
) -> Path:
    """The folder with the program; what an earlier run left in `work` is used where it fits."""
    work.mkdir(parents=True, exist_ok=True)
    folder = work / "syntra.dist"
    shutil.rmtree(folder, ignore_errors=True)
    log.write_text("")
    cache.run(command(python, work, *more), log, cwd=cache.ROOT, env=environment(python_path, env))
    if not (folder / PROGRAM).is_file():
        raise BuildError(f"cannot build the program: nuitka made none; see {log}")
    return folder


def strip_libraries(folder: Path, strip: str = "strip") -> None:
    """Drop the symbols that a running program does not need; some wheels ship theirs."""
    libraries = [path for path in sorted(folder.rglob("*.so*")) if path.is_file() and not path.is_symlink()]
    subprocess.run([strip, "--strip-unneeded", *map(str, libraries)], check=True)


def own_nuitka() -> Path:
    """The package `nuitka` of the environment that runs this build, in the version of requirements/dev.txt."""
    place = next((Path(entry) / "nuitka" for entry in sys.path if (Path(entry) / "nuitka/__main__.py").exists()), None)
    if place is None:
        raise BuildError("cannot find Nuitka: it is not installed; run scripts/test gate once, which makes .venv")
    return place
