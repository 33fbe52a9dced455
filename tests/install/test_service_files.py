"""The unit and the OpenRC script: one source, and what they must say."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from syntra.install import places
from syntra.install.openrc_script import SCRIPT
from syntra.install.systemd_unit import NEWEST, unit
from tests.engine import missing

ROOT = Path(__file__).resolve().parents[2]


def options(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as the module's documentation advises
    parser.read_string(text)
    return dict(parser["Unit"]) | dict(parser["Service"])


def test_the_unit_in_config_is_the_one_that_install_writes() -> None:
    assert (ROOT / "config/syntra-agent.service").read_text() == unit(NEWEST)


def test_the_unit_restarts_forever_and_does_not_depend_on_the_engine() -> None:
    said = options(unit(252))
    assert said["Restart"] == "always"
    assert said["StartLimitIntervalSec"] == "0"
    assert "docker.service" in said["After"]
    assert "Requires" not in said
    assert "docker" not in said["Wants"]


def test_a_back_off_is_asked_for_only_where_systemd_knows_it() -> None:
    assert "RestartSteps" not in options(unit(253))
    assert options(unit(254))["RestartMaxDelaySec"] == "60"


def test_the_token_is_a_credential_and_no_core_file_can_contain_it() -> None:
    said = options(unit(252))
    assert said["LoadCredential"] == f"token:{places.TOKEN}"
    assert said["LimitCORE"] == "0"


def test_a_new_version_is_counted_before_each_start() -> None:
    assert options(unit(252))["ExecStartPre"] == places.BOOT_CHECK
    assert f"command={places.BOOT_CHECK}\n" in SCRIPT


@pytest.mark.parametrize("shell", [["dash", "-n"], ["busybox", "sh", "-n"], ["bash", "-n"]])
def test_the_openrc_script_is_plain_sh(shell: list[str], tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        missing(f"{shell[0]} is not installed")
    file = tmp_path / "script"
    file.write_text(SCRIPT)
    ended = subprocess.run([*shell, file], capture_output=True, text=True, check=False, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_unit_is_valid(tmp_path: Path) -> None:
    """systemd-analyze knows every option; executables of another machine are what it may miss."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze is not installed")
    file = tmp_path / "syntra-agent.service"
    file.write_text(unit(252))
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = [line for line in ended.stderr.splitlines() if file.name in line and "is not executable" not in line]
    assert said == []
