"""docs/session.md is what its commands print now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


def test_the_recorded_session_is_true() -> None:
    require_engine()
    command = [sys.executable, "-m", "scripts.session", "--check"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    if ended.returncode != 0:
        pytest.fail(f"run scripts/record-session\n{ended.stdout}{ended.stderr}", pytrace=False)
