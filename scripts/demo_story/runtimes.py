"""The runtimes that the demo can run on, by name."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.demo_story.docker_runtime import DockerRuntime
from scripts.demo_story.engine import Engine
from scripts.demo_story.errors import expect
from scripts.demo_story.kubernetes_runtime import KubernetesRuntime
from scripts.demo_story.names import Names
from scripts.demo_story.podman_runtime import PodmanRuntime
from scripts.demo_story.processes import Processes
from scripts.demo_story.runtime import Runtime
from scripts.demo_story.stage import Stage


def _docker(names: Names, processes: Processes) -> Runtime:
    return DockerRuntime(names, processes, Engine(os.environ.get("ENGINE_SOCKET", "/var/run/docker.sock")))


_BY_NAME = {"docker": _docker, "podman": PodmanRuntime, "kubernetes": KubernetesRuntime}
RUNTIMES = tuple(_BY_NAME)
_FILE = "runtime"


def new_stage(runtime: str) -> Stage:
    """A stage in a new directory, which remembers its runtime."""
    names = Names.new()
    (names.directory / _FILE).write_text(f"{runtime}\n")
    return _stage(names, runtime)


def stage_of(directory: Path) -> Stage:
    """The stage that an earlier demo left; raises StoryFailed when the directory is not a demo's."""
    names = Names.of(directory)
    try:
        runtime = (names.directory / _FILE).read_text().strip()
    except OSError:
        runtime = ""
    expect(runtime in RUNTIMES, f"{directory} does not say which runtime its demo had")
    return _stage(names, runtime)


def _stage(names: Names, runtime: str) -> Stage:
    processes = Processes(names.directory)
    return Stage(names, processes, _BY_NAME[runtime](names, processes))
