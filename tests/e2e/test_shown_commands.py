"""Every command that README, docs/operations.md and the help show runs, in their order, with one agent on Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.shown_commands import RUN, in_document, in_help
from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.engine import busybox_image, cleanup, new_token, require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

ROOT_NEEDED = "changes the machine; tests/e2e/test_story.py and test_install.py run it"
TERMINAL_NEEDED = "needs a terminal; the tests of its verb run it in one"
CANARY_NEEDED = "needs a canary that is held; test_canary_deploy.py runs it"
NOT_RUN = {
    "proxy up": "takes the ports 80 and 443; test_proxy.py runs it",
    "update --check": "needs an installed agent; test_update.py runs it",
    "update --yes": "needs an installed agent; test_update.py runs it",
    "uninstall": ROOT_NEEDED,
    "uninstall --purge --stop-services": ROOT_NEEDED,
    "init": TERMINAL_NEEDED,
    "exec -it web sh": TERMINAL_NEEDED,
    "secrets set db_url": TERMINAL_NEEDED,
    "promote SERVICE": CANARY_NEEDED,
    "abort SERVICE": CANARY_NEEDED,
    "logs web --deployment ID": "the id differs on every run; test_cli_deploy.py has one",
}
"""Commands that cannot run here, each with the reason."""

FOLLOWING = {"logs -f web", "open web"}
"""These end with Ctrl-C, which comes after their first output."""
MAY_BE_WRONG = {"doctor", "status"}
"""These exit with 3 if something of this machine is wrong."""
FILES = {"FILE": "web.yml", "SERVICE": "web", "COMMAND": "env"}
COMMAND_SECS = 40.0
_TARGET = re.compile(r" > (?:/etc/|~/|\"\$).*")

# What the commands of the documents expect in a container.
PROGRAM = "echo '#!/bin/sh' > /bin/{0}; echo {1} >> /bin/{0}; chmod +x /bin/{0}; "
START = "mkdir -p /etc/nginx /srv/www /var/lib/app; " + PROGRAM.format("pg_dump", "echo dump")
START += PROGRAM.format("pg_restore", "cat") + "exec /bin/service"


@dataclass(frozen=True, slots=True)
class Stage:
    folder: Path
    token: str

    def service(self, path: str, name: str, *, version: int = 1, replicas: int = 1) -> None:
        """Write a service file."""
        file = self.folder / path
        file.parent.mkdir(exist_ok=True)
        keys = {"name": name, "project": self.token, "image": f"{self.token}:v{version}", "port": 8080}
        # JSON is YAML, too.
        file.write_text(json.dumps({**keys, "replicas": replicas, "command": ["sh", "-c", START]}))

    def run(self, line: str) -> tuple[int, str]:
        """One command line in the shell; its exit status and output. A following one is interrupted."""
        words = _TARGET.sub(" > completed", line)
        for placeholder, real in FILES.items():
            words = re.sub(rf"\b{placeholder}\b", real, words)
        log = self.folder / "output"
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"syntra-agent {words}"],
                cwd=self.folder,
                env={**os.environ, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                deadline = time.monotonic() + COMMAND_SECS
                while line in FOLLOWING and not log.stat().st_size and process.poll() is None:
                    assert time.monotonic() < deadline, f"`syntra-agent {line}` printed nothing"
                    time.sleep(0.05)
                if line in FOLLOWING:
                    assert process.poll() is None, f"`syntra-agent {line}` ended by itself: {log.read_text()}"
                    os.killpg(process.pid, signal.SIGINT)
                code = process.wait(COMMAND_SECS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(10)
        return code, log.read_text(errors="replace")

    def deploy_versions(self) -> None:
        """Bring web back with an earlier deployment, for a rollback."""
        for version in (1, 2):
            self.service("web.yml", "web", version=version, replicas=2)
            code, said = self.run("deploy web.yml")
            assert code == 0, said


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    there = Stage(folder=tmp_path / "work", token=new_token())
    (there.folder / "bin").mkdir(parents=True)
    try:
        for version in (1, 2):
            busybox_image(f"{there.token}:v{version}", f"v{version}")
        with AgentProcess(tmp_path / "agent") as agent:
            program = there.folder / "bin/syntra-agent"
            options = ["--config", str(agent.config), "--socket", str(agent.socket)]
            program.write_text(f'#!/bin/sh\nexec {shlex.join([*AGENT, *options])} "$@"\n')
            program.chmod(0o755)
            yield there
    finally:
        cleanup(there.token)


def all_commands() -> list[str]:
    """In the order of the documents; one that two of them show runs once."""
    return list(dict.fromkeys([*(line for name in RUN for line in in_document(name)), *in_help()]))


def test_what_does_not_run_here_is_still_shown() -> None:
    shown = all_commands()
    assert [line for line in [*NOT_RUN, *FOLLOWING, *MAY_BE_WRONG] if line not in shown] == []


def test_every_command_that_is_shown_runs(stage: Stage) -> None:
    folder = stage.folder
    stage.service("shop/api.yml", "api")
    stage.service("shop/db.yml", "db")
    stage.service("extra/web.yml", "web", version=2, replicas=2)
    (folder / "compose.yaml").write_text("services: {cache: {image: redis}}\n")
    (folder / "db_url.txt").write_text("postgres://db\n")
    (folder / "index.html").write_text("hello\n")
    with tarfile.open(folder / "site.tar", "w") as tar:
        tar.add(folder / "index.html", "site.html")
    code, said = stage.run("deploy shop/")
    assert code == 0, said
    stage.deploy_versions()
    failed: list[str] = []
    for line in all_commands():
        if line in NOT_RUN:
            continue
        code, said = stage.run(line)
        fine = {0, 130, -signal.SIGINT} if line in FOLLOWING else {0, 3} if line in MAY_BE_WRONG else {0}
        if code not in fine or "Traceback" in said:
            failed.append(f"`syntra-agent {line}` ended with {code}: {said[-500:]}")
        if line in ("rm web", "stop web --remove"):
            code, said = stage.run("deploy web.yml")
            assert code == 0, said
    assert not failed, "\n".join(failed)
    assert (folder / "app.dump").read_text() == "dump\n"
    assert (folder / "services/cache.yml").exists() and (folder / "nginx").is_dir()
