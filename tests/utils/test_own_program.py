"""The command line that runs this very program again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from syntra.utils.own_program import own_program


def proc(folder: Path, executable: str, *words: str) -> Path:
    """A process as procfs has it."""
    folder.mkdir(exist_ok=True)
    (folder / "exe").symlink_to(executable)
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    return folder


def test_from_source_it_is_the_interpreter_with_the_package() -> None:
    assert own_program() == [sys.executable, "-m", "syntra"]


def test_compiled_it_is_the_running_executable_not_the_file_that_was_started(tmp_path: Path) -> None:
    seen = proc(tmp_path / "proc", "/cache/1.2.3/syntra-agent.bin", "/usr/bin/syntra-agent", "start")
    assert own_program(is_compiled=True, proc=seen) == ["/cache/1.2.3/syntra-agent.bin"]


def test_with_its_own_loader_the_program_is_the_loader_s_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = "/cache/1.2.3"
    loader = f"{unpacked}/ld-musl-x86_64.so.1"
    words = (loader, "--argv0", "syntra-agent", "--", f"{unpacked}/syntra-agent.bin", "start")
    seen = proc(tmp_path / "proc", loader, *words)
    monkeypatch.setattr(sys, "argv", ["syntra-agent", "start"])
    found = own_program(is_compiled=True, proc=seen)
    assert found == [loader, "--argv0", "syntra-agent", "--", f"{unpacked}/syntra-agent.bin"]


def test_a_path_that_is_not_text_survives(tmp_path: Path) -> None:
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "exe").symlink_to(b"/cache/\xff/program".decode(errors="surrogateescape"))
    [program] = own_program(is_compiled=True, proc=folder)
    assert program.encode(errors="surrogateescape") == b"/cache/\xff/program"
