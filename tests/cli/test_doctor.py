"""`doctor`: what it makes of facts, and the real command without an agent, with one, and beside a control plane."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from syntra import __version__
from syntra.cli import doctor_findings as findings
from syntra.cli.doctor_findings import Certificate, Disk, Finding, Port, State
from tests.cli.fake_agent import SERVICE, FakeAgent, answering
from tests.cli.test_process import run
from tests.cli.test_status import STATUS as NOT_WELL_STATUS
from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal

NOT_WELL = 3
STATUS: dict[str, Any] = {**NOT_WELL_STATUS}


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.detail, one.fix) for one in found if one.state is State.WRONG]


def test_a_clock_is_wrong_beyond_ten_seconds_in_either_way() -> None:
    assert [findings.of_clock(skew).state for skew in (0, 10, -10)] == [State.OK] * 3
    assert wrong([findings.of_clock(95.4)]) == [("95 s ahead of the control plane's", "timedatectl set-ntp true")]
    assert findings.of_clock(-11).detail == "11 s behind the control plane's"


@pytest.mark.parametrize(
    ("percent", "inodes", "state"),
    [(89.9, 10.0, State.OK), (90.0, 10.0, State.WRONG), (10.0, 95.0, State.WRONG), (10.0, None, State.OK)],
)
def test_a_disk_is_full_by_room_or_by_inodes(percent: float, inodes: float | None, state: State) -> None:
    found = findings.of_disk("disk", Disk(path="/d", free_bytes=2_000_000, percent=percent, inodes_percent=inodes))
    assert found.state is state
    assert ("--inodes" in found.fix) == (inodes == 95.0)
    assert found.detail.startswith(f"/d: {percent:.0f} % in use")


def test_ports_are_judged_by_who_has_them_and_who_needs_them() -> None:
    free = [Port(number=80, holder=""), Port(number=443, holder="")]
    assert findings.of_ports(free, None, [])[0].detail == "80 and 443 are free for the proxy"
    assert wrong(findings.of_ports(free, {"api": {"reachable": False}}, ["a.example"])) == [
        ("80 and 443 are free: nothing routes a.example yet", "syntra-agent proxy up")
    ]
    held = [Port(number=80, holder="nginx (pid 7)"), Port(number=443, holder="container web")]
    assert wrong(findings.of_ports(held, None, [])) == [
        ("port 80 is held by nginx (pid 7), and no proxy answers", "systemctl stop nginx"),
        ("port 443 is held by container web, and no proxy answers", "docker stop web"),
    ]
    traefik = {"version": "3.7.13", "api": {"reachable": True}}
    assert wrong(findings.of_ports(held, traefik, ["a.example"])) == []


def test_certificates_are_named_when_they_end_soon() -> None:
    far = Certificate(name="a.example", path="/x/acme.json", days_left=60)
    assert findings.of_certificates([far])[0].detail == "1; the first to end is a.example, in 60 days"
    soon = Certificate(name="b.example", path="/x/acme.json", days_left=13)
    over = Certificate(name="tls.cert_path", path="/x/c.pem", days_left=-1)
    assert wrong(findings.of_certificates([far, soon, over])) == [
        ("b.example ends in 13 days", "syntra-agent proxy status"),
        ("tls.cert_path has expired", "ls -l /x/c.pem"),
    ]


def test_kernel_cgroup_socket_journal_and_telemetry() -> None:
    assert findings.of_kernel("6.1.0-18-amd64").state is State.OK
    assert findings.of_kernel("3.9.1").state is State.WRONG
    assert [findings.of_cgroup(version).state for version in (2, 1, 0)] == [State.OK, State.OK, State.WRONG]
    assert findings.of_socket("/s", 0o140600, "the socket").state is State.OK
    assert findings.of_socket("/s", 0o140666, "the socket").fix == "chmod o-rw /s"
    assert findings.of_journal({"journal": {"outbox": 2, "dropped": 0}}).state is State.OK
    assert findings.of_journal({"journal": {"outbox": 2, "dropped": 4}}).state is State.WRONG
    well = {"buffer": {"bytes": 1000, "max_bytes": 2000}}
    assert findings.of_telemetry(well)[0].detail == "works; the buffer has 1.0 kB of 2.0 kB"
    assert [one for one, _ in wrong(findings.of_telemetry({"receivers": [{"problem": "port 4317 is taken"}]}))] == [
        "port 4317 is taken"
    ]


def checks(text: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(text)["checks"]:
        found.setdefault(one["check"], []).append(one)
    return found


def test_without_an_agent_it_checks_the_machine_and_says_so(tmp_path: Path) -> None:
    result = run("--socket", str(tmp_path / "none"), "doctor", "--json")
    assert result.returncode == NOT_WELL and result.stderr == ""
    found = checks(result.stdout)
    assert found["agent"][0]["state"] == "wrong"
    assert found["agent"][0]["fix"] == "syntra-agent start"
    assert found["dns"][0]["state"] == "not_checked"
    assert {found[name][0]["state"] for name in ("program", "kernel", "cgroup")} == {"ok"}
    shown = run_in_terminal([*AGENT, "--socket", str(tmp_path / "none"), "doctor"])
    assert shown.code == NOT_WELL
    assert any(line.startswith("✓ kernel ") for line in shown.lines), shown.text
    assert any(line.startswith("✗ agent ") for line in shown.lines), shown.text
    assert "run `syntra-agent start`" in " ".join(shown.text.split())


def test_a_wrong_configuration_is_one_of_the_findings(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[telemetry]\notlp_http_port = 70000\n")
    result = run("--config", str(path), "--socket", str(tmp_path / "none"), "doctor", "--json")
    assert result.returncode == NOT_WELL
    [one] = checks(result.stdout)["configuration"]
    assert "70000 is not a port" in one["detail"] and one["fix"] == "syntra-agent config check"


PROXY = {"kind": "ours", "version": "3.7.13", "api": {"reachable": True}, "problems": []}
WELL: dict[str, Any] = {
    **STATUS,
    "agent": {**STATUS["agent"], "version": __version__, "pid": os.getpid()},
    "control_plane": {"endpoint": "", "state": "off"},
    "journal": {"outbox": 0, "dropped": 0},
    "services": [{**SERVICE, "domains": []}],
    "alerts": [],
    "warnings": [],
}


@contextmanager
def plane(skew: float) -> Iterator[int]:
    """A control plane that refuses every request, with a date that is wrong by `skew` seconds; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                peer, _ = listener.accept()
                with peer:
                    if not peer.recv(65536):
                        return
                    date = formatdate(time.time() + skew, usegmt=True)
                    peer.sendall(f"HTTP/1.1 401 No\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            socket.create_connection(listener.getsockname()).close()
            thread.join(10)


def answers(tmp_path: Path, status: dict[str, Any], lines: str) -> FakeAgent:
    config = tmp_path / "agent.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n{lines}')
    config.chmod(0o600)
    return FakeAgent(
        tmp_path / "s",
        status=answering(status),
        exec=answering({"exit_code": 0, "stdout": "10.0.0.2 api\n", "stderr": ""}),
        proxy_status=answering(PROXY),
        telemetry_status=answering({"buffer": {"bytes": 1, "max_bytes": 2}}),
    )


def diagnosis(tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    argv = ["--config", str(tmp_path / "agent.toml"), "--socket", str(tmp_path / "s"), "doctor", "--json"]
    return checks(run(*argv).stdout)


def test_with_an_agent_it_asks_it_for_the_rest(tmp_path: Path) -> None:
    with answers(tmp_path, WELL, "") as agent:
        (tmp_path / "s").chmod(0o666)
        found = diagnosis(tmp_path)
    assert agent.last("exec")["command"] == ["getent", "hosts", "api"]
    assert found["dns"][0]["detail"] == "api resolves in a container of api"
    assert found["ports"][0]["state"] == found["proxy"][0]["state"] == found["telemetry"][0]["state"] == "ok"
    assert found["socket"][-1]["fix"] == f"chmod o-rw {tmp_path / 's'}"
    assert "warning" not in found and "alert" not in found


def test_what_the_agent_warns_of_is_wrong(tmp_path: Path) -> None:
    with answers(tmp_path, {**WELL, "warnings": STATUS["warnings"], "alerts": STATUS["alerts"]}, ""):
        found = diagnosis(tmp_path)
    assert found["warning"][0]["detail"] == STATUS["warnings"][0]
    assert found["alert"][0]["detail"] == "container_crash, api replica 1"


@pytest.mark.parametrize(("skew", "state"), [(0.0, "ok"), (-120.0, "wrong")])
def test_the_clock_is_compared_with_the_control_planes(tmp_path: Path, skew: float, state: str) -> None:
    with plane(skew) as port:
        endpoint = f'[control_plane]\nendpoint = "ws://127.0.0.1:{port}/agent/ws"\ntoken = "syn_agt_12345678"\n'
        with answers(tmp_path, WELL, endpoint):
            found = diagnosis(tmp_path)
    assert found["control plane"][0]["detail"] == f"127.0.0.1:{port} is reached directly"
    assert found["clock"][0]["state"] == state


def test_a_proxy_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    endpoint = '[control_plane]\nendpoint = "wss://cp.example/agent/ws"\ntoken = "syn_agt_12345678"\n'
    (tmp_path / "agent.toml").write_text(f'data_dir = "{tmp_path}"\n{endpoint}')
    (tmp_path / "agent.toml").chmod(0o600)
    argv = ["--config", str(tmp_path / "agent.toml"), "--socket", str(tmp_path / "none"), "doctor", "--json"]
    result = run(*argv, env={"HTTPS_PROXY": "http://me:hunter-twelve@127.0.0.1:9", "NO_PROXY": ""})
    [one] = checks(result.stdout)["control plane"]
    assert one["state"] == "wrong"
    assert one["detail"].startswith("cannot reach cp.example through the proxy 127.0.0.1: ")
    assert "hunter" not in result.stdout + result.stderr
