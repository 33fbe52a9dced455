"""The generated modules of `proto/` are those that the pinned compiler generates now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "syntra/telemetry/wire"


def test_the_generated_modules_are_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts/generate_proto.py", tmp_path], check=True)
    generated = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert generated
    stored = {path.name: path.read_text() for path in PACKAGE.iterdir() if path.is_file() and "_pb2" in path.name}
    assert stored == generated, "run scripts/generate-proto"
