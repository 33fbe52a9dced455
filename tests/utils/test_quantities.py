"""Sizes and CPU shares as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.utils.quantities import parse_bytes, parse_nano_cpus
from tests.model.samples import quick


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("512m", 536_870_912), ("1g", 1_073_741_824), ("256MB", 268_435_456), ("1.5g", 1_610_612_736)),
        *(("536870912", 536_870_912), ("1", 1), ("1b", 1), ("1k", 1024), ("1t", 2**40), ("2.0", 2)),
        *(("512Mi", 536_870_912), ("512MiB", 536_870_912), ("512M", 536_870_912), ("512 m", 536_870_912)),
        *((" 1g ", 2**30), ("0.5k", 512), ("0.3k", 307), ("9223372036854775807", 2**63 - 1)),
    ],
)
def test_a_size_is_bytes_in_binary_multiples(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "m", "mb", "b", ".", ".5m", "1.m", "1..5m", "1,5g", "-1", "+1", "1e9", "0x10", "inf", "nan"),
        *("0", "0m", "0.0", "0.5", "1.5", "1.5b", "0.0001k", "1p", "1mm", "1bm", "1ib", "1 m b", "512m512m", "1m\0"),
        *("٣m", "１g", "1" * 20, "1." + "1" * 10, "1\n2", "half", "None"),
    ],
)
def test_what_is_no_positive_whole_number_of_bytes_is_none(text: str) -> None:
    assert parse_bytes(text) is None


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        *(("0.5", 500_000_000), ("2", 2_000_000_000), ("250m", 250_000_000), ("1000m", 10**9), (" 1 ", 10**9)),
        *(("0.000000001", 1), ("0.5m", 500_000), ("999999", 999_999 * 10**9), ("0.1", 100_000_000)),
    ],
)
def test_a_cpu_share_is_billionths_of_a_core(text: str, nanos: int) -> None:
    assert parse_nano_cpus(text) == nanos


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "m", ".", ".5", "1.", "1..5", "1,5", "-1", "+1", "1e3", "inf", "nan", "all", "1M", "1 m", "1g", "½"),
        *("0", "0m", "0.0", "0.0000001m", "1000000", "0.0000000001", "1\0", "٣"),
    ],
)
def test_what_is_no_cpu_share_is_none(text: str) -> None:
    assert parse_nano_cpus(text) is None


@quick
@given(st.integers(1, 2**63 - 1))
def test_every_whole_number_of_bytes_reads_back(size: int) -> None:
    assert parse_bytes(str(size)) == size


@quick
@given(st.integers(1, 10**15 - 1))
def test_every_number_of_nanos_reads_back(nanos: int) -> None:
    assert parse_nano_cpus(f"{nanos // 10**9}.{nanos % 10**9:09d}") == nanos


@quick
@given(st.text(max_size=12) | st.text(alphabet="0123456789.kmgtibKMB -+e", max_size=12))
def test_any_text_is_positive_or_none(text: str) -> None:
    for parse in (parse_bytes, parse_nano_cpus):
        found = parse(text)
        assert found is None or found > 0
