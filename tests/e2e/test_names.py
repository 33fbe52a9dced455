"""Services find each other by name, ready replicas only, whatever happens to them; through a real agent and engine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.named_services import ANSWER, LoopInside, RememberingClient, Stage, Upstream
from tests.e2e.private_engine import PrivateEngine
from tests.e2e.program import AGENT
from tests.engine import api, busybox_image, cleanup, missing, new_token, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

CONFIG = '[runtime]\nmin_healthy_secs = 0.2\n[networking]\nproxy = "off"\n[networking.dns]\n'


@pytest.fixture
def token() -> Iterator[str]:
    """A token with the image `TOKEN:v1`."""
    require_engine()
    made = new_token()
    try:
        busybox_image(f"{made}:v1")
        yield made
    finally:
        cleanup(made)


@pytest.fixture
def stage(token: str, tmp_path: Path) -> Iterator[Stage]:
    with AgentProcess(tmp_path, config=CONFIG + "ttl = 1\n") as agent:
        yield Stage(token=token, agent=agent)


def test_a_client_by_name_sees_no_failure_while_the_service_changes_in_every_way(stage: Stage) -> None:
    first = stage.deploy("web", replicas=2)
    stage.deploy("client")
    name = f"web.{stage.token}.internal"
    with (
        LoopInside(stage, "client", "http://web:8080/") as loop,
        RememberingClient(stage.resolver(), name) as remembering,
    ):
        for kind, payload in (
            ("deploy", stage.payload("web", "v2", replicas=2)),
            ("deploy", stage.payload("web", "v3", replicas=2, strategy="blue_green")),
            ("scale", {"service_id": first["service_id"], "replicas": 3}),
            ("scale", {"service_id": first["service_id"], "replicas": 1}),
            ("rollback", {"service_id": first["service_id"], "target_deployment_id": first["deployment_id"]}),
        ):
            stage.carry_out(kind, payload)
    assert "failed" not in loop.lines
    assert remembering.failures == []
    for seen in (loop.lines, remembering.answers):
        assert set(seen) == {"v1", "v2", "v3"}
    assert len(loop.lines) > 100
    assert remembering.answers.total() > 100
    assert stage.warnings() == []


def test_a_project_sees_its_own_ready_replicas_under_all_their_names(stage: Stage) -> None:
    other = f"{stage.token}-2"
    stage.deploy("web", replicas=2)
    stage.deploy("client")
    stage.deploy("web", project=other)
    stage.deploy("client", project=other)
    addresses = stage.addresses("web")
    told = stage.inside("client", "cat /etc/resolv.conf")
    assert f"search {stage.token}.internal\n" in told
    assert "ndots:1" in told
    host = api("GET", f"/containers/{stage.containers('client')[0]['Id']}/json")["HostConfig"]
    assert host["Dns"][0] == stage.gateway()
    for name in ("web", f"web.{stage.token}.internal", f"WEB.{stage.token}.INTERNAL", "web.lan"):
        printed = stage.inside("client", f"nslookup -type=a {name}")
        assert all(f"Address: {address}" in printed for address in addresses), printed
        assert stage.inside("client", f"wget -q -O- http://{name}:8080/") == "v1\n"
    # The other project has a name of the same spelling and means another service; this one's is not there.
    theirs = stage.inside("client", "nslookup -type=a web", project=other)
    assert not any(address in theirs for address in addresses)
    assert "NXDOMAIN" in stage.inside("client", f"nslookup -type=a web.{stage.token}.internal", project=other)
    assert "NXDOMAIN" in stage.inside("client", f"nslookup -type=a nothing.{stage.token}.internal")


def test_a_replica_that_is_not_ready_is_not_answered_and_comes_back(stage: Stage) -> None:
    stage.deploy("web", replicas=2)
    stage.deploy("client")
    name, resolver, both = f"web.{stage.token}.internal", stage.resolver(), stage.addresses("web")
    resolver.settles(name, both)
    sick = stage.containers("web")[0]
    address = next(iter(sick["NetworkSettings"]["Networks"].values()))["IPAddress"]
    well = [one for one in both if one != address]
    stage.inside("web", "mv /www/health /www/away")
    resolver.settles(name, well)
    stage.inside("web", "mv /www/away /www/health")
    resolver.settles(name, both)
    # The last one stays for the proxy, and is not given out for names either once it is not ready.
    stage.carry_out("scale", {"service_id": f"web-{stage.token}", "replicas": 1})
    stage.inside("web", "mv /www/health /www/away")
    resolver.settles(name, [])
    stage.inside("web", "mv /www/away /www/health")
    resolver.settles(name, stage.addresses("web"))


def test_dig_sees_what_a_client_of_the_project_sees(stage: Stage) -> None:
    if shutil.which("dig") is None:
        missing("no dig; install bind9-dnsutils")
    stage.deploy("web", replicas=2)
    stage.deploy("client")
    dig = stage.resolver().dig
    zone = f"{stage.token}.internal"
    first, second = stage.addresses("web")
    assert dig(f"web.{zone}") == dig("+tcp", f"web.{zone}") == dig("web.lan") == [first, second]
    assert dig(f"1.web.{zone}") + dig(f"2.web.{zone}") in ([first, second], [second, first])
    assert dig(f"_8080._tcp.web.{zone}", "SRV") == [f"0 0 8080 {index}.web.{zone}." for index in (1, 2)]
    assert [dig("-x", address)[0].partition(".")[2] for address in (first, second)] == [f"web.{zone}."] * 2
    assert dig(f"web.{zone}", "AAAA") == []


def test_other_names_are_forwarded_and_outlive_the_agent(token: str, tmp_path: Path) -> None:
    # A network of the test's own, whose gateway is an address that containers reach and that has port 53 free.
    made = api("POST", "/networks/create", {"Name": f"{token}-upstream", "Driver": "bridge"})
    address = str(api("GET", f"/networks/{made['Id']}")["IPAM"]["Config"][0]["Gateway"])
    config = CONFIG + f'ttl = 1\nupstreams = ["{address}"]\n'
    with Upstream(address) as upstream, AgentProcess(tmp_path, config=config) as agent:
        stage = Stage(token=token, agent=agent)
        stage.deploy("web")
        stage.deploy("client")
        container = stage.addresses("client")[0]
        assert ANSWER in stage.inside("client", "nslookup -type=a with.example.com")
        assert upstream.asked["with.example.com"] != container, "the agent asked for it"
        agent.stop()
        assert ANSWER in stage.inside("client", "nslookup -type=a without.example.com")
        assert upstream.asked["without.example.com"] == container, "the engine's resolver asked for it"
        agent.start()
        stage.resolver().settles(f"web.{token}.internal", stage.addresses("web"))
        assert stage.inside("client", "wget -q -O- http://web:8080/") == "v1\n"
        agent.kill()
        agent.start()
        stage.resolver().settles(f"web.{token}.internal", stage.addresses("web"))
        assert stage.inside("client", "wget -q -O- http://web:8080/") == "v1\n"
        assert f"web.{token}.internal" not in upstream.asked, "internal names are nobody else's"


def test_a_taken_port_leaves_names_to_the_engine_and_deploying_again_takes_them_back(stage: Stage) -> None:
    labels = {"syntra.managed": "true", "syntra.project": stage.token}
    api("POST", "/networks/create", {"Name": f"syntra-{stage.token}", "Driver": "bridge", "Labels": labels})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((stage.gateway(), 53))
        stage.deploy("web")
        stage.deploy("client")
        assert stage.inside("client", "wget -q -O- http://web:8080/") == "v1\n"
        assert [item["Labels"]["syntra.names"] for item in stage.containers("web")] == ["engine"]
        [said] = stage.warnings()
        assert said.startswith(f"the engine answers DNS for project {stage.token}: cannot bind")
        assert "(pid " in said, "the status names who has the port"
    stage.agent.stop()
    stage.agent.start()
    sentence = f"deploy client, web of project {stage.token} again: they were created before the agent answered DNS"
    wait_until(lambda: any(said.startswith(sentence) for said in stage.warnings()), "who is to be deployed again")
    stage.deploy("web", "v2")
    # The client still asks the engine, and finds the new one there.
    assert stage.inside("client", "wget -q -O- http://web:8080/") == "v2\n"
    assert [item["Labels"]["syntra.names"] for item in stage.containers("web")] == ["agent+engine"]
    stage.deploy("client", "v2")
    sentence = f"deploy web of project {stage.token} again: they still have engine aliases"
    wait_until(lambda: any(said.startswith(sentence) for said in stage.warnings()), "who has aliases")
    stage.deploy("web", "v3")
    wait_until(lambda: stage.warnings() == [], "nothing is left to say")
    assert stage.inside("client", "wget -q -O- http://web:8080/") == "v3\n"
    assert [item["Labels"]["syntra.names"] for item in stage.containers("web")] == ["agent"]


def test_a_firewall_between_containers_and_the_agent_is_said_with_the_rule_that_opens_it(tmp_path: Path) -> None:
    if shutil.which("iptables") is None:
        missing("no iptables to make a rule with")
    with PrivateEngine() as engine:
        engine.image("app:v1", "v1")
        labels = {"syntra.managed": "true", "syntra.project": "walled"}
        network = {"Name": "syntra-walled", "Driver": "bridge", "Labels": labels}
        bridge = "br-" + engine.api("POST", "/networks/create", json.dumps(network).encode())["Id"][:12]

        def rule(change: str) -> None:
            # As a firewall that lets nothing in unless it was told to.
            drop = ["-i", bridge, "-p", "udp", "--dport", "53", "-j", "DROP"]
            subprocess.run([*engine.inside, "iptables", change, "INPUT", *drop], check=True)

        rule("-I")
        command = (*engine.inside, *AGENT)
        with AgentProcess(tmp_path, engine_socket=str(engine.socket), command=command, config=CONFIG) as agent:
            stage = Stage(token="walled", agent=agent)

            def source(name: str) -> list[str]:
                return [item["Labels"]["syntra.names"] for item in engine.containers(f"{name}-walled")]

            stage.deploy("web", image="app:v1")
            assert source("web") == ["agent"], "before a container runs nobody can know"
            sentence = f"run `ufw allow in on {bridge} to any port 53`"
            wait_until(lambda: any(said.endswith(sentence) for said in stage.warnings()), "the rule in the status")
            stage.deploy("db", image="app:v1")
            assert source("db") == ["engine"]
            rule("-D")
            agent.stop()
            agent.start()
            wait_until(lambda: not any(sentence in said for said in stage.warnings()), "the wall is gone", 10)
            stage.deploy("db", image="app:v1", version="v2")
            assert source("db") == ["agent"]
            wait_until(lambda: stage.warnings() == [], "nothing is left to say")


def test_only_the_agent_s_own_projects_are_answered(token: str, tmp_path: Path) -> None:
    with (
        AgentProcess(tmp_path / "one", config=CONFIG) as first,
        AgentProcess(tmp_path / "two", config=CONFIG) as second,
    ):
        one, two = Stage(token=token, agent=first), Stage(token=token, agent=second)
        other = f"{token}-2"
        one.deploy("web")
        two.deploy("web", project=other)
        assert one.resolver("web").look_up(f"web.{token}.internal")[0] == one.addresses("web")
        assert len(two.resolver("web", project=other).look_up(f"web.{other}.internal")[0]) == 1
        assert (one.warnings(), two.warnings()) == ([], [])
