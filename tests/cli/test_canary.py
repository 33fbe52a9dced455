"""`promote` and `abort`."""

from __future__ import annotations

import json

import pytest

from tests.cli.fake_agent import Cli, FakeAgent, answering


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        ("promote", "the canary of api will get all traffic once it is healthy; see `syntra-agent ps`\n"),
        ("abort", "the canary of api ends; what served before gets every request; see `syntra-agent ps`\n"),
    ],
)
def test_a_canary_is_promoted_or_aborted(verb: str, sentence: str, cli: Cli) -> None:
    with FakeAgent(cli.path, **{verb: answering({"accepted": True})}) as agent:
        assert cli(verb, "shop/api")[0] == 0
        assert agent.last(verb)["service_id"] == "svc_shop_api"
        assert cli(verb, "api") == (0, sentence, "")
        assert json.loads(cli(verb, "api", "--json")[1]) == {"accepted": True}


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_that_there_is_no_canary_is_said(verb: str, cli: Cli) -> None:
    refusal = f"cannot {verb} api: no canary of it is under way; deploy one with strategy canary"
    with FakeAgent(cli.path, **{verb: lambda peer: peer.refuse("NO_CANARY", refusal)}):
        assert cli(verb, "api") == (1, "", f"{refusal} (NO_CANARY)\n")
