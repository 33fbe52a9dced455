"""What every form in which the agent is delivered must do: the whole life of a service, away from the sources."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import syntra
from tests.e2e.fleet import ControlPlaneProcess, Fleet, containers, enrolled, states
from tests.e2e.served_images import served_images

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = Path("/")
"""Where everything is started: not the sources, and not a folder of the artifact's."""


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without whatever would lead back to the sources."""
    path = [part for part in os.environ.get("PATH", "").split(os.pathsep) if not part.startswith(str(ROOT))]
    ours = ("SYNTRA_", "PYTHON")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours) and str(ROOT) not in v}
    return {**kept, "PATH": os.pathsep.join(path), **more}


def run_once(
    command: Sequence[str], environment: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """One short run of the command line; fails the test when it does not end with 0."""
    ended = subprocess.run(
        [*command, *arguments],
        cwd=ELSEWHERE,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, f"{arguments} ended with {ended.returncode}: {ended.stderr[-2000:]}"
    return ended


def live(command: Sequence[str], folder: Path, **more: str) -> None:
    """Version, configuration, control plane, start, deploys from both ends, stop; nothing touches the sources.

    `more` is added to the environment of everything that is started.
    """
    environment = clean_environment(**more)
    run = partial(run_once, command, environment)
    assert json.loads(run("version", "--json").stdout)["version"] == syntra.__version__
    server_id = f"srv_{uuid.uuid4().hex[:8]}"
    away: Mapping[str, Any] = {"command": command, "cwd": ELSEWHERE, "inherited": environment}
    with (
        served_images(folder / "registry") as images,
        ControlPlaneProcess(folder / "plane", **away) as plane,
        enrolled(folder / "agent", plane, server_id=server_id, **away) as agent,
    ):
        config = ("--config", str(agent.config))
        run(*config, "config", "check")
        product = Fleet(plane, agent, images, server_id)
        product.wait_connected()
        for process in (agent.process, plane.process):
            assert process is not None
            found = touched(process.pid)
            assert not found, f"the sources are in use: {found}"
        service = product.service()
        product.running(product.payload(service))
        assert product.exec(service, "echo", "from the outside")["stdout"] == "from the outside\n"

        file = folder / "service.json"
        wanted = product.payload(service, "v2")
        file.write_text(json.dumps(wanted))
        run(*config, "plan", str(file))
        run(*config, "deploy", str(file))
        assert [c["Labels"]["syntra.deployment_id"] for c in containers(service)] == [wanted["deployment_id"]]
        listed = json.loads(run(*config, "ps", "--json").stdout)
        assert service in json.dumps(listed)
        run(*config, "rollback", service)
        run(*config, "stop", service)
        assert states(service) == ["exited"]
        run(*config, "stop", "--remove", service)
        assert containers(service) == []
        assert agent.stop() == 0
        assert plane.stop() == 0
        assert "Traceback" not in agent.text() + plane.log.read_text()


def touched(pid: int) -> list[str]:
    """Files of the sources that a process runs, maps, has open or was told of."""
    proc = Path(f"/proc/{pid}")
    places = [line.split(maxsplit=5)[5] for line in (proc / "maps").read_text().splitlines() if "/" in line]
    for link in (proc / "fd").iterdir():
        # The process opens and closes files meanwhile.
        with suppress(FileNotFoundError):
            places.append(os.readlink(link))
    places += [os.readlink(proc / "exe"), os.readlink(proc / "cwd")]
    places += (proc / "environ").read_text(errors="replace").split("\0")
    places += (proc / "cmdline").read_text(errors="replace").split("\0")
    return sorted({place for place in places if str(ROOT) in place})
