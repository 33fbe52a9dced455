"""Build the artifacts of a release into `dist/`: for each target an archive, its SHA-256 and its list of parts.

Run by `scripts/build-release.sh`. docs/release.md describes the steps and what is reproducible.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import time
from pathlib import Path

from build import cache, facts, pack, sbom
from build.compile import own_nuitka
from build.errors import BuildError
from build.launcher import launcher
from build.program import native_libraries, program
from build.sources import PINS
from build.targets import TARGETS, Target, named
from build.toolchain import zig
from build.wheels import wheels

DIST = cache.ROOT / "dist"
QUICK = DIST / "quick"
"""Artifacts for tests, apart from those that could be published."""
EPOCH = 1735689600
"""The time of every file in an archive."""


def start_program(target: Target) -> Path:
    """The launcher for the target. It is static, so it is musl's also where the program uses glibc."""
    static = Target(arch=target.arch, libc="musl")
    # Not the target's `cc`: that links musl programs dynamically, so that they may load extension modules.
    caches = [f"{name}={cache.root() / 'zig'}" for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")]
    compiler = ["env", *caches, str(zig()), "cc", "-target", static.zig]
    return launcher(static.name, compiler, own_nuitka() / "build/inline_copy/zstd")


def one_file(target: Target, version: str, *, quick: bool) -> Path:
    """The one file for the target, in the cache."""
    folder, starter = program(target), start_program(target)
    level = pack.FAST if quick else pack.SMALL
    known = facts.collect(target.triple, native_libraries(target))

    def make(place: Path) -> None:
        complete = place / "program"
        shutil.copytree(folder, complete)
        facts.write(complete, known)
        pack.pack(starter, complete, version, place / "syntra-agent", level=level)
        shutil.rmtree(complete)

    key = cache.digest(str(folder), starter, json.dumps(known), str(level), Path(pack.__file__))
    return cache.entry(f"packed-{target.name}", key, make) / "syntra-agent"


def archive(program: Path) -> bytes:
    """A .tar.gz of the program alone, as updates want it, that has no trace of when and where it was made."""
    content = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=content, mode="wb", filename="", mtime=EPOCH, compresslevel=1) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        entry = tarfile.TarInfo("syntra-agent")
        entry.size, entry.mode, entry.mtime = program.stat().st_size, 0o755, EPOCH
        with program.open("rb") as opened:
            tar.addfile(entry, opened)
    return content.getvalue()


def write_atomic(path: Path, content: bytes) -> None:
    """Put a file in its place whole: tests may run the one that stands there."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.chmod(0o644 if path.suffix == ".gz" else 0o755)
    partial.replace(path)


def build(target: Target, version: str, *, quick: bool) -> dict[str, object]:
    """Write the artifact of one target; returns what the caller prints."""
    started, place = time.monotonic(), QUICK if quick else DIST
    place.mkdir(parents=True, exist_ok=True)
    program_file = one_file(target, version, quick=quick)
    name = f"syntra-agent-{version}-{target.triple}"
    content = archive(program_file)
    digest = hashlib.sha256(content).hexdigest()
    file = f"{name}.tar.gz"
    write_atomic(place / file, content)
    (place / f"{file}.sha256").write_text(f"{digest}  {file}\n")
    sums = {path.name: PINS["wheels"][path.name] for path in wheels(target)}
    parts = sbom.document(target, version, facts.commit()[1], file, digest, sums)
    (place / f"{name}.cdx.json").write_text(parts)
    # The program itself, for tests and benchmarks: what the archive holds.
    write_atomic(place / name, program_file.read_bytes())
    seconds = round(time.monotonic() - started, 1)
    return {
        "path": (place / file).relative_to(cache.ROOT).as_posix(),
        "program": (place / name).relative_to(cache.ROOT).as_posix(),
        "bytes": len(content),
        "sha256": digest,
        "seconds": seconds,
    }


def arguments_of(words: list[str]) -> tuple[str | None, list[Target]]:
    """The version, when the first word is one, and the targets: all when none is named."""
    given = words[0] if words and words[0][:1].isdigit() else None
    names = words if given is None else words[1:]
    return given, [named(name) for name in names] or list(TARGETS)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/build-release.sh", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="for tests, into dist/quick: compressed less")
    parser.add_argument("words", nargs="*", metavar="VERSION or TARGET")
    chosen = parser.parse_args(arguments)
    own = facts.version_of()
    try:
        given, targets = arguments_of(chosen.words)
        if given not in (None, own):
            raise BuildError(f"cannot build {given}: the sources are {own}; check out the tag of {given}")
        for target in targets:
            done = build(target, own, quick=chosen.fast)
            sys.stdout.write(json.dumps(done) + "\n")
            sys.stdout.flush()
    except BuildError as error:
        sys.stderr.write(f"scripts/build-release.sh: {error}\n")
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
