"""The file of a trial, and what a start makes of it."""

from __future__ import annotations

import pytest

from syntra.update.trial import REASON_MAX, Finding, Trial, find, reason_line

WHOLE = Trial(
    to_version="1.3.0", from_version="1.2.0", was_connected=True, starts=2, reason="it crashed; twice = often"
)


def test_it_is_read_as_it_was_written() -> None:
    assert Trial.decode(WHOLE.encode()) == WHOLE
    plain = Trial(to_version="1.3.0", from_version="1.2.0")
    assert Trial.decode(plain.encode()) == plain


def test_cut_anywhere_it_is_no_trial_or_one_with_fewer_starts() -> None:
    text = WHOLE.encode()
    for cut in range(len(text)):
        trial = Trial.decode(text[:cut])
        assert trial is None or trial.starts <= WHOLE.starts


def test_lines_that_were_appended_count() -> None:
    text = Trial(to_version="1.3.0", from_version="1.2.0").encode()
    text += "start\n" + reason_line("first") + "\nstart\n" + reason_line("a\nstart\nto=9.9.9") + "\n"
    trial = Trial.decode(text)
    assert trial == Trial(to_version="1.3.0", from_version="1.2.0", starts=2, reason="a start to=9.9.9")


def test_a_reason_is_one_short_line() -> None:
    line = reason_line("x\x1b[2J\r\n" * 1000)
    assert line.isprintable()
    assert len(line) == len("reason=") + REASON_MAX


@pytest.mark.parametrize(
    ("trial", "running", "finding"),
    [
        (None, "1.2.0", Finding.NOTHING),
        (WHOLE, "1.3.0", Finding.ON_TRIAL),
        (WHOLE, "1.2.0", Finding.ROLLED_BACK),
        (Trial(to_version="1.3.0", from_version="1.2.0"), "1.2.0", Finding.INTERRUPTED),
    ],
)
def test_a_start_finds(trial: Trial | None, running: str, finding: Finding) -> None:
    assert find(trial, running) is finding
