"""The systems that a release is built for."""

from __future__ import annotations

from build.errors import BuildError
from syntra.utils.frozen import frozen


@frozen
class Target:
    """One system. Names as its tools spell them; `gnu` is glibc 2.17 and newer, `musl` brings its C library along."""

    arch: str
    libc: str

    @property
    def name(self) -> str:
        """The key on command lines and in caches: `x86_64-gnu`."""
        return f"{self.arch}-{self.libc}"

    @property
    def triple(self) -> str:
        """The name in file names of the release, as rustup and cargo spell it."""
        return f"{self.arch}-unknown-linux-{self.libc}"

    @property
    def zig(self) -> str:
        """The compiler's name of it, with the oldest glibc that the program runs with."""
        return f"{self.arch}-linux-gnu.2.17" if self.libc == "gnu" else f"{self.arch}-linux-musl"

    @property
    def host(self) -> str:
        """The name that configure scripts know."""
        return f"{self.arch}-linux-{self.libc}"

    @property
    def openssl(self) -> str:
        """The target of OpenSSL's Configure."""
        return f"linux-{self.arch}"

    @property
    def debian(self) -> str:
        """Debian's name of the processor."""
        return {"x86_64": "amd64", "aarch64": "arm64"}[self.arch]

    @property
    def wheel_platforms(self) -> tuple[str, ...]:
        """pip's platform tags, all of which such a system can use."""
        if self.libc == "musl":
            return tuple(f"musllinux_1_{minor}_{self.arch}" for minor in (2, 1))
        numbered = tuple(f"manylinux_2_{minor}_{self.arch}" for minor in range(17, 4, -1))
        return (*numbered, f"manylinux2014_{self.arch}", f"manylinux2010_{self.arch}")

    @property
    def strip(self) -> str:
        """The program that drops symbols from this processor's libraries."""
        return "strip" if self.arch == "x86_64" else "aarch64-linux-gnu-strip"


BUILDER = Target(arch="x86_64", libc="gnu")
"""Its Python runs on the machine that builds; it helps to build the others."""
TARGETS = (
    BUILDER,
    Target(arch="x86_64", libc="musl"),
    Target(arch="aarch64", libc="gnu"),
    Target(arch="aarch64", libc="musl"),
)


def named(name: str) -> Target:
    """The target of this name, short or as in file names."""
    for target in TARGETS:
        if name in (target.name, target.triple):
            return target
    known = ", ".join(target.name for target in TARGETS)
    raise BuildError(f"cannot build for {name}: no such target; use {known}")
