"""Tables, and numbers with units."""

from __future__ import annotations

from collections.abc import Sequence

from syntra.cli.terminal import out, printable


def show(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print a table, or the sentence `empty` when there are no rows. Escapes the cells."""
    if not rows:
        out(empty)
        return
    # Imported here: only some verbs print tables, and the others start faster.
    from tabulate import tabulate

    cells = [[printable(str(cell)) for cell in row] for row in rows]
    out(tabulate(cells, headers=[header.upper() for header in headers], tablefmt="plain", disable_numparse=True))


def size(number: float) -> str:
    """Bytes with a unit, as `12.5 MB` (10^6)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def memory(mebibytes: float) -> str:
    """MiB, the unit of limits; GiB from 1024 MiB."""
    return f"{mebibytes:.1f} MiB" if abs(mebibytes) < 1024 else f"{mebibytes / 1024:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in their two largest units, such as `3d 4h` or `59s`."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
