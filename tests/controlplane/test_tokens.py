"""Tokens: made, hashed, and kept in a file that only its owner reads."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from syntra.controlplane.tokens import bearer_token, new_agent_token, read_or_create_operator_token, token_hash
from syntra.utils.errors import AgentError


def test_agent_tokens_differ_and_carry_256_bits() -> None:
    tokens = {new_agent_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == len("syn_agt_") + 43 for token in tokens)


def test_the_operator_token_is_made_once_and_read_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "operator.token"
    made = read_or_create_operator_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_create_operator_token(path) == made == token_hash(path.read_text().strip())
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_half_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "operator.token.new").write_text("syn_op")
    read_or_create_operator_token(tmp_path / "operator.token")
    assert list(tmp_path.iterdir()) == [tmp_path / "operator.token"]


@pytest.mark.parametrize(("mode", "text"), [(0o640, "x" * 40), (0o600, "syn_op_cut"), (0o600, "")])
def test_a_readable_or_useless_token_file_is_refused_without_quoting_it(tmp_path: Path, mode: int, text: str) -> None:
    path = tmp_path / "operator.token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(AgentError, match="the next start creates a new one") as refused:
        read_or_create_operator_token(path)
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer a", "a"), ("bearer  a ", "a"), ("Bearer ", None), ("Bearer", None), ("Basic a", None), (None, None)],
)
def test_a_bearer_token_is_found_in_its_header(header: str | None, token: str | None) -> None:
    assert bearer_token(header) == token
