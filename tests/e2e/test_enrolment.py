"""Client certificates with agent and control plane as processes, over TLS: enrolled, renewed, killed, renewed again."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.engine import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

# Long enough to see a renewal, short enough to wait for several.
LIFETIME_SECS = 12


class Plane:
    """`syntra controlplane --enrol` over TLS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        leaf = authority.issue_cert("127.0.0.1")
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        self.port = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        said = self.folder / "said"
        files = ["--tls-cert", str(self.folder / "server.pem"), "--tls-key", str(self.folder / "server.pem")]
        days = str(LIFETIME_SECS / 86_400)
        command = [*AGENT, "controlplane", "--data-dir", str(self.folder / "plane"), "--listen", "127.0.0.1:0", *files]
        with said.open("wb") as out, (self.folder / "plane.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--enrol", "--certificate-days", days], stdin=subprocess.DEVNULL, stdout=out, stderr=log
            )
        try:
            wait_until(lambda: "operator token" in said.read_text(), "the control plane listens")
            match = re.search(r"listening on https://127\.0\.0\.1:(\d+)", said.read_text())
            assert match is not None
            self.port = int(match[1])
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        operator = (self.folder / "plane" / "operator.token").read_text().strip()
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = HTTPSConnection("127.0.0.1", self.port, context=context, timeout=20)
        try:
            connection.request(method, path, json.dumps(body or {}), {"Authorization": f"Bearer {operator}"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


def certificate(agent: AgentProcess) -> dict[str, Any]:
    shown: dict[str, Any] = agent.ask("status", {})["data"]["control_plane"]["certificate"] or {}
    return shown


def in_use(agent: AgentProcess, *, other_than: object = None) -> str:
    """The serial number of the accepted certificate, once there is one."""
    found: list[str] = []

    def accepted() -> bool:
        shown = certificate(agent)
        found[:] = [shown.get("serial", "")]
        return shown.get("state") == "accepted" and shown.get("in_use") is True and shown["serial"] != other_than

    wait_until(accepted, "a certificate is in use", 60)
    return found[0]


def test_a_certificate_is_made_renewed_and_survives_kills(tmp_path: Path) -> None:
    plane = Plane(tmp_path)
    with plane.running():
        given = plane.call("POST", "/api/v1/tokens")
        config = (
            f'server_id = "{given["server_id"]}"\n[control_plane]\nendpoint = "wss://127.0.0.1:{plane.port}/agent/ws"\n'
            f'token = "{given["token"]}"\n[tls]\nca_path = "{plane.ca}"\n'
        )
        folder = tmp_path / "agent"
        agent = AgentProcess(folder, config=config)
        # The server's id is a key of the whole file, which must come before the first section.
        head, _, rest = agent.config.read_text().partition(f'server_id = "{given["server_id"]}"\n')
        agent.config.write_text(f'server_id = "{given["server_id"]}"\n{head}{rest}')
        pair = folder / "data" / "certificates" / "current.pem"
        secrets: set[str] = set()
        with agent:
            first = in_use(agent)
            secrets |= key_lines(pair)
            second = in_use(agent, other_than=first)
            secrets |= key_lines(pair)
            shown = subprocess.run(
                [*AGENT, "--config", str(agent.config), "status", "--exit-zero"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert re.search(r"^certificate: +from the control plane, valid until 20", shown, re.MULTILINE), shown
            # Kills in the last third of the lifetime meet requests, answers, dials and renames.
            for pause in (0.2, 0.9, 1.7, 2.6):
                agent.kill()
                agent.start()
                second = in_use(agent, other_than=second)
                secrets |= key_lines(pair)
                time.sleep(pause + LIFETIME_SECS / 2)
            status = json.dumps(agent.ask("status", {}))
        assert secrets
        texts = [shown, status]
        files = [file for file in tmp_path.rglob("*") if file.is_file() and file.parent != pair.parent]
        assert folder / "agent.log" in files
        for line in secrets:
            assert [text for text in texts if line in text] == []
            assert [file for file in files if line.encode() in file.read_bytes()] == []


def key_lines(pair: Path) -> set[str]:
    """The lines of the private key in the file. The first one is the same in every key."""
    key = re.search(r"-----BEGIN PRIVATE KEY-----\n(.*?)\n-----END", pair.read_text(), re.DOTALL)
    assert key is not None
    return set(key[1].splitlines()[1:])
