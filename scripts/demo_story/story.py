"""The story: the steps on one service, their expected results, and the sentences that report them."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from scripts.demo_story.control_plane import ControlPlane
from scripts.demo_story.errors import StoryFailed, expect
from scripts.demo_story.processes import wait_until
from scripts.demo_story.runtime import PORT, Container, Runtime, Way, ask
from scripts.demo_story.stage import Stage
from scripts.demo_story.traffic import Traffic

BROKEN_VARIABLE = "SYNTRA_DEMO_BROKEN"
OVER = ("running", "failed", "rolled_back")
UNDER_WAY = ("starting", "health_checking")
DEPLOY_SECS = 60.0
SPANS_SECS = 30.0
CONTAINERS = 7
"""The containers of v1, v2 and v1 again: two, three and three, less one that a slow machine may stop too early."""

JsonObject = dict[str, Any]
Tell = Callable[[str], None]


class Story:
    """One run. Each step raises StoryFailed when its result is not as expected; `tell` gets the sentences."""

    def __init__(self, stage: Stage, tell: Tell) -> None:
        self._stage = stage
        self._tell = tell
        self._runtime: Runtime = stage.runtime
        self.way = Way(through="", targets=tuple)
        """How requests reach the service, once the agent is connected."""
        self._service_id = stage.names.service_id
        self._server_id = stage.names.server_id
        self._plane: ControlPlane | None = None
        self._broken = os.environ.get(BROKEN_VARIABLE, "v3").split()
        token = stage.names.token
        self.first, self.second, self.bad, self.again = (f"dep_{name}_{token}" for name in ("v1", "v2", "v3", "v1b"))

    def run(self, *, keep: bool) -> None:
        """Run all steps in order. With `keep` the service is left running at the end."""
        steps = [
            ("publish three versions", self._publish),
            ("connect an agent", self._connect),
            ("deploy v1", self._deploy),
            ("update to v2", self._update),
            ("refuse v3", self._refuse),
            ("scale to 3", self._scale),
            ("read logs", self._logs),
            ("run a command inside", self._exec),
            ("kill the agent in the middle of a deploy", self._crash),
            ("roll back", self._roll_back),
            ("count the spans that its containers sent", self._spans),
        ]
        if not keep:
            steps.append(("stop and remove", self._stop))
        # With a proxy all of these go unnoticed; the client without one tolerates only an update.
        loaded = (self._refuse, self._scale, self._crash, self._roll_back)
        for title, step in steps:
            begun = time.monotonic()
            try:
                sentences = step() if step not in loaded or self.way.is_naive else self._under_load(step)
            except (StoryFailed, OSError, http.client.HTTPException) as failed:
                raise StoryFailed(f"cannot {title}: {failed}") from failed
            seconds = f"{time.monotonic() - begun:5.1f} s"
            for sentence in sentences:
                self._tell(f"{seconds}  {sentence}")
                seconds = " " * len(seconds)

    def _traffic(self) -> Traffic:
        return Traffic(self.way.targets)

    def _under_load(self, step: Callable[[], list[str]]) -> list[str]:
        with self._traffic() as traffic:
            sentences = step()
        sentence = f"{traffic.total} requests through {self.way.through} meanwhile, {traffic.failures} failed"
        expect(traffic.failures == 0 and traffic.total > 0, sentence)
        return [*sentences, f"  {sentence}"]

    # Steps

    def _publish(self) -> list[str]:
        return [self._runtime.publish({version: version in self._broken for version in ("v1", "v2", "v3")})]

    def _connect(self) -> list[str]:
        plane = self._stage.start_control_plane()
        self._plane = plane
        self.way = self._runtime.open_way()
        self._stage.configure_agent(plane.create_token(self._server_id, "demo"))
        pid = self._stage.start_agent()
        self._await_agent()
        return [
            f"a control plane on {self._stage.control_plane_url}; the agent (pid {pid}) dialled in",
            f"  {self.way.introduction}",
        ]

    def _deploy(self) -> list[str]:
        self._deployed("deploy", self._spec("v1", self.first, replicas=2))
        running = self._running(self.first, 2)
        return [f"deployed v1 with 2 replicas: {self._answers(running, 'v1')}"]

    def _update(self) -> list[str]:
        with self._traffic() as traffic:
            self._deployed("deploy", self._spec("v2", self.second, replicas=2))
        self._answers(self._running(self.second, 2), "v2")
        spread = ", ".join(f"{version} answered {count}" for version, count in sorted(traffic.answers.items()))
        way = "" if self.way.is_naive else f" through {self.way.through}"
        sentence = f"{traffic.total} requests{way} meanwhile: {spread}, {traffic.failures} failed"
        if self.way.is_naive:
            sentence += f"; {traffic.second_tries} had to ask a second container"
        sentence += f" (slowest {traffic.slowest_secs:.1f} s)"
        expect(traffic.failures == 0 and set(traffic.answers) == {"v1", "v2"}, sentence)
        return ["deployed v2, rolling, one replica after the other", f"  {sentence}"]

    def _refuse(self) -> list[str]:
        before = self._running(self.second, 2)
        report = self._reported("deploy", self._spec("v3", self.bad, replicas=2))
        said = f"{report['status']}: {report['message']}"
        expect(report["status"] == "rolled_back", f"a v3 that is never healthy was not refused: {said}")
        expect(report["error"]["code"] == "HEALTH_CHECK_FAILED", f"v3 was refused for another reason: {said}")
        expect(self._running(self.second, 2) == before, "the containers of v2 are not those from before v3")
        self._answers(before, "v2")
        expect(report.get("logs"), "the report of v3 has no last lines of its log")
        kept = " and ".join(container.id[:12] for container in before)
        return [
            "refused v3, which is never healthy; v2 is untouched, the same containers " + kept,
            f"  the reason given: {_short(report['message'].partition(': ')[2])}",
            f'  and what v3 wrote: "{_short(report["logs"][0])}"',
        ]

    def _scale(self) -> list[str]:
        before = {container.id for container in self._running(self.second, 2)}
        self._deployed("scale", {"service_id": self._service_id, "replicas": 3})
        running = self._running(self.second, 3)
        expect(before < {container.id for container in running}, "scaling replaced containers instead of adding one")
        return [f"scaled to 3: {self._answers(running, 'v2')}"]

    def _logs(self) -> list[str]:
        request = self._answered("logs_subscribe", {"service_id": self._service_id, "follow": False, "tail": 2})
        lines: list[JsonObject] = []

        def read() -> bool:
            page = self._control_plane.logs(request["request_id"], after=lines[-1]["seq"] if lines else 0, wait=5)
            lines.extend(page["lines"])
            return bool(page["done"])

        wait_until(read, "the last log line arrives", 20)
        expect(len(lines) == 2, f"asked for the last 2 log lines, got {len(lines)}")
        return ["logs, the last 2 lines of all replicas:", *(f"  {x['stream']}: {x['message']}" for x in lines)]

    def _exec(self) -> list[str]:
        script = "cat /www/index.html; echo $SYNTRA_DEPLOYMENT_ID; exit 7"
        answer = self._answered("exec", {"service_id": self._service_id, "command": ["sh", "-c", script]})
        data = answer["response"]["data"]
        said = data["stdout"].split()
        expect(said == ["v2", self.second] and data["exit_code"] == 7, f"exec answered {data}")
        return [f'exec in a container of it: stdout "{" ".join(said)}", exit status {data["exit_code"]}']

    def _crash(self) -> list[str]:
        begun = time.monotonic()
        self._answered("deploy", self._spec("v1", self.again, replicas=3))
        seen = wait_until(
            lambda: [e["status"] for e in self._events(self.again) if e["status"] in UNDER_WAY],
            "the deploy is under way",
            DEPLOY_SECS,
            every=0.01,
        )
        self._stage.kill_agent()
        killed_at = time.monotonic()
        wait_until(lambda: not self._is_connected(), "the control plane notices that the agent is gone", 30)
        status = self._control_plane.deployment(self.again)["status"]
        expect(status not in OVER, f"the deploy was {status} before the agent was killed; nothing was interrupted")
        serving = [container for container in self._runtime.containers() if _serves(container)]
        expect(len(serving) >= 3, f"{len(serving)} containers answer while the agent is dead; there were 3")
        pid = self._stage.start_agent()
        self._await_agent()
        away = time.monotonic() - killed_at
        report = self._await_report(self.again, lambda _: True)
        expect(
            report["status"] == "running", f"the interrupted deploy ended as {report['status']}: {report['message']}"
        )
        running = self._running(self.again, 3)
        self._answers(running, "v1")
        return [
            f"deployed v1 again and killed the agent with -9 after {killed_at - begun:.1f} s, at {seen[0]}:",
            f"  {len(serving)} containers went on answering; {away:.1f} s later the agent was back as pid {pid},",
            f"  and finished: {report['message']}; no other container is left",
        ]

    def _roll_back(self) -> list[str]:
        self._deployed("rollback", {"service_id": self._service_id, "target_deployment_id": self.first})
        return [f"rolled back to the first deployment: {self._answers(self._running(self.first, 3), 'v1')}"]

    def _spans(self) -> list[str]:
        numbers: dict[str, list[int]] = {}
        deadline = time.monotonic() + SPANS_SECS
        while not _are_whole(numbers):
            found = "; ".join(f"{name}: {_counted(sent)}" for name, sent in numbers.items()) or "nothing"
            expect(time.monotonic() < deadline, f"spans of each container at the control plane: {found}")
            time.sleep(0.5)
            numbers.clear()
            for span in self._control_plane.spans(self._service_id):
                sent = span["attributes"]
                numbers.setdefault(sent["demo.container"], []).append(sent["demo.number"])
        total = sum(map(len, numbers.values()))
        twice = total - sum(len(set(sent)) for sent in numbers.values())
        return [
            f"the control plane has {total} spans of {len(numbers)} containers, numbered without a gap:",
            f"  none was lost over updates and the agent's kill -9, {twice} came twice",
        ]

    def _stop(self) -> list[str]:
        answer = self._answered("stop", {"service_id": self._service_id, "timeout_seconds": 10, "remove": True})
        expect(answer["response"]["data"].get("removed"), f"stop answered {answer['response']}")
        left = self._runtime.left()
        expect(not left, f"left after a stop with removal: {', '.join(left)}")
        return [f"stopped and removed: {self._runtime.removed}"]

    # Helpers

    @property
    def _control_plane(self) -> ControlPlane:
        assert self._plane is not None, "cannot happen because every step that asks comes after `_connect`"
        return self._plane

    def _spec(self, version: str, deployment_id: str, *, replicas: int) -> JsonObject:
        check = {"type": "http", "path": "/health", "interval_seconds": 1, "timeout_seconds": 2, "retries": 3}
        return {
            "deployment_id": deployment_id,
            "service_id": self._service_id,
            "service_name": "hello",
            "project_name": self._stage.names.project,
            "image": self._runtime.image(version),
            "config": {"port": PORT, "replicas": replicas, "health_check": check},
            **({"networking": {"domains": list(self.way.domains)}} if self.way.domains else {}),
            "strategy": "rolling",
            "rollback_on_failure": True,
            "timeout_seconds": DEPLOY_SECS,
        }

    def _is_connected(self) -> bool:
        return self._control_plane.is_connected(self._server_id)

    def _await_agent(self) -> None:
        self._stage.processes.await_from("agent", self._is_connected, "the control plane says that it is connected")

    def _answered(self, kind: str, payload: Mapping[str, object]) -> JsonObject:
        """The command with a successful response."""
        answer = self._control_plane.command(self._server_id, kind, payload, wait=30)
        response = answer.get("response") or {}
        if not response.get("success"):
            error = response.get("error") or {}
            raise StoryFailed(f"{kind} was not accepted: {error.get('code')} {error.get('message', answer['state'])}")
        return answer

    def _reported(self, kind: str, payload: Mapping[str, object]) -> JsonObject:
        """Run a long operation; return its final report."""
        answer = self._answered(kind, payload)
        request = answer["request_id"]
        # A deployment gets reports of several commands: its deploy, later scalings, a rollback to it.
        return self._await_report(
            answer["response"]["data"]["deployment_id"], lambda event: event.get("request_id") == request
        )

    def _deployed(self, kind: str, payload: Mapping[str, object]) -> None:
        """Run a long operation that must end with everything running."""
        report = self._reported(kind, payload)
        expect(report["status"] == "running", f"{kind} ended as {report['status']}: {report['message']}")

    def _await_report(self, deployment_id: str, is_meant: Callable[[JsonObject], bool]) -> JsonObject:
        found = wait_until(
            lambda: [e for e in self._events(deployment_id) if e["status"] in OVER and is_meant(e)],
            f"{deployment_id} is reported as over",
            DEPLOY_SECS + 15,
        )
        return found[-1]

    def _events(self, deployment_id: str) -> list[JsonObject]:
        events: list[JsonObject] = self._control_plane.deployment(deployment_id)["events"]
        return events

    def _running(self, deployment_id: str, count: int) -> list[Container]:
        """Exactly `count` containers, all of this deployment and running; anything else is a failure."""
        found = [container for container in self._runtime.containers() if not container.is_kept]
        fitting = [c for c in found if c.running and c.deployment_id == deployment_id]
        names = ", ".join(f"{c.name} {'runs' if c.running else 'is down'}" for c in found) or "none"
        expect(len(fitting) == count == len(found), f"{count} of {deployment_id} should run and nothing else: {names}")
        return found

    def _answers(self, containers: list[Container], version: str) -> str:
        parts = []
        for container in containers:
            status, text = ask(container.address)
            expect((status, text) == (200, version), f"{container.name} answers {status} {text!r}, not {version}")
            parts.append(f'{container.address} says "{text}"')
        return ", ".join(parts)


def _are_whole(numbers: Mapping[str, list[int]]) -> bool:
    """Whether there are spans of enough containers, each numbered from 1 without a gap."""
    return len(numbers) >= CONTAINERS and all(len(set(sent)) == max(sent) for sent in numbers.values())


def _counted(sent: list[int]) -> str:
    lost = sorted(set(range(1, max(sent))) - set(sent))
    return f"{len(set(sent))} of {max(sent)}" + (f" without {', '.join(map(str, lost[:5]))}" if lost else "")


def _short(text: str) -> str:
    """Join its lines to one."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:100]}…"


def _serves(container: Container) -> bool:
    try:
        return container.running and ask(container.address)[0] == 200
    except (OSError, http.client.HTTPException):
        return False
