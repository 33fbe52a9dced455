"""The Python packages of a target: wheels from the package index, checked against the pins."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

from build import cache
from build.facts import requirements
from build.sources import PINS, checked
from build.targets import Target
from build.toolchain import programs

PYTHON = ".".join(PINS["python"]["version"].split(".")[:2])


def wheels(target: Target) -> list[Path]:
    """The wheel files of requirements/run.txt for this target."""
    wanted = [f"{name}=={version}" for name, version in requirements().items()]

    def make(place: Path) -> None:
        tags = [f"--platform={platform}" for platform in target.wheel_platforms]
        abis = [f"--abi={abi}" for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")]
        only = ["--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", *abis, *tags]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            *only,
            f"--dest={place}",
            *wanted,
        ]
        cache.run(command, place / "log")
        for file in place.glob("*.whl"):
            checked(file, PINS["wheels"].get(file.name, "missing"))

    key = cache.digest(*wanted, PYTHON, *target.wheel_platforms, repr(sorted(PINS["wheels"].items())))
    return sorted(cache.entry(f"wheels-{target.name}", key, make).glob("*.whl"))


def site(target: Target) -> Path:
    """A folder with all packages of the target, as an installation has them."""
    files = wheels(target)

    def make(place: Path) -> None:
        for file in files:
            with zipfile.ZipFile(file) as archive:
                archive.extractall(place)
        if target.libc == "musl":
            # The index has no wheel of protobuf for musl, only the slow parser in Python.
            (place / "google/_upb").mkdir()
            (place / "google/_upb/_message.so").write_bytes(upb(target).read_bytes())

    inputs = [str(upb(target))] if target.libc == "musl" else []
    return cache.entry(f"site-{target.name}", cache.digest(*map(str, files), *inputs, "1"), make)


def upb(target: Target) -> Path:
    """protobuf's parser in C, from its source distribution, for a target without a wheel of it."""
    pin = PINS["upb"]
    version = requirements()["protobuf"]
    tools = programs(target)

    def make(place: Path) -> None:
        command = ["download", "-q", "--no-deps", "--no-build-isolation", "--no-binary=protobuf", f"--dest={place}"]
        cache.run([sys.executable, "-m", "pip", *command, f"protobuf=={version}"], place / "log")
        archive = checked(place / pin["file"], pin["sha256"])
        cache.run(["tar", "-xf", str(archive)], place / "log", cwd=place)
        tree = place / f"protobuf-{version}"
        files = [
            str(path.relative_to(tree))
            for folder in ("google/protobuf", "python", "upb", "utf8_range")
            for path in sorted((tree / folder).rglob("*.c"))
        ]
        headers = python_headers(target)
        options = ["-shared", "-fPIC", "-O2", "-g0", "-DNDEBUG", "-I.", "-Iutf8_range", f"-I{headers}"]
        environment = os.environ | {"LC_ALL": "C"}
        cache.run(
            [str(tools / "cc"), *options, *files, "-o", str(place / "_message.so")],
            place / "log",
            cwd=tree,
            env=environment,
        )

    key = cache.digest(version, pin["sha256"], str(tools), str(python_headers(target)))
    return cache.entry(f"upb-{target.name}", key, make) / "_message.so"


def python_headers(target: Target) -> Path:
    """The folder with Python.h of the target."""
    from build.cpython import python

    return python(target) / "include/python3.13"
