"""`scale`, `up`, `stop`, `restart` and `rm`: what they send and how they end."""

from __future__ import annotations

import json

from syntra.cli.person import person
from tests.cli.fake_agent import Cli, FakeAgent, Script, answering, deploying
from tests.cli.shown import RUNNING, stopped


def test_up_starts_as_many_replicas_as_there_were(cli: Cli) -> None:
    scale = deploying({"status": "running", "message": "3 of 3 replicas"})
    with FakeAgent(cli.path, list_services=answering({"services": [stopped()]}), scale=scale) as agent:
        code, out, _ = cli("up", "api")
    assert code == 0 and "3 of 3 replicas" in out
    assert agent.last("scale") | {"request_id": ""} == {
        "request_id": "",
        "service_id": "svc_shop_api",
        "replicas": 3,
        "strategy": "rolling",
        "requested_by": person(),
    }


def test_up_of_what_the_cluster_scales_restarts_it(cli: Cli) -> None:
    listed = answering({"services": [stopped()]})
    refuse: Script = lambda peer: peer.refuse("INVALID_PAYLOAD", "replicas: the cluster scales this service")  # noqa: E731  # typed by its alias
    with FakeAgent(cli.path, list_services=listed, scale=refuse, restart=answering({})) as agent:
        assert cli("up", "api") == (0, "started api\n", "")
    assert agent.last("restart")["service_id"] == "svc_shop_api"


def test_up_says_why_it_starts_nothing(cli: Cli) -> None:
    with FakeAgent(cli.path):
        assert cli("up", "api") == (0, "api is up already, 1/2 replicas\n", "")
    with FakeAgent(cli.path.with_name("t"), list_services=answering({"services": [stopped(0)]})) as agent:
        cli.path = agent.path
        code, _, err = cli("up", "api")
        assert code == 2 and err == "cannot start api: it is scaled to 0; run `syntra-agent scale api 1`\n"


def test_rm_stops_and_removes(cli: Cli) -> None:
    with FakeAgent(cli.path, stop=answering({"notes": ["volume shop_data stays"]})) as agent:
        assert cli("rm", "api") == (0, "removed api\nnote: volume shop_data stays\n", "")
    assert agent.last("stop")["remove_container"] is True


def test_stop_sends_grace_and_removal(cli: Cli) -> None:
    with FakeAgent(cli.path, stop=answering({"stopped": 2})) as agent:
        assert cli("stop", "api") == (0, "stopped api\n", "")
        assert agent.last("stop") | {"request_id": ""} == {
            "request_id": "",
            "service_id": "svc_shop_api",
            "remove_container": False,
        }
        assert cli("stop", "api", "--remove", "--timeout", "3") == (0, "removed api\n", "")
        assert agent.last("stop")["remove_container"] is True
        assert agent.last("stop")["timeout_seconds"] == 3
        assert json.loads(cli("stop", "api", "--json")[1]) == {"stopped": 2}


def test_a_stop_or_restart_that_takes_long_is_not_called_done(cli: Cli) -> None:
    under_way, done = answering({"accepted": True, "completed": False}), answering({"notes": ["it was down"]})
    with FakeAgent(cli.path, stop=under_way, restart=done):
        assert cli("stop", "api") == (75, "", "the stop of api continues in the background; see `syntra-agent ps`\n")
        assert cli("stop", "api", "--json")[0] == 75
        assert cli("restart", "api") == (0, "restarted api\nnote: it was down\n", "")


def test_a_refusal_is_one_line_and_its_exit_code(cli: Cli) -> None:
    with FakeAgent(cli.path, stop=lambda peer: peer.refuse("PERMISSION_DENIED", "cannot stop api: policy")):
        assert cli("stop", "api") == (77, "", "cannot stop api: policy (PERMISSION_DENIED)\n")


def test_scale_sends_replicas_and_follows(cli: Cli) -> None:
    with FakeAgent(cli.path, scale=deploying(RUNNING)) as agent:
        assert cli("scale", "api", "3")[0] == 0
        assert (agent.last("scale")["replicas"], agent.last("scale")["strategy"]) == (3, "rolling")
        assert cli("scale", "api", "0", "--immediate", "--json")[0] == 0
        assert (agent.last("scale")["replicas"], agent.last("scale")["strategy"]) == (0, "immediate")
