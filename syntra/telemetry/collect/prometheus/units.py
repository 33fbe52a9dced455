"""Unit words of OpenMetrics as UCUM codes, which OTLP has. Pure."""

from __future__ import annotations

_CODES = {
    "days": "d",
    "hours": "h",
    "minutes": "min",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
    "bytes": "By",
    "kibibytes": "KiBy",
    "mebibytes": "MiBy",
    "gibibytes": "GiBy",
    "tibibytes": "TiBy",
    "kilobytes": "KBy",
    "megabytes": "MBy",
    "gigabytes": "GBy",
    "terabytes": "TBy",
    "meters": "m",
    "volts": "V",
    "amperes": "A",
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "celsius": "Cel",
    "hertz": "Hz",
    "percent": "%",
    "ratio": "1",
}
_EACH = {
    "second": "s",
    "minute": "m",
    "hour": "h",
    "day": "d",
    "week": "w",
    "month": "mo",
    "year": "y",
}


def ucum(words: str) -> str:
    """The code of a unit; words that have none stay as they are. `bytes_per_second` is `By/s`."""
    unit, per, each = words.partition("_per_")
    if per and each in _EACH:
        return f"{_CODES.get(unit, unit)}/{_EACH[each]}"
    return _CODES.get(words, words)
