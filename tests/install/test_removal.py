"""The plan of an uninstall: the agent goes, services and what identifies them stay."""

from __future__ import annotations

from syntra.install import places
from syntra.install.actions import Disable, ReloadManager, RemoveFile, RemoveTree, Stop
from syntra.install.observed import FileSeen, Manager
from syntra.install.removal import removal_plan
from tests.install.wishes import empty, installed


def test_nothing_installed_is_nothing_to_do() -> None:
    assert removal_plan(empty(), purge=True).actions == ()


def test_the_agent_is_stopped_before_its_files_go() -> None:
    assert removal_plan(installed(), purge=False).actions == (
        Stop(),
        Disable(),
        RemoveFile(path=places.UNIT),
        ReloadManager(),
        RemoveFile(path=places.COMMAND),
        RemoveTree(path=places.CACHE),
        RemoveTree(path=places.OPT),
    )


def test_configuration_and_state_stay_unless_purged() -> None:
    removed = {str(action) for action in removal_plan(installed(), purge=False).actions}
    purged = {str(action) for action in removal_plan(installed(), purge=True).actions}
    assert purged - removed == {str(RemoveTree(path="/etc/syntra")), str(RemoveTree(path=places.DATA))}
    assert "--purge removes them" in removal_plan(installed(), purge=False).notes[0]


def test_a_command_that_is_another_programs_stays() -> None:
    seen = installed(links={places.COMMAND: "/usr/lib/other"})
    assert RemoveFile(path=places.COMMAND) not in removal_plan(seen, purge=True).actions


def test_openrc() -> None:
    script = {places.OPENRC_SCRIPT: FileSeen(content=b"", mode=0o755)}
    actions = removal_plan(installed(manager=Manager.OPENRC, files=script), purge=False).actions
    assert actions[:3] == (Stop(), Disable(), RemoveFile(path=places.OPENRC_SCRIPT))
    assert ReloadManager() not in actions
