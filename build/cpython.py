"""CPython of a target, with the libraries it needs, as one static archive; made by the recipes beside this file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from build import cache
from build.sources import source
from build.targets import BUILDER, Target
from build.toolchain import programs

RECIPES = Path(__file__).parent / "recipes"
LIBRARIES = ("zlib", "libffi", "sqlite", "openssl")


def environment(target: Target, prefix: Path) -> dict[str, str]:
    """What recipes may use; everything else about the machine stays out."""
    tools = programs(target)
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "1735689600",  # the start of 2025: some builds embed the date
        "CC": str(tools / "cc"),
        "CXX": "false",  # nothing here is C++, and its library would be compiled for the mere check
        "AR": str(tools / "ar"),
        "RANLIB": str(tools / "ranlib"),
        "STRIP": target.strip,
        "CFLAGS": "-O2 -fPIC -g0",
        "HOST": target.host,
        "OPENSSL_TARGET": target.openssl,
        "PREFIX": str(prefix),
        "JOBS": str(len(os.sched_getaffinity(0))),
    }


def built(name: str, target: Target, inputs: str, extra: dict[str, str]) -> Path:
    """The installation that recipe `name` makes from its source."""
    recipe, tree = RECIPES / f"{name}.sh", source(name)

    def make(place: Path) -> None:
        work = place / "work"
        shutil.copytree(tree, work, symlinks=True)
        log = place / "log"
        cache.run(["sh", "-eu", str(recipe)], log, cwd=work, env=environment(target, place) | extra)
        shutil.rmtree(work)

    key = cache.digest(recipe, str(tree), str(programs(target)), inputs, "1")
    return cache.entry(f"{name}-{target.name}", key, make)


def libraries(target: Target) -> Path:
    """One prefix with all libraries that Python links."""
    made = [built(name, target, "", {}) for name in LIBRARIES]

    def make(place: Path) -> None:
        for prefix in made:
            for folder in ("include", "lib"):
                shutil.copytree(prefix / folder, place / folder, dirs_exist_ok=True)

    return cache.entry(f"libraries-{target.name}", cache.digest(*map(str, made)), make)


def python(target: Target) -> Path:
    """The prefix of the target's CPython. Only the builder's own can run here, and compiles for the others."""
    deps = libraries(target)
    builder = "self" if target == BUILDER else str(python(BUILDER) / "bin/python3.13")
    return built("python", target, str(deps) + builder, {"DEPS": str(deps), "BUILD_PYTHON": builder})
