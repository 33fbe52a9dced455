"""The engine's clean-up token, for the tests that need containers."""

from __future__ import annotations

from tests.engine import engine_token

__all__ = ["engine_token"]
