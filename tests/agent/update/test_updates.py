"""Checks on schedule and commands, against a real release server and a real directory of versions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from syntra.agent.config.update_settings import UpdateSettings
from syntra.agent.messages import CONTROL_PLANE, LOCAL
from syntra.agent.update.updates import Updates
from syntra.model.command import UpdateAgent
from syntra.model.fields import Json
from syntra.model.ids import RequestId
from syntra.update import layout
from syntra.update.errors import UpdateError
from syntra.update.settle import settle
from syntra.update.state import Outcome, UpdateState
from syntra.update.state_file import change_state, read_state
from syntra.update.trial import Finding
from tests.update.conftest import installed, updater
from tests.update.release_site import ReleaseSite, stand_in

COMMAND = UpdateAgent(request_id=RequestId("r1"))
DEADLINE = 30.0


class Operations:
    """The operations of services; idle when the test says so."""

    def __init__(self) -> None:
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def is_idle(self) -> bool:
        return self.idle.is_set()

    async def until_idle(self) -> None:
        await self.idle.wait()


class Rig:
    """Updates of an agent 1.2.0, and all that they say."""

    def __init__(self, root: Path, site: ReleaseSite, scratch: Path, **settings: object) -> None:
        self.root = root
        self.operations = Operations()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.alerts: list[str] = []
        self.progress: list[Mapping[str, Json]] = []
        self.answers: list[Mapping[str, Json]] = []
        self.updates = Updates(
            updater(root, site, scratch),
            replace(UpdateSettings(check_interval_secs=1), **settings),  # type: ignore[arg-type]
            "1.2.0",
            operations=self.operations,
            is_connected=lambda: True,
            end=self.ended.put_nowait,
            alert=self._alert,
            state=read_state(root),
        )

    async def carry_out(self, command: UpdateAgent = COMMAND, origin: str = LOCAL) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.updates.carry_out(command, origin, self._say, self._answer)

    async def _say(self, progress: Mapping[str, Json]) -> None:
        self.progress.append(progress)

    async def _answer(self, data: Mapping[str, Json]) -> None:
        self.answers.append(data)

    async def _alert(self, title: str, message: str, about: Mapping[str, Json]) -> None:
        self.alerts.append(message)

    async def scheduled(self, until: str) -> None:
        """Run the schedule until it ends the agent, or a warning begins with `until`."""
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            running = group.create_task(self.updates.run())
            while self.ended.empty() and not (until and self.updates.warning.startswith(until)):
                await asyncio.sleep(0.02)
            running.cancel()


@pytest.fixture
def site() -> Iterator[ReleaseSite]:
    with ReleaseSite() as site:
        yield site


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installed, and under a service manager."""
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    return installed(tmp_path / "opt", tmp_path)


async def test_notify_shows_a_new_version_and_installs_nothing(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    rig = Rig(root, site, tmp_path)
    await rig.scheduled("version 1.3.0 of the agent is available: run `syntra-agent update`")
    assert rig.updates.shown()["available"] == "1.3.0"
    assert layout.linked(root, "current") == "1.2.0"
    assert not any("tar.gz" in path for path in site.asked)


async def test_auto_installs_and_ends_the_agent(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    rig = Rig(root, site, tmp_path, mode="auto")
    await rig.scheduled("")
    assert rig.ended.get_nowait() == "updated from 1.2.0 to 1.3.0"
    assert layout.linked(root, "current") == "1.3.0"
    trial = layout.read_trial(root)
    assert trial is not None
    assert trial.was_connected


async def test_auto_waits_for_its_window(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    far = (time.localtime().tm_hour + 12) % 24
    rig = Rig(root, site, tmp_path, mode="auto", window=f"{far:02}:00-{far:02}:01")
    await rig.scheduled("version 1.3.0 of the agent is available")
    assert layout.linked(root, "current") == "1.2.0"


async def test_a_refusal_is_shown_and_an_unreachable_server_only_when_it_lasts(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    await Rig(root, site, tmp_path).scheduled("no check for releases succeeded since the start: ")
    site.publish("1.3.0", stand_in("1.3.0"), signed_by=[site.root_key])
    await Rig(root, site, tmp_path).scheduled(
        "cannot update the agent: the manifest stable/manifest.json is not signed"
    )


async def test_a_person_gets_progress_and_the_answer_after_the_swap(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    rig = Rig(root, site, tmp_path)
    await rig.carry_out()
    assert rig.answers == [{"from": "1.2.0", "to": "1.3.0", "state": "restarting"}]
    phases = [one["phase"] for one in rig.progress]
    assert phases[0] == "found"
    assert "downloading" in phases
    assert phases[-1] == "installing"
    assert layout.linked(root, "current") == "1.3.0"


async def test_the_control_plane_is_answered_before_a_running_deploy_ends(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    rig = Rig(root, site, tmp_path)
    rig.operations.idle.clear()
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(rig.carry_out(replace(COMMAND, channel="beta"), CONTROL_PLANE))
        while not (root / "versions/1.3.0").exists():
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert rig.answers == [{"from": "1.2.0", "to": "1.3.0", "state": "accepted"}]
        assert layout.linked(root, "current") == "1.2.0"
        with pytest.raises(UpdateError, match="an update is under way"):
            await rig.carry_out()
        rig.operations.idle.set()
    assert layout.linked(root, "current") == "1.3.0"
    # The channel of the configuration counts, not the control plane's.
    assert "/stable/manifest.json" in site.asked
    assert "/beta/manifest.json" not in site.asked


async def test_the_version_that_runs_is_a_success_without_effect(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    rig = Rig(root, site, tmp_path)
    await rig.carry_out(replace(COMMAND, version="1.2.0"), CONTROL_PLANE)
    site.publish("1.2.0", stand_in("1.2.0"))
    await rig.carry_out()
    assert rig.answers == [{"from": "1.2.0", "to": "1.2.0", "state": "current"}] * 2
    assert rig.ended.empty()


async def test_without_a_service_manager_the_agent_does_not_end(
    root: Path, site: ReleaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVOCATION_ID")
    site.publish("1.3.0", stand_in("1.3.0"))
    rig = Rig(root, site, tmp_path)
    await rig.carry_out()
    assert rig.answers == [{"from": "1.2.0", "to": "1.3.0", "state": "installed"}]
    assert rig.ended.empty()


async def test_the_control_plane_cannot_update_where_updates_are_off(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    rig = Rig(root, site, tmp_path, mode="off")
    with pytest.raises(UpdateError, match=r"updates are off on this server; set update\.mode"):
        await rig.carry_out(COMMAND, CONTROL_PLANE)
    await rig.carry_out()
    assert layout.linked(root, "current") == "1.3.0"


async def test_the_control_plane_cannot_retry_a_rejected_version_and_a_person_can_by_name(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    change_state(root, lambda state: state.with_rejected("1.3.0", "it crashed"))
    rig = Rig(root, site, tmp_path)
    named = replace(COMMAND, version="1.3.0")
    for command, origin in ((COMMAND, LOCAL), (COMMAND, CONTROL_PLANE), (named, CONTROL_PLANE)):
        with pytest.raises(UpdateError, match="was rolled back on this server"):
            await rig.carry_out(command, origin)
    await rig.carry_out(named)
    assert layout.linked(root, "current") == "1.3.0"


async def test_a_failure_after_the_answer_is_recorded_and_alerted(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", b"#!/bin/sh\nexit 9\n")
    rig = Rig(root, site, tmp_path)
    with pytest.raises(UpdateError):
        await rig.carry_out(COMMAND, CONTROL_PLANE)
    assert rig.answers[0]["state"] == "accepted"
    assert [alert.partition(":")[0] for alert in rig.alerts] == ["the update to 1.3.0 failed"]
    state = read_state(root)
    assert state.is_reported
    last = rig.updates.shown()["last"]
    assert isinstance(last, dict)
    assert (last["result"], last["to"]) == ("failed", "1.3.0")


async def test_an_agent_that_stops_ends_the_download_and_reports_it_at_the_next_start(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))
    data = site.files[site.archive_path("1.3.0")]

    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for byte in data:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.1)

    site.answers[site.archive_path("1.3.0")] = slow
    rig = Rig(root, site, tmp_path)
    asyncio.get_running_loop().call_later(1.0, rig.updates.abort)
    with pytest.raises(UpdateError, match="aborted"):
        await rig.carry_out(COMMAND, CONTROL_PLANE)
    assert rig.answers[0]["state"] == "accepted"
    assert rig.alerts == []
    assert settle(root, "1.2.0", 1.0).finding is Finding.NOTHING
    outcome = read_state(root).outcome
    assert outcome is not None
    assert outcome.sentence == "the update to 1.3.0 was interrupted; 1.2.0 continues"


async def test_an_outcome_of_the_last_run_is_reported_once(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    outcome = Outcome(result="rolled_back", from_version="1.2.0", to_version="1.3.0", reason="it crashed", at=1.0)
    change_state(root, lambda state: state.with_outcome(outcome))
    for alerts in (["version 1.3.0 was rolled back to 1.2.0: it crashed"], []):
        rig = Rig(root, site, tmp_path)
        await rig.scheduled("no check for releases")
        assert rig.alerts == alerts


async def test_an_agent_outside_an_installation_checks_nothing(site: ReleaseSite) -> None:
    updates = Updates(
        None,
        UpdateSettings(),
        "1.2.0",
        operations=Operations(),
        is_connected=lambda: False,
        end=lambda reason: None,
        alert=lambda *about: asyncio.sleep(0),
        state=UpdateState(),
    )
    await updates.run()
    assert updates.shown()["mode"] == "off"
