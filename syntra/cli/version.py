"""`version`: the version, and the platform it runs on."""

from __future__ import annotations

import argparse
import os
import sys

from syntra import __version__
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json
from syntra.cli.terminal import out, out_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--json."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the version. Uses no file, agent or engine."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    arch = os.uname().machine
    # The compiler defines this name in every module that it compiles.
    compiled = "__compiled__" in globals()
    if args.json:
        out_json({"version": __version__, "python": python, "arch": arch, "libc": libc(), "compiled": compiled})
    else:
        out(f"syntra-agent {__version__} (python {python}, {arch}, {libc()})")
    return ExitCode.OK


def libc() -> str:
    """`glibc` or `musl`: only glibc supports this name (confstr(3))."""
    try:
        return "glibc" if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc") else "musl"
    except (ValueError, OSError):
        return "musl"
