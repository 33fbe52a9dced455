"""Tables, and numbers with units."""

from __future__ import annotations

from collections.abc import Sequence

from syntra.cli.look import cut
from syntra.cli.terminal import out, printable
from syntra.utils.frozen import frozen


def show(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print a table, or the sentence `empty` when there are no rows. Escapes the cells."""
    if not rows:
        out(empty)
        return
    # Imported here: only some verbs print tables, and the others start faster.
    from tabulate import tabulate

    cells = [[printable(str(cell)) for cell in row] for row in rows]
    out(tabulate(cells, headers=[header.upper() for header in headers], tablefmt="plain", disable_numparse=True))


@frozen
class Column:
    """`least`: its cells may be cut to this length, None: not at all. `rank`: the order to leave it out, 0: never."""

    header: str
    least: int | None = None
    rank: int = 0


def column(header: str, least: int | None = None, rank: int = 0) -> Column:
    """A column; see `Column`."""
    return Column(header=header, least=least, rank=rank)


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[object]], width: int | None) -> list[str]:
    """A table whose lines are at most `width` long: first cells are cut, then columns are left out. Escapes cells."""
    cells = [[one.header.upper() for one in columns]]
    cells += [[printable(str(cell)) for cell in row] for row in rows]
    kept = list(range(len(columns)))
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    least = [min(widths[place], one.least or widths[place]) for place, one in enumerate(columns)]
    if width is not None:
        for place in sorted(kept, key=lambda place: columns[place].rank):
            if columns[place].rank and _length(least, kept) > width:
                kept.remove(place)
        while _length(widths, kept) > width:
            widest = max(kept, key=lambda place: widths[place] - least[place])
            if widths[widest] <= least[widest]:
                break
            widths[widest] -= 1
    return [
        "  ".join(cut(row[place], widths[place]).ljust(widths[place]) for place in kept).rstrip()[:width]
        for row in cells
    ]


def _length(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[place] for place in kept) + 2 * (len(kept) - 1)


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
