"""An artifact of a release in the systems it is for: the oldest Debian, and a system without a C library."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from build import sources
from build.targets import Target, named
from tests.e2e.agent_process import AgentProcess
from tests.e2e.artifact import ELSEWHERE, clean_environment, live, run_once
from tests.e2e.conftest import ROOT, TOOLS_MISSING
from tests.e2e.root import bare_root, inside
from tests.e2e.telemetry_stage import answers, free_ports, telemetry_pid
from tests.engine import missing, wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the root directory"),
    pytest.mark.timeout(240, func_only=True),
]
KUBECONFIG = """\
{"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {"token": "t"}}],
 "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
 "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}
"""
TARGETS = [
    pytest.param(named("x86_64-gnu"), id="gnu"),
    pytest.param(named("x86_64-musl"), id="musl"),
    pytest.param(named("aarch64-gnu"), id="emulated-gnu", marks=pytest.mark.soak),
    pytest.param(named("aarch64-musl"), id="emulated-musl", marks=pytest.mark.soak),
]


class Artifacts:
    """The artifacts of a release, built when a test asks for the first time."""

    def __init__(self) -> None:
        self._built: dict[str, Path] = {}

    def program(self, target: Target) -> Path:
        """The program of one target."""
        if target.name not in self._built:
            command = [str(ROOT / "scripts/build-release.sh"), "--fast", target.name]
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
            if ended.returncode == TOOLS_MISSING:
                missing(f"cannot build an artifact: {ended.stderr.strip()}")
            if ended.returncode != 0:
                pytest.fail(f"{command[0]} ended with {ended.returncode}:\n{ended.stderr}", pytrace=False)
            self._built[target.name] = ROOT / str(json.loads(ended.stdout.splitlines()[-1])["program"])
        return self._built[target.name]


@pytest.fixture(scope="session")
def artifacts() -> Artifacts:
    """Artifacts of these sources; quick when they are in the build cache."""
    return Artifacts()


@dataclass
class SmallSystem:
    """A root with the artifact and what little it needs; `kept` is a folder that it shares with the test."""

    target: Target
    program: Path
    root: Path
    kept: Path

    @property
    def command(self) -> list[str]:
        """The beginning of a command line that runs the artifact in it."""
        return inside(self.root, self.kept, self.target.arch)


@pytest.fixture
def system(target: Target, artifacts: Artifacts, tmp_path: Path) -> SmallSystem:
    """The oldest Debian's C library for glibc, nothing at all for musl."""
    trees = [sources.binary("libc6", target)] if target.libc == "gnu" else []
    program = artifacts.program(target)
    root, kept = bare_root(tmp_path / "root", program, *trees), tmp_path / "kept"
    kept.mkdir()
    return SmallSystem(target, program, root, kept)


@pytest.mark.parametrize("target", TARGETS)
def test_it_knows_what_it_is(target: Target, system: SmallSystem) -> None:
    # A locale that the system does not have, as ssh brings one along.
    environment = clean_environment(HOME="/root", LC_ALL="xx_YY.UTF-8")
    said = json.loads(run_once(system.command, environment, "version", "--verbose", "--json").stdout)
    assert said["target"] == target.triple
    assert said["arch"] == target.arch
    assert said["libc"] == {"gnu": "glibc", "musl": "musl"}[target.libc]
    assert said["file"] == "/syntra-agent"
    assert said["python"] == sources.PINS["python"]["version"]
    assert said["libraries"]["openssl"] == sources.PINS["source"]["openssl"]["release"]


@pytest.mark.engine
@pytest.mark.parametrize("target", TARGETS)
def test_the_whole_product_runs_in_a_small_system(target: Target, system: SmallSystem) -> None:
    live(system.command, system.kept, HOME="/root")


@pytest.mark.engine
@pytest.mark.parametrize("target", TARGETS)
def test_a_telemetry_process_that_ends_is_replaced(target: Target, system: SmallSystem) -> None:
    """The first is a fork of the agent, the second the program run again, which is another command line for musl."""
    grpc_port, http_port = free_ports(2)
    with AgentProcess(
        system.kept / "agent",
        config=f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\n",
        command=system.command,
        cwd=ELSEWHERE,
        inherited=clean_environment(HOME="/root"),
    ) as agent:
        wait_until(lambda: answers(http_port), "the receivers", 60)
        first = telemetry_pid(agent)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: telemetry_pid(agent) not in (0, first), f"another process; {agent.text()[-2000:]}", 30)
        wait_until(lambda: answers(http_port), f"the receivers are back; {agent.text()[-2000:]}", 60)


@pytest.mark.parametrize("target", TARGETS)
def test_the_kubernetes_client_is_inside(target: Target, system: SmallSystem) -> None:
    """Only this runtime loads it, so nothing else would notice. No cluster answers at that address."""
    kubeconfig = system.kept / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    words = ["install", "--kubernetes", "--image=none", f"--kubeconfig={kubeconfig}"]
    ended = subprocess.run(
        [*system.command, *words],
        cwd=ELSEWHERE,
        env=clean_environment(HOME="/root"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode != 0 and "Traceback" not in ended.stderr, ended.stderr
    assert ended.stderr.startswith("cannot ") and "127.0.0.1:9" in ended.stderr, ended.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_an_upgrade_leaves_nothing_of_the_old_version(target: Target, system: SmallSystem) -> None:
    """The old one is a copy whose directory has another name; it is unused once it has ended."""
    place = system.kept / "place"
    environment = clean_environment(SYNTRA_RUNTIME_DIR=str(place))
    run_once(system.command, environment, "version")
    (current,) = place.iterdir()
    shutil.copytree(current, place / "syntra-agent-0.0.1-0123456789abcdef")
    run_once(system.command, environment, "version")
    assert list(place.iterdir()) == [current]


@pytest.mark.parametrize("target", TARGETS)
def test_no_symbol_is_newer_than_the_oldest_glibc(target: Target, system: SmallSystem) -> None:
    """2.18 is what the C++ library that comes along needs; the program itself needs 2.17."""
    objdump = target.strip.replace("strip", "objdump")
    if target.libc == "musl":
        listed = subprocess.run([objdump, "-p", system.program], capture_output=True, text=True, check=True)
        assert "NEEDED" not in listed.stdout
        assert "INTERP" not in listed.stdout
        return
    place = system.kept / "place"
    run_once(system.command, clean_environment(SYNTRA_RUNTIME_DIR=str(place)), "version")
    newest = {}
    for path in sorted(place.rglob("*")):
        if path.suffix in (".bin", ".so") or ".so." in path.name:
            shown = subprocess.run([objdump, "-T", path], cwd=ELSEWHERE, capture_output=True, text=True, check=True)
            found = [word.strip("()")[6:] for word in shown.stdout.split() if word.strip("()").startswith("GLIBC_2")]
            newest[path.name] = max((numbers(version) for version in found), default=(0,))
    assert newest.pop("libstdc++.so.6") <= (2, 18)
    assert (2, 2) < max(newest.values()) <= (2, 17), newest


def numbers(version: str) -> tuple[int, ...]:
    """A version for comparison."""
    return tuple(int(part) for part in version.split("."))
