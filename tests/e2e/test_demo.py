"""`scripts/demo` tells its whole story, notices when the story is not true, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests import engine
from tests.networking.real_traefik import program

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "scripts/demo"
STORY_LINES = 40
STORY_SECS = 300

pytestmark = [pytest.mark.engine, pytest.mark.timeout(STORY_SECS + 60)]


@pytest.fixture(autouse=True)
def _needs_an_engine() -> None:
    engine.require_engine()


def demo(temporary: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with its state below `temporary`."""
    return subprocess.run(
        [DEMO, *arguments],
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=STORY_SECS,
    )


def token_of(story: str) -> str:
    found = re.search(r"svc_demo_([0-9a-f]{8})\b", story)
    assert found is not None, story
    return found[1]


def left_of(token: str, temporary: Path) -> list[str]:
    """Everything of one demo that is still there, as seen without the demo's help."""
    left = [f"container {item['Names']}" for item in engine.containers_of(token)]
    left += [f"network {item['Name']}" for item in engine.api("GET", "/networks") if token in item["Name"]]
    left += [f"volume {item['Name']}" for item in engine.api("GET", "/volumes")["Volumes"] or [] if token in str(item)]
    left += [
        f"image {item['RepoTags']}"
        for item in engine.api("GET", "/images/json", query={"all": "1"})
        if token in str(item)
    ]
    left += [f"directory {path}" for path in temporary.glob("syntra-demo-*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"syntra-demo-{token}" in command:
            left.append(f"process {command}")
    return left


def test_the_whole_story_is_true_and_leaves_nothing(tmp_path: Path) -> None:
    ended = demo(tmp_path, SYNTRA_PEERS=str(Path(program()).parent))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = ended.stdout
    through = re.findall(r"(\d+) requests through Traefik meanwhile.*, (\d+) failed", told)
    assert len(through) == 5, told
    assert all(int(total) > 0 and failed == "0" for total, failed in through), told
    for sentence in (
        "deployed v1 with 2 replicas",
        "deployed v2, rolling",
        " 0 failed",
        "refused v3, which is never healthy; v2 is untouched",
        "the health check failed 3 times in a row",
        'and what v3 wrote: "v3 starts, but finds no settings"',
        "scaled to 3",
        "logs, the last 2 lines",
        "exit status 7",
        "killed the agent with -9",
        "and finished: deployed: 3 replicas running",
        "rolled back to the first deployment",
        "no container and no image of it is left in the engine",
        "every step did what it says",
    ):
        assert sentence in told, told
    assert len(told.splitlines()) <= STORY_LINES
    assert left_of(token_of(told), tmp_path) == []


@pytest.mark.soak  # a minute; the story with a Traefik is in the ordinary stage
def test_without_a_traefik_requests_go_to_the_containers(tmp_path: Path) -> None:
    if shutil.which("traefik"):
        pytest.skip("there is a Traefik on PATH")
    ended = demo(tmp_path, SYNTRA_PEERS=str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no Traefik here" in ended.stdout
    assert re.search(r"\d+ requests meanwhile: .*, 0 failed; \d+ had to ask a second container", ended.stdout)
    assert "through Traefik" not in ended.stdout
    assert left_of(token_of(ended.stdout), tmp_path) == []


def test_an_update_that_is_never_healthy_fails_the_demo(tmp_path: Path) -> None:
    ended = demo(tmp_path, SYNTRA_DEMO_BROKEN="v2 v3")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "cannot update to v2: deploy ended as rolled_back" in ended.stderr
    assert "HEALTH_CHECK_FAILED" in ended.stderr, "the agent's own last words should be shown"
    assert "every step" not in ended.stdout
    assert left_of(token_of(ended.stdout), tmp_path) == []


def test_a_healthy_v3_is_not_taken_for_a_refused_one(tmp_path: Path) -> None:
    ended = demo(tmp_path, SYNTRA_DEMO_BROKEN="")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "cannot refuse v3: a v3 that is never healthy was not refused: running" in ended.stderr
    assert left_of(token_of(ended.stdout), tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_story_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    told = ""
    with subprocess.Popen(
        [DEMO], env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        for line in running.stdout:
            told += line
            if "the agent" in line:
                running.send_signal(number)
                break
        rest = running.stdout.read()
        assert running.wait(STORY_SECS) == 128 + number, told + rest + running.stderr.read()
    assert "rolling" not in rest
    assert left_of(token_of(told), tmp_path) == []


def test_what_is_kept_can_be_looked_at_and_cleaned_up(tmp_path: Path) -> None:
    ended = demo(tmp_path, "--keep")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(ended.stdout.splitlines()) <= STORY_LINES
    commands = [line.strip() for line in ended.stdout.splitlines() if line.startswith("  ")]
    try:
        (look,) = [
            command
            for command in commands
            if command.endswith(" ps") and "--socket" in command and "exec" not in command
        ]
        shown = subprocess.run(shlex.split(look), capture_output=True, text=True, check=True, timeout=60).stdout
        assert re.search(r"^hello .* running +healthy +3/3 ", shown, re.MULTILINE), shown
        (curl,) = [command for command in commands if command.startswith("curl http://")]
        address, port = re.findall(r"http://([0-9.]+):(\d+)/", curl)[0]
        assert engine.fetch(address, int(port)) == (200, "v1\n")
        if "Traefik on port" in ended.stdout:
            (through,) = [command for command in commands if command.startswith('curl -H "Host: ')]
            shown = subprocess.run(shlex.split(through), capture_output=True, text=True, check=True, timeout=60).stdout
            assert shown == "v1\n"
        assert len(engine.containers_of(token_of(ended.stdout))) == 3
    finally:
        (directory,) = tmp_path.glob("syntra-demo-*")
        cleaned = demo(tmp_path, "--clean", str(directory))
    assert cleaned.returncode == 0, cleaned.stderr
    assert left_of(token_of(ended.stdout), tmp_path) == []


def test_only_a_demos_directory_is_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / "agent.pid").write_text("1 1")
    refused = demo(tmp_path, "--clean", str(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr == f"cannot clean up: {tmp_path} is not the directory of a demo\n"
    assert (tmp_path / "agent.pid").exists()


def test_a_directory_that_does_not_name_its_runtime_is_not_cleaned_up(tmp_path: Path) -> None:
    directory = tmp_path / "syntra-demo-01234567"
    directory.mkdir()
    (directory / "runtime").write_text("rkt\n")
    refused = demo(tmp_path, "--clean", str(directory))
    assert (refused.returncode, directory.exists()) == (2, True)
    assert refused.stderr == f"cannot clean up: {directory} does not say which runtime its demo had\n"


def test_only_known_runtimes_are_taken(tmp_path: Path) -> None:
    for options in (("--runtime", "rkt"), ("--runtime=rkt",)):
        refused = demo(tmp_path, *options)
        assert refused.returncode == 2
        assert "choose from 'docker', 'podman', 'kubernetes'" in refused.stderr, refused.stderr
    assert list(tmp_path.iterdir()) == [], "nothing was started"
