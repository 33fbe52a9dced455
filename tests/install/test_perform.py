"""Plans carried out below a directory: idempotent, and undone after a failure at any action."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from syntra.install import places
from syntra.install.actions import Action
from syntra.install.errors import InstallError
from syntra.install.machine import observe
from syntra.install.observed import Manager
from syntra.install.perform import Performer
from syntra.install.plan import Wanted, install_plan
from syntra.install.removal import removal_plan
from syntra.utils.errors import AgentError
from tests.install.recorded_manager import RecordedManager
from tests.install.wishes import TOKEN, wanted

TreeEntry = tuple[str, int, bytes]


def program_file(folder: Path, content: str = "one") -> Path:
    file = folder / f"program-{content}"
    file.write_text(f"#!/bin/sh\necho {content}\n")
    file.chmod(0o755)
    return file


def planned(root: Path, manager: RecordedManager, wish: Wanted, program: Path) -> tuple[Action, ...]:
    seen = observe(manager, Manager.SYSTEMD, systemd_version=252, program=program, prefix=str(root))
    return install_plan(wish, seen).actions


def install(root: Path, manager: RecordedManager, wish: Wanted, program: Path) -> None:
    Performer(manager, program=program, prefix=str(root)).install(planned(root, manager, wish, program))


def tree(root: Path) -> dict[str, TreeEntry]:
    """Everything below `root`: kind, mode and content; but the locks of the layout."""
    found: dict[str, TreeEntry] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = ("link", 0, os.readlink(path).encode())
        elif path.is_dir():
            found[name] = ("directory", stat.S_IMODE(path.stat().st_mode), b"")
        else:
            found[name] = ("file", stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


def test_an_install_is_complete_and_a_second_one_does_nothing(tmp_path: Path) -> None:
    root, manager, program = tmp_path / "root", RecordedManager(), program_file(tmp_path)
    root.mkdir()
    install(root, manager, wanted(), program)
    assert manager.calls == ["reload", "enable", "start"]
    assert (root / "opt/syntra-agent/current/syntra-agent").read_text() == program.read_text()
    assert os.readlink(root / "usr/local/bin/syntra-agent") == places.PROGRAM
    assert (root / "etc/syntra/token").read_text() == f"{TOKEN}\n"
    assert stat.S_IMODE((root / "var/lib/syntra").stat().st_mode) == 0o700
    before = tree(root)
    assert planned(root, manager, wanted(), program) == ()
    assert tree(root) == before


def test_an_upgrade_keeps_the_configuration_and_the_previous_version(tmp_path: Path) -> None:
    root, manager = tmp_path / "root", RecordedManager()
    root.mkdir()
    install(root, manager, wanted(), program_file(tmp_path))
    configuration = root / "etc/syntra/agent.toml"
    configuration.write_text(configuration.read_text() + "heartbeat_interval_secs = 5\n")
    before = configuration.read_bytes()
    install(root, manager, wanted(version="1.3.0", token=None, fresh_agent_id="agt_2"), program_file(tmp_path, "two"))
    assert configuration.read_bytes() == before
    assert os.readlink(root / "opt/syntra-agent/current") == "versions/1.3.0"
    assert os.readlink(root / "opt/syntra-agent/previous") == "versions/1.2.0"
    assert manager.calls[-1] == "restart"


@pytest.mark.parametrize("fault", ["reload", "enable", "start"])
@pytest.mark.parametrize("kind", ["fails", "interrupts"])
def test_a_failed_install_leaves_the_machine_as_it_was(fault: str, kind: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/local/bin").mkdir(parents=True)
    before = tree(root)
    manager = RecordedManager(**{kind: fault})  # type: ignore[arg-type]  # one of the two texts
    with pytest.raises(InstallError if kind == "fails" else KeyboardInterrupt):
        install(root, manager, wanted(), program_file(tmp_path))
    assert tree(root) == before
    assert (manager.active, manager.enabled) == (False, False)
    assert manager.calls[-1] == "reload"


def test_a_failed_upgrade_brings_back_the_old_version_and_restarts_it(tmp_path: Path) -> None:
    root, manager = tmp_path / "root", RecordedManager()
    root.mkdir()
    install(root, manager, wanted(), program_file(tmp_path))
    before = tree(root)
    failing = RecordedManager(fails="restart", active=True, enabled=True)
    with pytest.raises(InstallError, match="as the test wants"):
        install(root, failing, wanted(version="1.3.0", token="syn_agt_new"), program_file(tmp_path, "two"))
    assert tree(root) == before
    assert failing.calls == ["restart", "reload", "restart"]


def test_each_action_that_cannot_be_done_is_undone_with_all_before_it(tmp_path: Path) -> None:
    """A file in the place of a parent directory stops one action after the other."""
    obstacles = ["etc", "var", "opt", "usr/local", "etc/systemd"]
    for number, obstacle in enumerate(obstacles):
        root = tmp_path / f"root{number}"
        (root / obstacle).parent.mkdir(parents=True)
        (root / obstacle).write_text("in the way")
        before = tree(root)
        manager = RecordedManager()
        with pytest.raises(AgentError):
            install(root, manager, wanted(), program_file(tmp_path))
        assert tree(root) == before, obstacle
        assert "start" not in manager.calls


def test_an_uninstall_keeps_what_identifies_the_services(tmp_path: Path) -> None:
    root, manager, program = tmp_path / "root", RecordedManager(), program_file(tmp_path)
    root.mkdir()
    install(root, manager, wanted(), program)
    remove(root, manager, program, purge=False)
    assert manager.calls[-3:] == ["stop", "disable", "reload"]
    left = {name for name, (kind, _, _) in tree(root).items() if kind != "directory"}
    assert left == {"etc/syntra/agent.toml", "etc/syntra/token"}
    install(root, manager, wanted(token=None, fresh_agent_id="agt_other"), program)
    assert "agt_fresh" in (root / "etc/syntra/agent.toml").read_text()


def test_a_purge_leaves_nothing(tmp_path: Path) -> None:
    root, manager, program = tmp_path / "root", RecordedManager(), program_file(tmp_path)
    root.mkdir()
    install(root, manager, wanted(), program)
    remove(root, manager, program, purge=True)
    assert {name for name, (kind, _, _) in tree(root).items() if kind != "directory"} == set()
    assert not (root / "var/lib/syntra").exists()
    assert not (root / "opt/syntra-agent").exists()


def test_what_the_installed_versions_unpacked_goes_too(tmp_path: Path) -> None:
    root, manager, program = tmp_path / "root", RecordedManager(), program_file(tmp_path)
    cache = root / pwd.getpwuid(0).pw_dir.lstrip("/") / ".cache/syntra-agent"
    others = {"syntra-agent-1.2.0-beta.1-abc", "syntra-agent-1.3.0-abc"}
    for name in ("syntra-agent-1.2.0-abc", *others):
        (cache / name).mkdir(parents=True)
    install(root, manager, wanted(), program)
    remove(root, manager, program, purge=False)
    assert {path.name for path in cache.iterdir()} == others


def remove(root: Path, manager: RecordedManager, program: Path, *, purge: bool) -> None:
    seen = observe(manager, Manager.SYSTEMD, prefix=str(root))
    Performer(manager, program=program, prefix=str(root)).uninstall(removal_plan(seen, purge=purge).actions)


def test_a_file_in_the_place_of_the_command_is_not_replaced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/syntra-agent").write_text("another program")
    with pytest.raises(InstallError, match="it is a file that this program did not make"):
        planned(root, RecordedManager(), wanted(), program_file(tmp_path))


def test_a_broken_configuration_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc/syntra").mkdir(parents=True)
    (root / "etc/syntra/agent.toml").write_text("agent_id = \n")
    before = tree(root)
    with pytest.raises(AgentError, match=r"agent\.toml"):
        planned(root, RecordedManager(), wanted(), program_file(tmp_path))
    assert tree(root) == before
