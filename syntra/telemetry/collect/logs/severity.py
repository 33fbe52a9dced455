"""The words and numbers that loggers have for a level, as severity numbers of OpenTelemetry's log data model. Pure."""

from __future__ import annotations

TRACE, DEBUG, INFO, WARN, ERROR, FATAL = 1, 5, 9, 13, 17, 21

_WORDS = {
    "trace": TRACE,
    "trc": TRACE,
    "verbose": TRACE,
    "vrb": TRACE,
    "finest": TRACE,
    "finer": TRACE,
    "silly": TRACE,
    "debug": DEBUG,
    "dbg": DEBUG,
    "dbug": DEBUG,
    "fine": DEBUG,
    "config": DEBUG,
    "info": INFO,
    "inf": INFO,
    "information": INFO,
    "informational": INFO,
    "log": INFO,
    "notice": INFO + 1,
    "warn": WARN,
    "wrn": WARN,
    "warning": WARN,
    "error": ERROR,
    "err": ERROR,
    "eror": ERROR,
    "fail": ERROR,
    "severe": ERROR,
    "exception": ERROR,
    "dpanic": ERROR + 1,
    "critical": ERROR + 1,
    "crit": ERROR + 1,
    "alert": ERROR + 2,
    "panic": ERROR + 3,
    "fatal": FATAL,
    "ftl": FATAL,
    "emerg": FATAL,
    "emergency": FATAL,
}
"""Syslog's words as in the data model's appendix B, and those of the usual loggers."""
SEVERITIES = {form: number for word, number in _WORDS.items() for form in (word, word.upper(), word.capitalize())}
"""By a word in one of its usual spellings; `severity_of_word` knows all of them."""
_LETTERS = {"t": TRACE, "d": DEBUG, "v": TRACE, "i": INFO, "w": WARN, "e": ERROR, "f": FATAL, "c": ERROR + 1}


def severity_of_word(word: str) -> int:
    """The severity number of a level's name or first letter; 0 for another word."""
    found = SEVERITIES.get(word)
    if found is not None:
        return found
    lower = word.strip().lower()
    return _WORDS.get(lower) or _LETTERS.get(lower, 0)


def severity_of_number(level: float) -> int:
    """The severity number of a level in tens, as pino and bunyan have it (10 trace … 60 fatal); 0 for no such level.

    Levels between two, which both loggers allow, count as the lower.
    """
    if 10 <= level < 70:
        return (int(level) // 10) * 4 - 3
    return 0
