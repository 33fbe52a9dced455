"""How a person names a service: by name, qualified name or id."""

from __future__ import annotations

from tests.cli.fake_agent import SERVICE, Cli, FakeAgent, answering


def test_a_service_is_found_by_name_qualified_name_or_id(cli: Cli) -> None:
    with FakeAgent(cli.path, restart=answering({})) as agent:
        for given in ("api", "shop/api", "svc_shop_api"):
            assert cli("restart", given) == (0, f"restarted {given}\n", "")
            assert agent.last("restart")["service_id"] == "svc_shop_api"
        cli("restart", "svc_gone")
        assert agent.last("restart")["service_id"] == "svc_gone"
        code, _, err = cli("restart", "apo")
    assert (code, err) == (1, "cannot find service apo: there is none with that name, did you mean api?\n")


def test_a_name_of_two_services_must_be_qualified(cli: Cli) -> None:
    other = {**SERVICE, "service_id": "svc_blog_api", "project_name": "blog"}
    with FakeAgent(cli.path, list_services=answering({"services": [SERVICE, other]}), stop=answering({})) as agent:
        code, _, err = cli("stop", "api")
        assert code == 2
        assert "use one of blog/api, shop/api" in err
        assert cli("stop", "blog/api")[0] == 0
        assert agent.last("stop")["service_id"] == "svc_blog_api"


def test_services_of_one_name_and_project_are_told_apart_by_id(cli: Cli) -> None:
    other = {**SERVICE, "service_id": "svc_other"}
    with FakeAgent(cli.path, list_services=answering({"services": [SERVICE, other]})):
        code, _, err = cli("stop", "api")
    assert code == 2
    assert "use one of svc_other, svc_shop_api" in err
