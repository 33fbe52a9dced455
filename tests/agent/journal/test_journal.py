"""Commands, operations and services as rows: each method is whole or has not happened, and secrets are sealed."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from syntra.agent.journal import journal as journal_module
from syntra.agent.journal.database import JournalError
from syntra.agent.journal.desired import KEPT_DEPLOYMENTS
from syntra.agent.journal.journal import KEPT_COMMAND_SECS
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.runtime.kubernetes.planner import KEPT_REVISIONS
from tests.agent.journal.opened import Opened, after_a_kill, opened
from tests.agent.journal.samples import WEB, accept, committed, found, row
from tests.agent.samples import CANARY, deploy_payload, deployment

R1, R2, R3 = RequestId("r1"), RequestId("r2"), RequestId("r3")


async def texts(journal: Opened) -> list[str]:
    return [item.text for item in await journal.outbox.pending(100)]


async def test_a_command_goes_from_accepted_to_reported_and_every_step_survives_a_kill(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    images: list[Path] = []
    async with opened(directory) as journal:

        def kill() -> None:
            images.append(after_a_kill(directory, str(len(images))))

        assert await journal.journal.find(R1) is None
        await accept(journal, R1)
        kill()
        await journal.journal.begin(R1, frozenset({ContainerId("old2"), ContainerId("old1")}), ["began"])
        kill()
        await journal.journal.step(R1, 1, "pull", ["pulling"])
        kill()
        await journal.journal.commit(R1, row("d1"))
        kill()
        await journal.journal.finish(R1, response={"late": 1}, report={"status": "running"}, messages=["done"])
        kill()
    phases = []
    for number, image in enumerate(images):
        async with opened(image) as journal:
            remembered = await found(journal, R1)
            assert remembered.response == {"success": True}
            assert remembered.report == (None if number < 4 else {"status": "running"})
            unfinished = await journal.journal.unfinished()
            phases.append([item.phase for item in unfinished])
            for item in unfinished:
                assert (item.request_id, item.kind, item.origin) == (R1, "deploy", "control-plane")
                assert item.payload == deploy_payload()
                assert item.prior == (frozenset({"old1", "old2"}) if number else frozenset())
                assert (item.begun_at is None) == (number == 0)
            assert (await journal.journal.service(WEB) is not None) == (number >= 3)
            assert await journal.journal.kept(WEB) == (["d1"] if number >= 3 else [])
            expected = ["accepted", "began", "pulling", "done"]
            assert await texts(journal) == expected[: {0: 1, 1: 2, 2: 3, 3: 3, 4: 4}[number]]
    assert phases == [["waiting"], ["running"], ["running"], ["committed"], []]


async def test_an_id_is_accepted_once_and_the_second_time_changes_nothing(journal: Opened) -> None:
    await accept(journal, R1)
    with pytest.raises(JournalError):
        await accept(journal, R1, of=deployment("d2"), messages=["again"])
    assert await texts(journal) == ["accepted"]
    assert await journal.journal.deployment(WEB, DeploymentId("d2")) is None
    assert len(await journal.journal.unfinished()) == 1


async def test_operations_are_given_back_in_the_order_they_were_accepted(journal: Opened) -> None:
    for request_id in ("b", "a", "c"):
        await accept(journal, RequestId(request_id))
    await journal.journal.finish(RequestId("a"), response=None, report=None, messages=[])
    await accept(journal, RequestId("aa"))
    assert [item.request_id for item in await journal.journal.unfinished()] == ["b", "c", "aa"]


async def test_an_unwinding_operation_remembers_why(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await accept(journal, R1)
        await journal.journal.begin(R1, frozenset(), [])
        await journal.journal.begin_rollback(R1, {"code": "HEALTH_CHECK_FAILED", "message": CANARY})
    async with opened(tmp_path) as journal:
        [item] = await journal.journal.unfinished()
        assert (item.phase, item.reason) == ("unwinding", f'{{"code": "HEALTH_CHECK_FAILED", "message": "{CANARY}"}}')


async def test_the_first_answer_stays_and_a_late_one_is_added(journal: Opened) -> None:
    await accept(journal, R1, kind="stop", response=None, deployment=None, messages=[])
    kept = await found(journal, R1)
    assert (kept.response, kept.report) == (None, None)
    await journal.journal.answer(R1, {"completed": False}, ["late"])
    await journal.journal.finish(R1, response={"completed": True}, report=None, messages=[])
    kept = await found(journal, R1)
    assert kept.response == {"completed": False}
    await accept(journal, R2, kind="stop", response=None, deployment=None, messages=[])
    await journal.journal.finish(R2, response={"completed": True}, report=None, messages=["done"])
    kept = await found(journal, R2)
    assert kept.response == {"completed": True}
    assert await texts(journal) == ["late", "done"]


async def test_a_late_answer_that_the_end_overtook_is_not_given(journal: Opened) -> None:
    await accept(journal, R1, response=None, messages=[])
    await journal.journal.finish(R1, response={"completed": True}, report=None, messages=["the answer"])
    await journal.journal.answer(R1, {"completed": False}, ["the late answer"])
    remembered = await found(journal, R1)
    assert remembered.response == {"completed": True}
    assert await texts(journal) == ["the answer"]


async def test_commands_without_an_operation_that_never_ended_are_told_apart(journal: Opened) -> None:
    await accept(journal, R1)
    for request_id in (R2, R3):
        await accept(journal, request_id, kind="exec", is_operation=False, deployment=None, response=None)
    await journal.journal.finish(R3, response={"success": True}, report=None, messages=[])
    assert await journal.journal.interrupted() == [(R2, "exec", "control-plane")]


async def test_the_last_deployments_the_current_one_and_those_under_way_are_kept(journal: Opened) -> None:
    for number in range(1, 15):
        await committed(journal, f"r{number}", deployment(f"d{number}"))
    await accept(journal, RequestId("failed"), of=deployment("bad"))
    await journal.journal.finish(RequestId("failed"), response=None, report={}, messages=[])
    await accept(journal, RequestId("waits"), of=deployment("next"))
    await accept(journal, RequestId("back"), kind="rollback", deployment=None, deployment_id=DeploymentId("d2"))
    await committed(journal, "other", deployment("d1", "db"))
    assert await journal.journal.kept(WEB) == [f"d{number}" for number in range(14, 0, -1)]
    await journal.journal.trim(WEB)
    last = [f"d{number}" for number in range(14, 4, -1)]
    assert await journal.journal.kept(WEB) == [*last, "d2"]
    assert await journal.journal.kept_by_service() == {
        "web": {*last, "d2", "next"},
        "db": {"d1"},
    }
    assert len(last) == KEPT_DEPLOYMENTS == KEPT_REVISIONS


async def test_deployments_are_read_together_and_a_damaged_or_forgotten_one_costs_only_itself(journal: Opened) -> None:
    for number in (1, 2, 3):
        await committed(journal, f"r{number}", deployment(f"d{number}"))
    await committed(journal, "other", deployment("d1", "db"))
    await journal.database.transact(
        lambda c: c.execute("UPDATE deployments SET spec = x'00' WHERE service_id = 'web' AND deployment_id = 'd2'")
    )
    wanted = [(WEB, DeploymentId(f"d{number}")) for number in (1, 2, 3, 4)] + [(ServiceId("db"), DeploymentId("d1"))]
    read = await journal.journal.deployments(wanted)
    assert read.keys() == {("web", "d1"), ("web", "d3"), ("db", "d1")}
    assert all((one.spec.service_id, one.deployment_id) == key for key, one in read.items())
    assert await journal.journal.deployments([]) == {}


async def test_a_current_deployment_older_than_all_kept_ones_is_not_trimmed(journal: Opened) -> None:
    for number in range(1, 14):
        await committed(journal, f"r{number}", deployment(f"d{number}"))
    await journal.database.transact(lambda c: c.execute("UPDATE services SET deployment_id = 'd1'"))
    await journal.journal.trim(WEB)
    assert await journal.journal.kept(WEB) == [*(f"d{number}" for number in range(13, 3, -1)), "d1"]


async def test_only_success_moves_a_deployment_up(journal: Opened) -> None:
    """A deployment tried again in vain must not become what a rollback returns to."""
    for number in range(1, 4):
        await committed(journal, f"r{number}", deployment(f"d{number}"))
    await accept(journal, RequestId("again"), of=deployment("d1", config={"replicas": 4}))
    await journal.journal.finish(RequestId("again"), response=None, report={"status": "failed"}, messages=[])
    assert await journal.journal.kept(WEB) == ["d3", "d2", "d1"]
    known = await journal.journal.deployment(WEB, DeploymentId("d1"))
    assert known is not None
    assert known.spec.replicas == 4
    await committed(journal, "back", deployment("d1"))
    assert await journal.journal.kept(WEB) == ["d1", "d3", "d2"]


async def test_a_clock_that_is_set_back_does_not_change_the_order_of_deployments(
    journal: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, clock in enumerate((3000.0, 1000.0, 2000.0), start=1):
        monkeypatch.setattr(time, "time", lambda at=clock: at)
        await committed(journal, f"r{number}", deployment(f"d{number}"))
    assert await journal.journal.kept(WEB) == ["d3", "d2", "d1"]


async def test_a_forgotten_service_leaves_nothing_and_its_neighbour_stays(journal: Opened) -> None:
    await committed(journal, "r1", deployment())
    await committed(journal, "r2", deployment("d1", "db"))
    await journal.journal.forget_service(WEB)
    assert await journal.journal.service(WEB) is None
    assert await journal.journal.kept(WEB) == []
    assert await journal.journal.kept_by_service() == {"db": {"d1"}}


async def test_a_service_is_what_was_last_committed(journal: Opened) -> None:
    await accept(journal, R1)
    await journal.journal.commit(R1, row("d1", replicas=3))
    await journal.journal.commit(R1, row("d1", replicas=3, stopped=True))
    assert await journal.journal.services() == [row("d1", replicas=3, stopped=True)]
    assert await journal.journal.service(ServiceId("other")) is None


async def test_a_journal_rebuilt_from_labels_can_roll_back(journal: Opened) -> None:
    await journal.journal.rebuild([deployment("d1"), deployment("d2")], [row("d2")])
    assert await journal.journal.kept(WEB) == ["d2", "d1"]
    assert await journal.journal.deployment(WEB, DeploymentId("d1")) == deployment("d1")
    assert await journal.journal.services() == [row("d2")]


async def test_the_engine_is_surveyed_once_even_if_it_takes_several_starts(tmp_path: Path) -> None:
    """An engine that starts after the agent, or a kill before the survey, must not cost the services their state."""
    for _ in range(2):
        async with opened(tmp_path) as journal:
            assert not journal.database.is_surveyed
    async with opened(tmp_path) as journal:
        await journal.journal.rebuild([deployment("d1")], [row("d1")])
        assert journal.database.is_surveyed
    async with opened(tmp_path) as journal:
        assert journal.database.is_surveyed


async def test_a_late_survey_changes_nothing_about_services_that_are_known_or_under_way(journal: Opened) -> None:
    await committed(journal, "r1", deployment("d2"))
    await accept(journal, R2, service_id=ServiceId("db"), of=deployment("d2", "db"))
    found = [deployment("d1", service) for service in ("web", "db", "lost")]
    await journal.journal.rebuild(found, [row("d1", ServiceId(service)) for service in ("web", "db", "lost")])
    rows = {item.service_id: item.deployment_id for item in await journal.journal.services()}
    assert rows == {"web": "d2", "lost": "d1"}
    assert await journal.journal.kept(WEB) == ["d2"]
    assert await journal.journal.kept(ServiceId("db")) == []
    assert await journal.journal.kept(ServiceId("lost")) == ["d1"]


async def test_an_answer_that_cannot_be_read_does_not_make_its_command_new(journal: Opened) -> None:
    await accept(journal, R1)
    await journal.database.transact(lambda c: c.execute("UPDATE commands SET response = x'00', report = x'01'"))
    kept = await found(journal, R1)
    assert (kept.response, kept.report) == (None, None)


async def test_finished_commands_are_forgotten_when_they_are_old_or_too_many(
    journal: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "KEPT_COMMANDS", 3)
    monkeypatch.setattr(journal_module, "_PRUNE_EVERY", 2)
    for number in range(6):
        await committed(journal, f"r{number}", deployment())
    old = time.time() - KEPT_COMMAND_SECS - 1
    age = "UPDATE commands SET done_at = ? WHERE request_id = 'r5'"
    await journal.database.transact(lambda c: c.execute(age, (old,)))
    await accept(journal, RequestId("x1"))
    await accept(journal, RequestId("x2"))

    def ids(connection: sqlite3.Connection) -> list[str]:
        return [found[0] for found in connection.execute("SELECT request_id FROM commands ORDER BY received_at")]

    assert await journal.database.transact(ids) == ["r2", "r3", "r4", "x1", "x2"]


async def test_no_secret_stands_in_the_clear_in_any_file(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    secret = deployment(env={"PASSWORD": CANARY})
    async with opened(directory) as journal:
        await accept(
            journal, R1, payload={"env": CANARY}, response={"data": CANARY}, of=secret, messages=[f"says {CANARY}"]
        )
        await journal.journal.begin(R1, frozenset(), [f"begins {CANARY}"])
        await journal.journal.begin_rollback(R1, {"message": CANARY})
        images = [after_a_kill(directory, "running")]
        await journal.journal.finish(R1, response=None, report={"logs": [CANARY]}, messages=[f"ends {CANARY}"])
        await accept(journal, R2, kind="stop", response=None, deployment=None, payload={"x": CANARY}, messages=[])
        await journal.journal.answer(R2, {"late": CANARY}, [CANARY])
        await journal.journal.rebuild([secret], [])
        images.append(after_a_kill(directory, "end"))
        kept = await found(journal, R1)
        assert CANARY in str(kept.report)
        assert CANARY not in repr(kept)
        assert all(CANARY not in repr(item) for item in await journal.journal.unfinished())
    files = [path for folder in (directory, *images) for path in folder.iterdir()]
    assert any(path.name.endswith("-wal") for path in files)
    for path in files:
        content = path.read_bytes()
        for form in (CANARY.encode(), CANARY.encode().hex().encode(), CANARY[3:].encode()):
            assert form not in content, path


async def test_ids_times_and_states_can_be_read_by_a_person(journal: Opened) -> None:
    await accept(journal, R1)
    await journal.journal.step(R1, 1, "pull shop/web:1 and pin it", [])

    def read(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
        query = "SELECT request_id, kind, service_id, state, phase, text FROM commands JOIN operations USING "
        return connection.execute(query + "(request_id, service_id) JOIN steps USING (request_id)").fetchall()

    assert await journal.database.transact(read) == [
        ("r1", "deploy", "web", "running", "waiting", "pull shop/web:1 and pin it")
    ]
