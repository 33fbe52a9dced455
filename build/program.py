"""The folder with the program for one target, before it becomes one file.

Nuitka runs once per target under the builder's own CPython. The C code that it makes does not depend on the target;
a compiler of the target translates it, and the native libraries of Python packages are replaced by the target's.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from build import cache, canonical_code, decision
from build import compile as compiler
from build.cpython import python
from build.errors import BuildError
from build.nuitka_tree import nuitka
from build.sources import PINS, binary, source
from build.targets import BUILDER, Target
from build.toolchain import CLANG_VERSION, programs
from build.wheels import site

SUFFIX = re.compile(r"(\.(cpython-[^.]+|abi3))?\.so$")
"""Nuitka's folder names an extension module `orjson/orjson.so`; wheels add the interface's name."""
TIME_ZONES = "/usr/share/zoneinfo:/usr/lib/zoneinfo:/usr/share/lib/zoneinfo:/etc/zoneinfo"
"""Where CPython looks for time zones by default (zoneinfo, "Compile-time configuration")."""
EXTRA_LIBRARIES = {"libstdc++6": "libstdc++.so.6", "libgcc-s1": "libgcc_s.so.1"}
"""What wheels for glibc expect of the system and small systems lack."""


def compilers(target: Target) -> Path:
    """A directory with `clang` that compiles for the target what Nuitka prepares for the builder.

    Nuitka recognizes a compiler by this name, and names the builder's headers and static library.
    """
    own, theirs, tools = python(BUILDER), python(target), programs(target)

    def make(place: Path) -> None:
        path = place / "clang"
        path.write_text(
            "#!/bin/bash\n"
            f"case ${{1-}} in -dumpversion | -dumpfullversion) echo {CLANG_VERSION}; exit 0 ;; esac\n"
            f'exec {tools / "clang"} "${{@//{str(own).replace("/", chr(92) + "/")}/{theirs}}}"\n'
        )
        path.chmod(0o755)

    return cache.entry(f"clang-{target.name}", cache.digest(str(own), str(theirs), str(tools), "1"), make)


def sources_digest() -> str:
    """All files that the folder is made of and that have no key of their own."""
    files = sorted(path for kind in ("*.py", "*.sh") for path in (cache.ROOT / "syntra").rglob(kind))
    names = [path.relative_to(cache.ROOT).as_posix() for path in files]
    steps = [compiler.PLUGIN, *(Path(str(module.__file__)) for module in (canonical_code, decision, compiler))]
    return cache.digest(*names, *files, *steps)


def settings(target: Target) -> Path:
    """A folder with the module of the target's build settings: `sysconfig` imports it, asked by `zoneinfo`.

    The builder's own stays complete, because Nuitka reads it. Those of the others have only what a program may ask.
    """
    prefix = python(target)
    (own,) = prefix.glob("lib/python3.13/_sysconfigdata_*.py")

    def make(place: Path) -> None:
        if target == BUILDER:
            shutil.copyfile(own, place / own.name)
        else:
            (place / own.name).write_text(f'build_time_vars = {{"TZPATH": "{TIME_ZONES}"}}\n')

    return cache.entry(f"settings-{target.name}", cache.digest(str(prefix), own.name, TIME_ZONES), make)


def pager() -> Path:
    """A folder with the one module of `_pyrepl` that `pydoc` needs, which the Kubernetes client imports.

    The recipe of Python leaves the package out: the rest of it needs curses.
    """
    files = [source("python") / "Lib/_pyrepl" / name for name in ("__init__.py", "pager.py")]

    def make(place: Path) -> None:
        (place / "_pyrepl").mkdir()
        for file in files:
            shutil.copyfile(file, place / "_pyrepl" / file.name)

    return cache.entry("pager", cache.digest(*files), make)


def compiled(target: Target) -> Path:
    """Nuitka's folder, with the builder's native libraries."""
    interpreter, packages, described = python(BUILDER), site(BUILDER), settings(target)
    (module,) = described.glob("*.py")
    tools, tree = compilers(target), nuitka()
    parts = [packages, tree, described, pager()]

    def make(place: Path) -> None:
        work = cache.root() / "work" / target.name
        work.mkdir(parents=True, exist_ok=True)
        with (work / ".lock").open("w") as lock:
            # One work folder per target: the compiler's cache knows files by their place.
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = compiler.compiled(
                str(interpreter / "bin/python3.13"),
                work,
                place / "log",
                "--static-libpython=yes",
                f"--include-module={module.stem}",
                python_path=[*parts, cache.ROOT],
                env={"CC": str(tools / "clang"), "LDFLAGS": "-rdynamic"},
            )
            shutil.copytree(folder, place / "program")

    key = cache.digest(sources_digest(), *map(str, (interpreter, tools, *parts)))
    return cache.entry(f"compiled-{target.name}", key, make) / "program"


def program(target: Target) -> Path:
    """The complete folder."""
    folder, theirs = compiled(target), site(target)

    def make(place: Path) -> None:
        whole = place / "program"
        shutil.copytree(folder, whole)
        replace_libraries(whole, theirs)
        add_c_libraries(whole, target)
        compiler.strip_libraries(whole, target.strip)

    key = cache.digest(Path(__file__), *map(str, (folder, theirs)), *sorted(map(str, PINS["binary"].items())))
    return cache.entry(f"program-{target.name}", key, make) / "program"


def replace_libraries(folder: Path, packages: Path) -> None:
    """Put the target's native libraries in the places of the builder's."""
    theirs = {SUFFIX.sub("", name): packages / name for name in names_of(packages.rglob("*.so"), packages)}
    for name in names_of(folder.rglob("*.so*"), folder):
        counterpart = theirs.get(SUFFIX.sub("", name))
        if counterpart is None:
            raise BuildError(f"cannot replace {name}: no wheel of the target has it; see build/program.py")
        shutil.copyfile(counterpart, folder / name)
    # Libraries that wheels bring along, in `NAME.libs` beside the packages that are in use.
    for libraries in packages.glob("*.libs"):
        if (folder / libraries.name.removesuffix(".libs")).exists():
            shutil.copytree(libraries, folder / libraries.name, dirs_exist_ok=True)


def names_of(paths: Iterable[Path], below: Path) -> list[str]:
    """The files among the paths, relative to a folder, in order."""
    return sorted(path.relative_to(below).as_posix() for path in paths if path.is_file())


def add_c_libraries(folder: Path, target: Target) -> None:
    """The C library's loader for musl; for glibc, which the system has, what wheels expect beside it."""
    if target.libc == "musl":
        # The loader is the C library; what is called loader links to it.
        (found,) = binary("musl", target).rglob("libc.so")
        shutil.copyfile(found, folder / "ld-musl.so.1")
        (folder / "ld-musl.so.1").chmod(0o755)
        return
    for package, name in EXTRA_LIBRARIES.items():
        # The package has a script for debuggers of the same name, too. A copy follows the link.
        (found,) = binary(package, target).glob(f"**/lib*/*-linux-gnu*/{name}")
        shutil.copyfile(found, folder / name)


def native_libraries(target: Target) -> dict[str, str]:
    """The parts that are no Python packages, by name with version."""
    inside = {name: pin["release"] for name, pin in PINS["source"].items()}
    binaries = ("musl",) if target.libc == "musl" else tuple(EXTRA_LIBRARIES)
    return inside | {name: PINS["binary"][name]["version"] for name in binaries}
