"""Services that find each other by name: a stage with an agent and a project, and clients that connect by name."""

from __future__ import annotations

import http.client
import json
import random
import socket
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import dns.rrset

from syntra.networking.namespaces import udp_socket_of
from tests.e2e.agent_process import AgentProcess
from tests.engine import PORT, api, raw, wait_until

ANSWER = "192.0.2.77"
"""What `Upstream` answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """An agent, and a project whose services run the image `TOKEN:v1`; everything is named after the token."""

    token: str
    agent: AgentProcess

    def payload(self, name: str, version: str = "v1", **changes: Any) -> dict[str, Any]:
        """A service called `name`; `project` and `replicas` are options, the rest replaces parts of the payload."""
        project = changes.pop("project", self.token)
        health = {"path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 2}
        return {
            "service_id": f"{name}-{project}",
            "service_name": name,
            "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
            "project_name": project,
            "image": f"{self.token}:v1",
            "config": {
                "port": PORT,
                "replicas": changes.pop("replicas", 1),
                "env_vars": {"VERSION": version},
                "health_check": health,
            },
            "networking": {"internal_hostname": f"{name}.lan"},
            "timeout_seconds": 120,
            **changes,
        }

    def deploy(self, name: str, version: str = "v1", **changes: Any) -> dict[str, Any]:
        """Deploy and see that it runs; the payload."""
        wanted = self.payload(name, version, **changes)
        self.carry_out("deploy", wanted)
        return wanted

    def carry_out(self, kind: str, payload: dict[str, Any]) -> None:
        """A deploy, scale or rollback that succeeds."""
        report = self.agent.carry_out(kind, payload, timeout=150)
        assert report.get("status") == "running", json.dumps(report)

    def warnings(self) -> list[str]:
        """The sentences of `status`."""
        found: list[str] = self.agent.ask("status", {})["data"]["warnings"]
        return found

    def containers(self, name: str, *, project: str | None = None) -> list[dict[str, Any]]:
        """The running containers of a service, as the engine lists them."""
        filters = json.dumps({"label": [f"syntra.service_id={name}-{project or self.token}"]})
        listed: list[dict[str, Any]] = api("GET", "/containers/json", query={"filters": filters})
        return listed

    def addresses(self, name: str) -> list[str]:
        """Their addresses."""
        networks = [item["NetworkSettings"]["Networks"] for item in self.containers(name)]
        return sorted(network["IPAddress"] for found in networks for network in found.values())

    def gateway(self, project: str | None = None) -> str:
        """The host's address on the project's network."""
        return str(api("GET", f"/networks/syntra-{project or self.token}")["IPAM"]["Config"][0]["Gateway"])

    def resolver(self, name: str = "client", *, project: str | None = None) -> Resolver:
        """The agent's resolver, as the service's first container has it."""
        container = self.containers(name, project=project)[0]["Id"]
        return Resolver(pid=api("GET", f"/containers/{container}/json")["State"]["Pid"], gateway=self.gateway(project))

    def inside(self, name: str, script: str, *, project: str | None = None) -> str:
        """Run a shell script in the service's first container, for 60 s at most; what it printed."""
        return run_inside(self.containers(name, project=project)[0]["Id"], script)


def run_inside(container: str, script: str, limit_secs: int = 60) -> str:
    """Run a shell script in a container; what it printed."""
    body = {
        "Cmd": ["/bin/timeout", str(limit_secs), "/bin/sh", "-c", script],
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": True,
    }
    made = api("POST", f"/containers/{container}/exec", body)
    headers = {"Content-Type": "application/json"}
    printed = raw(
        "POST", f"/exec/{made['Id']}/start", b'{"Detach": false, "Tty": true}', headers=headers, timeout=limit_secs + 10
    )
    return printed.decode().replace("\r", "")


class LoopInside:
    """A loop in a container: look the name up, connect, fetch, again. `lines` is what it got, or `failed`."""

    def __init__(self, stage: Stage, client: str, url: str) -> None:
        self._container = stage.containers(client)[0]["Id"]
        self._url = url
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._run, name="loop inside")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run_inside(self._container, "rm -f /tmp/go")
        self._thread.join(60)

    def _run(self) -> None:
        script = f"touch /tmp/go; while [ -e /tmp/go ]; do wget -q -O- {self._url} || echo failed; done"
        self.lines = run_inside(self._container, script, 200).split()


@dataclass(slots=True)
class RememberingClient:
    """Asks the resolver itself and uses every answer for its whole TTL, as a runtime with a cache of names does."""

    resolver: Resolver
    name: str
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        # Several, so that at any time one has just asked.
        self._threads = [threading.Thread(target=self._run, name=f"remembering {number}") for number in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        known: list[str] = []
        until = 0.0
        while not self._over.wait(0.02):
            if time.monotonic() >= until:
                try:
                    known, ttl = self.resolver.look_up(self.name)
                except (OSError, dns.exception.DNSException) as error:
                    self.failures.append(f"lookup: {error!r}")
                    continue
                until = time.monotonic() + ttl
            if not known:
                self.failures.append("lookup: no address")
                continue
            self._fetch(random.choice(known))

    def _fetch(self, address: str) -> None:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        try:
            connection.request("GET", "/")
            self.answers[connection.getresponse().read().decode().strip()] += 1
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{address}: {error!r}")
        finally:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """The agent's, asked from where process `pid` lives: nobody else is answered, not even the host itself."""

    pid: int
    gateway: str

    def look_up(self, name: str) -> tuple[list[str], int]:
        """The addresses of a name and how many seconds they may be kept."""
        with udp_socket_of(self.pid, socket.AF_INET) as asking:
            answer = dns.query.udp(dns.message.make_query(name, "A"), self.gateway, timeout=3, sock=asking)
        records = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A]
        return sorted(str(record) for rrset in records for record in rrset), min((r.ttl for r in records), default=0)

    def settles(self, name: str, addresses: Iterable[str], timeout: float = 15.0) -> None:
        """Wait until the name is answered with exactly these; an agent that starts does not answer at once."""
        wanted = sorted(addresses)

        def is_answered() -> bool:
            try:
                return self.look_up(name)[0] == wanted
            except dns.exception.Timeout:
                return False

        wait_until(is_answered, f"{name} is answered with {wanted}", timeout)

    def dig(self, *question: str) -> list[str]:
        """What `dig +short` prints, line by line, sorted."""
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "dig", f"@{self.gateway}", "+short", "+time=2"]
        ended = subprocess.run([*command, *question], capture_output=True, text=True, check=True, timeout=30)
        return sorted(ended.stdout.splitlines())


class Upstream:
    """A resolver on port 53 of an address of ours that knows one address for every name; a context manager."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        # Name to who asked last.
        self.asked: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="upstream")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10)
        self._socket.close()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                wire, peer = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            message = dns.message.from_wire(wire)
            question = message.question[0]
            self.asked[question.name.to_text(omit_final_dot=True)] = peer[0]
            reply = dns.message.make_response(message, recursion_available=True)
            if question.rdtype == dns.rdatatype.A:
                reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", ANSWER))
            self._socket.sendto(reply.to_wire(), peer)
