"""Names are made once, kept through everything, and the configuration's come first."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import stat
from pathlib import Path

import pytest

from syntra.agent.config.identity import FILE_NAME, identify
from syntra.agent.config.load import load
from syntra.agent.config.settings import Settings
from syntra.utils.errors import AgentError


@pytest.fixture
def machine_id(tmp_path: Path) -> Path:
    path = tmp_path / "machine-id"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    return path


def settings(tmp_path: Path, **changes: object) -> Settings:
    directory = tmp_path / "data"
    directory.mkdir(exist_ok=True)
    loaded = load(None, environ={"SYNTRA_DATA_DIR": str(directory)}, command_line={})
    return dataclasses.replace(loaded.settings, data_dir=directory, **changes)  # type: ignore[arg-type] # by tests only


def test_made_names_are_kept_in_a_private_file(tmp_path: Path, machine_id: Path) -> None:
    first = identify(settings(tmp_path), machine_id=machine_id)
    assert re.fullmatch(r"agt_[0-9a-f]{16}", first.agent_id)
    assert re.fullmatch(r"srv_[0-9a-f]{16}", first.server_id)
    assert identify(settings(tmp_path), machine_id=machine_id) == first
    path = tmp_path / "data" / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == dataclasses.asdict(first)


def test_configured_names_come_first_and_stay(tmp_path: Path, machine_id: Path) -> None:
    made = identify(settings(tmp_path), machine_id=machine_id)
    named = identify(settings(tmp_path, server_id="srv_mine"), machine_id=machine_id)
    assert (named.agent_id, named.server_id) == (made.agent_id, "srv_mine")
    assert identify(settings(tmp_path), machine_id=machine_id).server_id == "srv_mine"
    # What marks the containers does not depend on it: enrolling keeps the services.
    assert named.owner == made.owner


def test_the_owner_is_found_again_when_the_directory_was_lost_and_differs_between_agents(
    tmp_path: Path, machine_id: Path
) -> None:
    first = identify(settings(tmp_path), machine_id=machine_id)
    (tmp_path / "data" / FILE_NAME).unlink()
    again = identify(settings(tmp_path), machine_id=machine_id)
    assert again.owner == first.owner
    assert again.agent_id != first.agent_id
    (tmp_path / "other").mkdir()
    other = identify(settings(tmp_path / "other"), machine_id=machine_id)
    assert other.owner != first.owner
    assert "0123456789abcdef" not in first.owner
    assert len(identify(settings(tmp_path), machine_id=tmp_path / "missing").owner) == 12


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"agent_id": 7, "server_id": null}'])
def test_a_broken_file_is_replaced_by_new_names(tmp_path: Path, machine_id: Path, content: bytes) -> None:
    path = tmp_path / "data" / FILE_NAME
    chosen = settings(tmp_path)
    path.write_bytes(content)
    names = identify(chosen, machine_id=machine_id)
    assert names.agent_id.startswith("agt_")
    assert identify(chosen, machine_id=machine_id) == names


def test_a_broken_file_is_said_aloud(tmp_path: Path, machine_id: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = settings(tmp_path)
    (tmp_path / "data" / FILE_NAME).write_text("{")
    identify(chosen, machine_id=machine_id)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_file_that_cannot_be_read_is_no_reason_for_new_names(tmp_path: Path, machine_id: Path) -> None:
    chosen = settings(tmp_path)
    (tmp_path / "data" / FILE_NAME).mkdir()
    with pytest.raises(AgentError, match=r"cannot read .*; check its owner"):
        identify(chosen, machine_id=machine_id)
