"""Compile the launcher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from build import cache

FOLDER = Path(__file__).parent / "launcher"


def launcher(name: str, compiler: Sequence[str], zstd: Path) -> Path:
    """The static program for the target `name`; `zstd` is the folder with the decoder's source."""
    sources = sorted(FOLDER.glob("*.[ch]"))

    def make(place: Path) -> None:
        files = [str(path) for path in sources if path.suffix == ".c"]
        options = ["-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror", "-ffunction-sections"]
        # gcc, not clang, warns of reasons that are cut, as they should be.
        options.append("-Wno-format-truncation")
        link = ["-Wl,--gc-sections", "-o", str(place / "launcher")]
        cache.run([*compiler, *options, f"-I{zstd}", *files, *link], place / "log")

    return cache.entry(f"launcher-{name}", cache.digest(*compiler, *sources, Path(__file__)), make) / "launcher"
