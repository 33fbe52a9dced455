"""Files of the kernel, read and parsed."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.utils.kernel_files import interfaces, keyed, read_kernel_file, whole


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 4096, 65_536, 65_537, 300_000])
def test_a_file_of_any_size_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert len(read_kernel_file(str(tmp_path / "file"))) == size


def test_the_longest_file_of_proc_is_read_whole() -> None:
    assert read_kernel_file("/proc/self/smaps").count(b"\nVmFlags:") == Path("/proc/self/smaps").read_text().count(
        "\nVmFlags:"
    )


def test_values_are_found_by_name() -> None:
    found = keyed(b"a 1\nb max\nc 18446744073709551615\n")
    assert (whole(found, b"a"), whole(found, b"b"), whole(found, b"d")) == (1, None, None)
    assert whole(found, b"c") == 2**64 - 1
    assert keyed(b"") == {} and keyed(b"odd") == {}


def test_interfaces_without_a_space_and_with_a_colon_are_parsed() -> None:
    counters = " ".join(str(number) for number in range(16))
    text = f"head\nhead\n  eth0:{counters}\neth0:1: {counters}\n".encode()
    assert interfaces(text) == {"eth0": list(range(16)), "eth0:1": list(range(16))}
