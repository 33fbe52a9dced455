"""One file of a folder: the same content makes the same bytes, and says what it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from build import facts
from build.cache import ROOT
from build.decision import ASK_HOW_THEY_WERE_BUILT, decision
from build.pack import TRAILER, pack
from syntra import __version__


def folder(place: Path) -> Path:
    (place / "b").mkdir(parents=True)
    (place / "b/library.so").write_bytes(b"library" * 1000)
    (place / "program").write_bytes(b"program")
    (place / "program").chmod(0o755)
    return place


def test_the_version_is_that_of_the_package() -> None:
    assert facts.version_of() == __version__


def test_the_same_content_packs_to_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "launcher").write_bytes(b"launcher")
    for name in ("one", "two"):
        place = folder(tmp_path / name)
        os.utime(place / "program", (1, len(name)))
        pack(tmp_path / "launcher", place, "1.0", tmp_path / f"{name}.packed", level=1)
    assert (tmp_path / "one.packed").read_bytes() == (tmp_path / "two.packed").read_bytes()


def test_other_content_gets_another_name(tmp_path: Path) -> None:
    (tmp_path / "launcher").write_bytes(b"launcher")
    place = folder(tmp_path / "folder")
    first = pack(tmp_path / "launcher", place, "1.0", tmp_path / "packed", level=1)
    (place / "b/library.so").write_bytes(b"library")
    second = pack(tmp_path / "launcher", place, "1.0", tmp_path / "packed", level=1)
    assert first != second
    trailer = (tmp_path / "packed").read_bytes()[-TRAILER.size :]
    assert TRAILER.unpack(trailer)[4].rstrip(b"\0").decode() == second


def test_the_facts_name_the_commit_and_its_date() -> None:
    known = facts.collect("a target", {"openssl": "3.5.7"})
    assert (known["version"], known["target"]) == (__version__, "a target")
    shown = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    assert str(known["commit"]).removesuffix("+changes") == (shown or "unknown")
    libraries = known["libraries"]
    assert isinstance(libraries, dict)
    assert libraries["openssl"] == "3.5.7"
    assert libraries["websockets"] == facts.requirements()["websockets"]


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("syntra.telemetry.processing.spans", "bytecode"),
        ("syntra.agent.app", "bytecode"),
        ("syntra.cli.version", None),
        ("syntra.utils.own_program", None),
        ("google.protobuf", "bytecode"),
        ("__main__", None),
        ("multiprocessing-preLoad", None),
    ],
)
def test_everything_is_bytecode_but_what_asks_how_it_was_built(module: str, wanted: str | None) -> None:
    assert decision(module) == wanted


def test_every_module_that_asks_whether_it_is_compiled_always_is() -> None:
    asking = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "syntra").rglob("*.py")
        if '"__compiled__"' in path.read_text()
    }
    assert asking == set(ASK_HOW_THEY_WERE_BUILT)
