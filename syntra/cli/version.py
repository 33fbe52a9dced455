"""`version`: the version, and the platform it runs on; with --verbose, what the program was built from."""

from __future__ import annotations

import argparse
import os
import sys

from syntra import __version__
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json
from syntra.cli.terminal import out, out_json

# What type checkers take for true. `typing` itself costs a short verb an eighth of its time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from syntra.cli.build_facts import BuildFacts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--json, --verbose."""
    add_json(parser)
    parser.add_argument("--verbose", action="store_true", help="show the commit, the target and the libraries too")


def run(args: argparse.Namespace) -> int:
    """Print the version. Uses no agent or engine."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    arch = os.uname().machine
    # The compiler defines this name in every module that it compiles.
    compiled = "__compiled__" in globals()
    described: dict[str, object] = {
        "version": __version__,
        "python": python,
        "arch": arch,
        "libc": libc(),
        "compiled": compiled,
    }
    facts = _facts(is_compiled=compiled) if args.verbose else None
    if facts is not None:
        described |= verbose(facts)
    if args.json:
        out_json(described)
    else:
        out(f"syntra-agent {__version__} (python {python}, {arch}, {libc()})")
    if facts is not None and not args.json:
        for name in ("commit", "date", "target", "file"):
            out(f"{name}: {described[name] or 'unknown'}")
        out("libraries:")
        for name, version in sorted(facts.libraries.items(), key=lambda item: item[0].lower()):
            out(f"  {name} {version}")
    return ExitCode.OK


def _facts(*, is_compiled: bool) -> BuildFacts:
    # Imported here: a value class costs as much time as all the rest of this verb.
    from syntra.cli.build_facts import build_facts, installed, program_folder

    return build_facts(program_folder()) if is_compiled else installed()


def verbose(facts: BuildFacts) -> dict[str, object]:
    """The additional facts; `file` is the downloaded one, as the launcher names it."""
    return {
        "commit": facts.commit,
        "date": facts.date,
        "target": facts.target,
        "file": os.environ.get("SYNTRA_BINARY") or sys.argv[0],
        "libraries": facts.libraries,
    }


def libc() -> str:
    """`glibc` or `musl`: only glibc supports this name (confstr(3))."""
    try:
        return "glibc" if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc") else "musl"
    except (ValueError, OSError):
        return "musl"
