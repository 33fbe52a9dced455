"""The program that end-to-end tests run: the sources, or the file that `scripts/test e2e --agent PATH` names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GIVEN = os.environ.get("AGENT_UNDER_TEST")
"""Set by scripts/test."""
AGENT: tuple[str, ...] = (str(Path(GIVEN).resolve()),) if GIVEN else (sys.executable, "-m", "syntra")
