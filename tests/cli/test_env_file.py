"""Env files: docker's format, and mistakes that never show a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.cli.env_file import SIZE_MAX, EnvFileMistake, parse_env_file, read_env_file

TEXT = """\ufeff# a comment
A=1
  B= two words
C="quoted"
D=a=b#c

  # another
EMPTY=
FROM_OUTSIDE
"""


def test_the_format_is_docker_s() -> None:
    assert parse_env_file(TEXT, {"FROM_OUTSIDE": "x", "OTHER": "y"}) == {
        "A": "1",
        "B": " two words",
        "C": '"quoted"',
        "D": "a=b#c",
        "EMPTY": "",
        "FROM_OUTSIDE": "x",
    }


def test_a_file_of_another_system_reads_the_same() -> None:
    assert parse_env_file("A=1\r\nB=2\r\n", {}) == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nsecret words\n", "2: the line is not NAME=VALUE"),
        ("=secret\n", "1: the line is not NAME=VALUE"),
        ("A =secret\n", "1: the line is not NAME=VALUE"),
        ("A\n", "1: A has no value, and is not set in the environment either"),
        ("A=secret\n\nA=secret\n", "3: A is given twice"),
        ("A=secret\0\n", "1: A holds a NUL character"),
    ],
)
def test_a_mistake_is_named_without_a_value(text: str, expected: str) -> None:
    with pytest.raises(EnvFileMistake) as caught:
        parse_env_file(text, {})
    assert str(caught.value) == expected


def test_every_beginning_of_a_file_is_variables_or_a_mistake() -> None:
    whole = parse_env_file(TEXT, {"FROM_OUTSIDE": "x"})
    for cut in range(len(TEXT)):
        try:
            found = parse_env_file(TEXT[:cut], {"FROM_OUTSIDE": "x"})
        except EnvFileMistake as mistake:
            assert "no value" in str(mistake)
        else:
            assert found.keys() <= whole.keys()
            assert all(whole[name].startswith(value) for name, value in found.items())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvFileMistake, match=r"none\.env: there is no such file"):
        read_env_file(tmp_path / "none.env", {})
    (tmp_path / "a.env").write_bytes(b"A=\xff")
    with pytest.raises(EnvFileMistake, match="it is not UTF-8 text"):
        read_env_file(tmp_path / "a.env", {})
    (tmp_path / "a.env").write_bytes(b"#" * (SIZE_MAX + 1))
    with pytest.raises(EnvFileMistake, match="it is larger than 256 KiB"):
        read_env_file(tmp_path / "a.env", {})
