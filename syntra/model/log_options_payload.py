"""The `logs` section of a deploy payload, which is the agent's own and optional. Pure."""

from __future__ import annotations

import re

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.log_options import LogOptions, LogRate

PARSE = ("auto", "json", "logfmt", "klog", "off")
MAX_PATTERN_CHARS = 200
MAX_REPEATS = 3
"""More unbounded repeats in one pattern could take seconds for a line, in which no log is read."""
MAX_RATE = 1e9

_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{)")
_REPEAT = re.compile(r"[*+]|\{\d*,\}")


def parse_log_options(logs: Fields | None) -> LogOptions:
    """The options of a section; without one, the defaults. Raises InvalidField."""
    if logs is None:
        return LogOptions()
    return LogOptions(
        multiline=_multiline(logs),
        parse=_word(logs, "parse", PARSE),
        rate_limit=_rate(logs.section("rate_limit")),
    )


def render_log_options(options: LogOptions) -> dict[str, Json]:
    """What `parse_log_options` reads back; what is not set is left out."""
    rendered: dict[str, Json] = {}
    if options.multiline != "auto":
        rendered["multiline"] = options.multiline
    if options.parse != "auto":
        rendered["parse"] = options.parse
    if (rate := options.rate_limit) is not None:
        rendered["rate_limit"] = {
            "lines_per_second": rate.lines_per_sec,
            "bytes_per_second": rate.bytes_per_sec,
            "burst_seconds": rate.burst_secs,
        }
    return rendered


def _word(logs: Fields, key: str, among: tuple[str, ...]) -> str:
    path, value = logs.raw(key)
    # In YAML, `off` without quotes is the boolean.
    word = "off" if value is False else logs.text(key, default="auto")
    if word not in among:
        raise InvalidField(path, f"{word[:40]!r} is not one of {', '.join(among)}")
    return word


def _multiline(logs: Fields) -> str:
    path, value = logs.raw("multiline")
    pattern = "off" if value is False else logs.text("multiline", default="auto")
    if pattern in ("auto", "off"):
        return pattern
    if len(pattern) > MAX_PATTERN_CHARS:
        raise InvalidField(path, f"a pattern of {len(pattern)} characters is too long; use at most {MAX_PATTERN_CHARS}")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as wrong:
        raise InvalidField(path, f"is neither auto, off nor a regular expression: {wrong}") from wrong
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern)
    if _REPEATED_GROUP.search(plain) or len(_REPEAT.findall(plain)) > MAX_REPEATS:
        raise InvalidField(
            path, f"repeats a group, or has more than {MAX_REPEATS} of * and +, which may take too long for a line"
        )
    return pattern


def _rate(limit: Fields | None) -> LogRate | None:
    if limit is None:
        return None
    return LogRate(
        lines_per_sec=limit.number("lines_per_second", default=0.0, low=0, high=MAX_RATE),
        bytes_per_sec=limit.number("bytes_per_second", default=0.0, low=0, high=MAX_RATE),
        burst_secs=limit.number("burst_seconds", default=10.0, low=0.1, high=3600),
    )
