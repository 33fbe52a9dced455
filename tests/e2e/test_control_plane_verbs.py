"""`controlplane VERB`: the agent of a server, asked through the control plane; and the example of docs/protocol.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, fleet
from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal
from tests.e2e.served_images import served_images
from tests.engine import engine_socket

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as whole:
        yield whole


def words(product: Fleet, *verb: str) -> list[str]:
    where = ["--url", f"http://127.0.0.1:{product.plane.port}", "--data-dir", str(product.plane.folder / "data")]
    return [*AGENT, "controlplane", verb[0], *where, *verb[1:]]


def run(product: Fleet, *verb: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(words(product, *verb), input=text, capture_output=True, text=True, check=False, timeout=120)


def local(product: Fleet, *verb: str) -> str:
    argv = [*AGENT, "--socket", str(product.agent.socket), *verb]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120).stdout


def service_file(product: Fleet, name: str, **keys: object) -> str:
    image = f"{product.images.repository}:v1"
    return json.dumps({"name": name, "project": product.token, "image": image, "timeout_seconds": 60, **keys})


def test_a_service_lives_through_the_control_plane(product: Fleet) -> None:
    listed = run(product, "servers")
    assert listed.returncode == 0, listed.stderr
    [head, row] = [re.split(r"  +", line) for line in listed.stdout.splitlines()]
    assert head[:3] == ["SERVER", "NAME", "STATE"] and row[0] == product.server_id and row[2] == "connected"
    assert row[4] == "docker"
    [server] = json.loads(run(product, "servers", "--json").stdout)["servers"]
    assert server["server_id"] == product.server_id

    deployed = run(product, "deploy", "-", text=service_file(product, "one", port=8080))
    assert deployed.returncode == 0, deployed.stderr
    last = deployed.stdout.splitlines()[-1]
    assert re.search(r"Z 100% one \S+:v1, .* in \d", last), deployed.stdout
    assert "no changes" in run(product, "deploy", "-", text=service_file(product, "one", port=8080)).stdout
    # The same views as on the server, up to what time changes.
    for verb in (("ps",), ("ps", "one"), ("deployments", "one"), ("status", "one")):
        here, there = run(product, *verb), local(product, *verb)
        assert here.returncode == 0, here.stderr
        assert _still(here.stdout) == _still(there)
    # An operation on the same deployment has its own reports alone.
    scaled = run(product, "scale", "one", "2")
    assert scaled.returncode == 0 and "pull" not in scaled.stdout, scaled.stdout
    [service] = json.loads(run(product, "ps", "--json").stdout)["services"]
    assert service["replicas"] == {"desired": 2, "running": 2}
    assert "serving v1 on 8080" in run(product, "logs", "one").stdout
    shown = run(product, "exec", "--replica", "1", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (shown.returncode, shown.stdout, shown.stderr) == (7, "out\n", "err\n")
    assert run(product, "exec", "-it", "one", "sh").returncode == 2
    # With a check it is not healthy in the moment before it exits.
    check = {"type": "tcp", "interval_seconds": 1}
    exits = service_file(product, "one", port=8080, env={"FAIL": "exit"}, health_check=check)
    broken = run(product, "deploy", "-", text=exits)
    assert broken.returncode == 1 and "cannot deploy one: " in broken.stderr, broken.stderr
    # The next command reaches the same server, as it is.
    [following] = re.findall(r"^next: syntra-agent (.+)", broken.stderr, re.MULTILINE)
    assert following.startswith("controlplane logs --url "), following
    looked = subprocess.run([*AGENT, *shlex.split(following)], capture_output=True, text=True, check=False, timeout=120)
    assert looked.returncode == 0 and "failing as told" in looked.stdout + looked.stderr, looked
    wrong = run(product, "deploy", "-", text=service_file(product, "one", colour="red"))
    assert wrong.returncode == 2 and "colour" in wrong.stderr
    live = run_in_terminal(words(product, "restart", "one"))
    assert live.code == 0 and "restarted one" in live.text, live.text
    assert run(product, "rm", "one").returncode == 0
    assert "no services" in run(product, "ps").stdout


def _still(text: str) -> str:
    return re.sub(r" +", " ", re.sub(r"\d+(\.\d+)?( s|s|m|h|%| MiB)\b( ago)?|\d+%", "T", text))


def test_a_followed_log_ends_with_the_person_who_reads_it(product: Fleet) -> None:
    loud = service_file(
        product,
        "loud",
        service_id=f"svc_loud_{product.token}",
        command=["sh", "-c", "while sleep 0.2; do echo tick; done"],
        init=True,
    )
    assert run(product, "deploy", "-", text=loud).returncode == 0
    with subprocess.Popen(words(product, "logs", "loud", "-f", "--tail", "1"), stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(5)] == [b"tick\n"] * 5
        following.send_signal(signal.SIGINT)
        following.stdout.read()
        assert following.wait(20) == 130
    # The agent was told to send no more.
    done = product.send("logs_unsubscribe", {"service_id": json.loads(loud)["service_id"]})
    assert done["data"] == {"unsubscribed": 0}
    assert run(product, "rm", "loud").returncode == 0


def test_what_is_wrong_is_said_in_one_line(product: Fleet, tmp_path: Path) -> None:
    def ended(*verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
        argv = [*AGENT, "controlplane", *verb]
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment}
        )

    url, data = f"http://127.0.0.1:{product.plane.port}", str(product.plane.folder / "data")
    token = (product.plane.folder / "data" / "operator.token").read_text().strip()
    assert ended("servers", SYNTRA_CONTROLPLANE_URL=url, SYNTRA_CONTROLPLANE_TOKEN=token).returncode == 0
    refused = ended("ps", "--url", url, SYNTRA_CONTROLPLANE_TOKEN="syn_op_wrong")
    assert refused.returncode == 77 and "syn_op_wrong" not in refused.stderr
    assert refused.stderr.startswith("the control plane refused: ") and len(refused.stderr.splitlines()) == 1
    absent = ended("ps", "--url", "http://127.0.0.1:9", "--data-dir", data)
    assert absent.returncode == 69 and absent.stderr.count("\n") == 1
    assert absent.stderr.startswith("cannot reach the control plane: no control plane answers at http://127.0.0.1:9")
    assert ended("ps", "--url", "ftp://x", "--data-dir", data).returncode == 2
    none = ended("ps", "--url", url, "--data-dir", str(tmp_path))
    assert none.returncode == 69 and "there is none in" in none.stderr
    unknown = ended("ps", "--url", url, "--data-dir", data, "--server", "srv_x")
    assert unknown.returncode == 1 and f"the control plane has {product.server_id}" in unknown.stderr
    missing = run(product, "logs", "nope")
    assert missing.returncode == 1 and missing.stderr.startswith("cannot find service nope")
    near = ended("severs")
    assert near.returncode == 2 and "did you mean servers?" in near.stderr


def test_a_deploy_for_a_server_that_is_away_is_queued_when_asked(product: Fleet) -> None:
    away = f"srv_away_{product.token}"
    product.plane.client.create_token(away)
    try:
        which = run(product, "ps")
        assert which.returncode == 2 and away in which.stderr and product.server_id in which.stderr
        file = service_file(product, "later")
        refused = run(product, "deploy", "-", "--server", away, text=file)
        assert refused.returncode == 69 and "add --detach" in refused.stderr
        queued = run(product, "deploy", "-", "--server", away, "--detach", text=file)
        assert (queued.returncode, queued.stdout) == (0, f"the deploy of later is queued until {away} connects\n")
        asked = run(product, "ps", "--server", away)
        assert asked.returncode == 1 and "SERVER_NOT_CONNECTED" in asked.stderr
    finally:
        assert "never connected" in run(product, "servers").stdout


def test_the_example_of_the_document_runs_as_it_is(tmp_path: Path) -> None:
    [example] = re.findall(r"^### Example\n.*?^```sh\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    for folder in ("etc", "cp"):
        (tmp_path / folder).mkdir()
    agent_socket = Path(f"/tmp/syntra-{os.getpid()}-{time.monotonic_ns()}.sock")
    shim = tmp_path / "bin" / "syntra-agent"
    shim.parent.mkdir()
    with served_images(tmp_path / "registry") as images:
        example = example.replace("registry.example", images.registry.address)
        example = example.replace('"web", "tag"', f'"{images.token}", "tag"')
        example = example.replace("shop", images.token).replace("127.0.0.1:7420", place)
        example = example.replace("/etc/syntra", str(tmp_path / "etc"))
        example = example.replace("/var/lib/syntra-controlplane", str(tmp_path / "cp"))
        # The defaults of an installed agent, in this test's folders.
        shim.write_text(
            f'#!/bin/sh\nif [ "$1" = controlplane ]; then\n  shift\n'
            f'  set -- controlplane --listen {place} --data-dir {tmp_path / "cp"} "$@"\nfi\n'
            f'exec {shlex.join(AGENT)} "$@"\n'
        )
        shim.chmod(0o755)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SYNTRA_")},
            "PATH": f"{shim.parent}:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{engine_socket()}",
            "SYNTRA_CONFIG": str(tmp_path / "etc" / "agent.toml"),
            "SYNTRA_SOCKET": str(agent_socket),
            "SYNTRA_DATA_DIR": str(tmp_path / "data"),
            "SYNTRA_NETWORKING__PROXY": "off",
            "SYNTRA_TELEMETRY__RECEIVERS": "off",
            "SYNTRA_CONTROLPLANE_URL": f"http://{place}",
        }
        script = f"set -e\ncd {Path(__file__).parents[2]}\ntrap 'kill $(jobs -p); wait' EXIT\n{example}"
        with (tmp_path / "out").open("w+") as output:
            ended = subprocess.run(
                ["bash", "-c", script], env=environment, stdout=output, stderr=output, check=False, timeout=150
            )
            output.seek(0)
            said = output.read()
        assert ended.returncode == 0, said[-5000:]
        assert said.count("serving v1 on 8080") >= 2, said
        assert '"status": "running"' in said or '"status":"running"' in said
        assert re.search(r"^srv_web +srv_web +connected", said, re.MULTILINE), said
        assert re.search(r"^web +.* running .*2/2", said, re.MULTILINE), said
