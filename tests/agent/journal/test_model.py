"""The journal against a model of a few lines, through any order of commands, answers, ends and kills."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syntra.model.ids import ContainerId, RequestId, ServiceId
from tests.agent.journal.opened import after_a_kill, opened
from tests.agent.journal.samples import accept, row
from tests.agent.samples import deploy_payload, deployment

T = TypeVar("T")
MEMORY = Path("/dev/shm")
ids = st.sampled_from(["r1", "r2", "r3", "r4", "r5", "r6"])
services = st.sampled_from(["web", "db"])


@dataclass
class Known:
    """What the model knows of one command."""

    service: str
    deployment: str
    phase: str | None = "waiting"
    response: dict[str, object] | None = None
    report: dict[str, object] | None = None
    prior: frozenset[str] = frozenset()


@dataclass
class Model:
    """What must be so."""

    commands: dict[str, Known] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    current: dict[str, str] = field(default_factory=dict)

    def open(self, *phases: str) -> list[str]:
        return [i for i, known in self.commands.items() if known.phase in phases]


class JournalMachine(RuleBasedStateMachine):
    """Every rule is one call; `kill` goes on with the files as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.runner = asyncio.Runner()
        self.base = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.directory = self.base / "data"
        self.directory.mkdir()
        self.kills = 0
        self.said = 0
        self.stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def message(self) -> list[str]:
        self.said += 1
        self.model.messages.append(f"message {self.said}")
        return [f"message {self.said}"]

    @initialize()
    def begin_anew(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        self.opened = self.run(self.stack.enter_async_context(opened(self.directory)))
        self.journal = self.opened.journal
        assert self.opened.database.was_rebuilt == ""

    @rule(request_id=ids, service=services, answered=st.booleans())
    def accept(self, request_id: str, service: str, answered: bool) -> None:
        found = self.run(self.journal.find(RequestId(request_id)))
        assert (found is not None) == (request_id in self.model.commands)
        if found is not None:
            return  # a repetition: the caller answers with what was found, which `remembers` compares
        response: dict[str, object] | None = {"accepted": request_id} if answered else None
        known = Known(service=service, deployment=f"d-{request_id}", response=response)
        self.model.commands[request_id] = known
        payload, of = deploy_payload(known.deployment, service), deployment(known.deployment, service)
        self.run(accept(self.opened, request_id, of, payload=payload, response=response, messages=self.message()))

    @precondition(lambda self: self.model.open("waiting"))
    @rule(data=st.data(), prior=st.frozensets(st.sampled_from(["c1", "c2", "c3"])))
    def begin(self, data: st.DataObject, prior: frozenset[str]) -> None:
        request_id = data.draw(st.sampled_from(self.model.open("waiting")))
        self.run(self.journal.begin(RequestId(request_id), frozenset(map(ContainerId, prior)), self.message()))
        self.model.commands[request_id].phase = "running"
        self.model.commands[request_id].prior = prior

    @precondition(lambda self: self.model.open("running"))
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(self.model.open("running")))
        self.run(self.journal.step(RequestId(request_id), 1, "pull", self.message()))

    @precondition(lambda self: self.model.open("running"))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(self.model.open("running")))
        known = self.model.commands[request_id]
        found = row(known.deployment, ServiceId(known.service))
        self.run(self.journal.commit(RequestId(request_id), found))
        known.phase = "committed"
        self.model.current[known.service] = known.deployment

    @precondition(lambda self: self.model.open("running"))
    @rule(data=st.data())
    def unwind(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(self.model.open("running")))
        self.run(self.journal.begin_rollback(RequestId(request_id), {"code": "FAILED"}))
        self.model.commands[request_id].phase = "unwinding"

    @precondition(lambda self: self.model.open("waiting", "running", "committed", "unwinding"))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(self.model.open("waiting", "running", "committed", "unwinding")))
        known = self.model.commands[request_id]
        report: dict[str, object] = {"status": "running" if known.phase == "committed" else "failed"}
        response: dict[str, object] = {"done": request_id}
        self.run(self.journal.finish(RequestId(request_id), response=response, report=report, messages=self.message()))
        known.response = known.response or response
        known.phase, known.report = None, report

    @precondition(lambda self: any(k.response is None and k.phase for k in self.model.commands.values()))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        waiting = [i for i, known in self.model.commands.items() if known.response is None and known.phase]
        request_id = data.draw(st.sampled_from(waiting))
        self.run(self.journal.answer(RequestId(request_id), {"late": request_id}, self.message()))
        self.model.commands[request_id].response = {"late": request_id}

    @precondition(lambda self: self.model.messages)
    @rule(count=st.integers(1, 3))
    def send(self, count: int) -> None:
        for item in self.run(self.opened.outbox.pending(count)):
            assert item.text == self.model.messages.pop(0)
            self.run(self.opened.outbox.taken(item.seq))

    @rule()
    def kill(self) -> None:
        self.kills += 1
        left = after_a_kill(self.directory, str(self.kills))
        self.run(self.stack.aclose())
        shutil.rmtree(self.directory)
        self.directory = left
        self.reopen()

    @invariant()
    def remembers(self) -> None:
        if not hasattr(self, "journal"):
            return
        unfinished = self.run(self.journal.unfinished())
        assert [(row.request_id, row.phase) for row in unfinished] == [
            (request_id, known.phase) for request_id, known in self.model.commands.items() if known.phase
        ]
        for item in unfinished:
            known = self.model.commands[item.request_id]
            assert item.payload == deploy_payload(known.deployment, known.service)
            assert item.prior == known.prior
        for request_id, known in self.model.commands.items():
            found = self.run(self.journal.find(RequestId(request_id)))
            assert found is not None
            assert (found.response, found.report) == (known.response, known.report)
        rows = self.run(self.journal.services())
        assert {row.service_id: row.deployment_id for row in rows} == self.model.current
        assert self.run(self.opened.outbox.size()) == len(self.model.messages)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.base)


JournalMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestJournal = JournalMachine.TestCase
