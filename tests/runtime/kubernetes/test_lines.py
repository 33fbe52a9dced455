"""Lines of watches and logs, however their bytes arrive."""

from __future__ import annotations

from syntra.runtime.kubernetes.lines import LineSplitter

TEXT = b"first\n\n\xc3\xa4 \xff\r\nlast without an end"
LINES = [b"first", b"", b"\xc3\xa4 \xff\r", b"last without an end"]


def split(*pieces: bytes, most: int = 100) -> list[bytes]:
    splitter = LineSplitter(most)
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.feed_eof()


def test_whole_and_byte_by_byte_and_cut_at_every_index() -> None:
    assert split(TEXT) == LINES
    assert split(*(TEXT[at : at + 1] for at in range(len(TEXT)))) == LINES
    for cut in range(len(TEXT) + 1):
        assert split(TEXT[:cut], TEXT[cut:]) == LINES
        for second in range(cut, len(TEXT) + 1, 3):
            assert split(TEXT[:cut], TEXT[cut:second], TEXT[second:]) == LINES


def test_nothing_has_no_line() -> None:
    assert split() == [] and split(b"") == [] and split(b"\n") == [b""]


def test_a_line_that_is_too_long_is_cut_and_counted_once_however_it_arrives() -> None:
    text = b"abc\n" + b"x" * 25 + b"\nnext\n"
    for size in (1, 2, 7, 11, 100):
        splitter = LineSplitter(10)
        found = [line for at in range(0, len(text), size) for line in splitter.feed(text[at : at + size])]
        assert found + splitter.feed_eof() == [b"abc", b"x" * 10, b"next"], size
        assert splitter.cut == 1


def test_a_line_of_exactly_the_most_is_whole() -> None:
    splitter = LineSplitter(10)
    assert splitter.feed(b"x" * 10 + b"\n") == [b"x" * 10] and splitter.cut == 0
