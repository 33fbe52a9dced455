"""The HTTP API's edges over real sockets; what its answers say is in test_fleet and test_inbox."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from syntra.controlplane.settings import Limits
from tests.controlplane.client import ControlPlaneClientError
from tests.controlplane.harness import Plane, deploy_payload, json_body, running

MANY = b'{"a": [' + b"[]," * 300_000 + b"1]}"
ROUTES = [
    ("POST", "/api/v1/tokens"),
    ("GET", "/api/v1/servers"),
    ("GET", "/api/v1/servers/srv_1"),
    ("POST", "/api/v1/servers/srv_1/commands"),
    ("GET", "/api/v1/servers/srv_1/alerts"),
    ("GET", "/api/v1/commands/req_1"),
    ("GET", "/api/v1/deployments/dep_1"),
    ("GET", "/api/v1/logs/req_1"),
]


async def test_health_needs_no_token(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        answer = await plane.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert json_body(answer) == {"status": "ok"}


@pytest.mark.parametrize("authorization", ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp5\r\n"])
async def test_every_route_refuses_who_is_not_the_operator(tmp_path: Path, authorization: str) -> None:
    async with running(tmp_path) as plane:
        for method, path in [*ROUTES, ("GET", "/anything")]:
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{authorization}Connection: close\r\n\r\n"
            answer = await plane.raw(head.encode())
            assert answer.startswith(b"HTTP/1.1 401"), path
            assert json_body(answer)["error"]["code"] == "UNAUTHORIZED"


async def test_an_agents_token_is_no_operators_token(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        token = await plane.token()
        head = f"GET /api/v1/servers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        assert (await plane.raw(head.encode())).startswith(b"HTTP/1.1 401")


async def test_a_wrong_method_is_told_the_right_one(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        for method, path in [*ROUTES, ("GET", "/healthz")]:
            wrong = "DELETE" if method == "GET" else "GET"
            answer = await plane.raw(plane.request(wrong, path))
            assert answer.startswith(b"HTTP/1.1 405"), path
            assert f"allow: {method}\r\n".encode() in answer


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1",
        "/api/v1/servers/",
        "/api/v1/servers/srv_1/x",
        "/api/v1/servers/none",
        "/api/v1/servers/none/alerts",
        "/api/v1/commands/none",
        "/api/v1/deployments/none?wait=5",
        "/api/v1/logs/none?wait=5",
    ],
)
async def test_what_does_not_exist_is_404_at_once(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as plane:
        answer = await plane.raw(plane.request("GET", path))
        assert answer.startswith(b"HTTP/1.1 404"), answer
        assert json_body(answer)["error"]["code"] == "NOT_FOUND"


async def test_a_command_for_an_unknown_server_is_404(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        answer = await plane.raw(plane.request("POST", "/api/v1/servers/none/commands", b'{"type":"stop"}'))
        assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000, b'{"a":1}x', MANY], ids=range(8)
)
async def test_a_body_that_is_no_json_object_is_400(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path) as plane:
        answer = await plane.raw(plane.request("POST", "/api/v1/tokens", body))
        assert answer.startswith(b"HTTP/1.1 400")
        assert json_body(answer)["error"]["code"] == "BAD_JSON"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "type"),
        ({"type": "Stop It"}, "type"),
        ({"type": 5}, "type"),
        ({"type": "stop", "payload": []}, "payload"),
        ({"type": "stop", "payload": {"request_id": "a b"}}, "payload.request_id"),
        ({"type": "deploy", "payload": {"deployment_id": "../x"}}, "payload.deployment_id"),
        ({"type": "deploy", "payload": {"service": {"id": 5}}}, "payload.service.id"),
        ({"type": "stop", "payload": {"text": "\ud800"}}, "payload"),
        ({"type": "stop", "payload": {"text": "x" * 3000}}, "payload"),
    ],
)
async def test_a_command_that_no_agent_would_take_is_400_and_names_the_field(
    tmp_path: Path, body: dict[str, object], named: str
) -> None:
    async with running(tmp_path, limits=Limits(command_bytes=2000)) as plane, plane.agent() as agent:
        request = plane.request("POST", "/api/v1/servers/srv_1/commands", json.dumps(body).encode())
        answer = await plane.raw(request)
        assert answer.startswith(b"HTTP/1.1 400"), answer
        error = json_body(answer)["error"]
        assert error["code"] == "INVALID_PAYLOAD"
        assert error["message"].startswith(f"{named}: ")
        await agent.settled()


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "x", "1e999"])
async def test_a_wait_out_of_range_is_400(tmp_path: Path, wait: str) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        for method, path in ROUTES[3:4] + ROUTES[5:]:
            answer = await plane.raw(plane.request(method, f"{path}?wait={wait}", b'{"type":"stop"}'))
            assert answer.startswith(b"HTTP/1.1 400"), path
        await agent.settled()


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=" + "9" * 30, "&".join(f"a{i}=1" for i in range(20))])
async def test_a_query_that_makes_no_sense_is_400(tmp_path: Path, query: str) -> None:
    async with running(tmp_path) as plane:
        await plane.token()
        answer = await plane.raw(plane.request("GET", f"/api/v1/servers/srv_1/alerts?{query}"))
        assert answer.startswith(b"HTTP/1.1 400")


async def test_tokens_are_made_for_new_and_known_servers_up_to_a_limit(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(servers=2, tokens_per_server=2)) as plane:
        first = await plane.call(plane.client.create_token)
        assert first["server_id"].startswith("srv_")
        assert first["token"].startswith("syn_agt_")
        again = await plane.call(plane.client.create_token, first["server_id"], "other name")
        assert again["token"] != first["token"]
        assert (await plane.call(plane.client.server, first["server_id"]))["name"] == first["server_id"]
        await plane.call(plane.client.create_token, "srv_2")
        for server_id in (first["server_id"], "srv_3"):
            with pytest.raises(ControlPlaneClientError) as refused:
                await plane.call(plane.client.create_token, server_id)
            assert (refused.value.status, refused.value.code) == (409, "LIMIT_REACHED")


@pytest.mark.parametrize("body", [{"server_id": "a/b"}, {"server_id": 5}, {"name": "x" * 129}])
async def test_a_token_for_an_impossible_server_is_400(tmp_path: Path, body: dict[str, object]) -> None:
    async with running(tmp_path) as plane:
        answer = await plane.raw(plane.request("POST", "/api/v1/tokens", json.dumps(body).encode()))
        assert answer.startswith(b"HTTP/1.1 400")


async def test_a_deployment_id_of_another_server_is_409(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.token("srv_1")
        await plane.token("srv_2")
        payload = deploy_payload(deployment_id="dep_1")
        await plane.call(plane.client.command, "srv_1", "deploy", payload)
        await plane.call(plane.client.command, "srv_1", "deploy", payload)
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(plane.client.command, "srv_2", "deploy", payload)
        assert (refused.value.status, refused.value.code) == (409, "CONFLICT")


async def test_the_older_nested_deploy_shape_names_its_service(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.token()
        payload = {"service": {"id": "svc_9", "docker_image": "shop/api"}}
        accepted = await plane.call(plane.client.command, "srv_1", "deploy", payload)
        view = await plane.call(plane.client.deployment, accepted["deployment_id"])
        assert (view["service_id"], view["command"]["state"]) == ("svc_9", "queued")


async def test_no_token_is_ever_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(tmp_path) as plane:
        token = await plane.token()
        async with plane.agent(token=token) as agent:
            await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
            await agent.expect("deploy")
    ours = [record for record in caplog.records if record.name.startswith("syntra")]
    assert any(record.getMessage() == "command accepted" for record in ours)
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in ours)
    for secret in (token, plane.operator_token, "registry-password"):
        assert secret not in text


async def test_a_broken_database_is_503_and_agents_are_closed_with_4000(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await _break_database(plane)
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(plane.client.servers)
        assert (refused.value.status, refused.value.code) == (503, "STORE_UNAVAILABLE")
        await agent.send("alert", {"alert_id": "1"})
        assert (await agent.closed())[0] == 4000
        with pytest.raises(InvalidStatus) as refused_agent:
            async with plane.socket("syn_agt_any"):
                pass
        assert refused_agent.value.response.status_code == 503
        await _mend_database(plane)


async def _break_database(plane: Plane) -> None:
    await plane.sql("ALTER TABLE servers RENAME TO away; ALTER TABLE alerts RENAME TO gone; DROP TABLE tokens")


async def _mend_database(plane: Plane) -> None:
    await plane.sql("ALTER TABLE away RENAME TO servers; ALTER TABLE gone RENAME TO alerts")
