"""What agents report, over real sockets, and how it is shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from syntra.controlplane.settings import Limits
from tests.controlplane.harness import Plane, deploy_payload, running


async def test_a_heartbeat_shows_services_and_figures(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        service = {"service_id": "svc_1", "container_id": "c1", "status": "running", "health": "healthy"}
        await agent.send("heartbeat", {"agent_id": "agt_1", "uptime_seconds": 5, "services": [service]}, id="beat")
        assert (await agent.expect("pong"))["id"] == "beat"
        await plane.pinged(agent)
        server = await plane.call(plane.client.server, "srv_1")
        assert server["services"] == [service]
        assert server["heartbeat"]["uptime_seconds"] == 5
        assert server["last_heartbeat_at"] is not None
        assert await plane.call(plane.client.servers) == [server]


async def test_deploy_statuses_become_a_deployments_events_and_end_the_wait(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent, asyncio.TaskGroup() as group:
        accepted = await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        deployment_id = accepted["deployment_id"]
        assert (await agent.expect("deploy"))["payload"]["deployment_id"] == deployment_id
        waiting = group.create_task(plane.call(plane.client.deployment, deployment_id, 30), name="operator")
        for status in ("pulling", "starting", "running"):
            report = {"deployment_id": deployment_id, "service_id": "svc_1", "status": status, "progress_percent": 5}
            await agent.send("deploy_status", report)
        view = await waiting
        assert view["status"] == "running"
        assert view["service_id"] == "svc_1"
        assert [event["status"] for event in view["events"]] == ["pulling", "starting", "running"]
        assert view["events"][0]["progress_percent"] == 5


async def test_a_refused_deploy_ends_the_wait_without_any_status(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent, asyncio.TaskGroup() as group:
        accepted = await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        call = plane.call(plane.client.deployment, accepted["deployment_id"], 30)
        waiting = group.create_task(call, name="operator")
        error = {"code": "POLICY", "message": "no"}
        answer = {"request_id": accepted["request_id"], "success": False, "error": error}
        await agent.expect("deploy")
        await agent.send("command_response", answer)
        view = await waiting
        assert (view["status"], view["events"]) == (None, [])
        assert view["command"]["response"]["error"] == error


async def test_a_deployment_the_agent_began_itself_is_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await agent.send("deploy_status", {"deployment_id": "dep_own", "service_id": "s", "status": "rolled_back"})
        await agent.settled()
        view = await plane.call(plane.client.deployment, "dep_own")
        assert (view["status"], view["command"], view["server_id"]) == ("rolled_back", None, "srv_1")


async def test_one_server_cannot_report_on_anothers_deployment_or_answer_its_commands(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent("srv_1") as one, plane.agent("srv_2") as two:
        accepted = await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        await one.expect("deploy")
        report = {"deployment_id": accepted["deployment_id"], "service_id": "s", "status": "failed"}
        await two.send("deploy_status", report)
        await two.send("command_response", {"request_id": accepted["request_id"], "success": False})
        await two.send("pong", {}, id=accepted["request_id"])
        await two.send("log_stream", {"request_id": accepted["request_id"], "logs": [], "done": True})
        await two.settled()
        view = await plane.call(plane.client.deployment, accepted["deployment_id"])
        assert (view["status"], view["command"]["state"]) == (None, "sent")
        assert (await plane.call(plane.client.server, "srv_2"))["ignored_messages"] == 4


async def test_alerts_are_kept_in_order_and_read_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        for index in range(3):
            await agent.send("alert", {"alert_id": f"a{index}", "type": "resource_critical", "severity": "warning"})
        await agent.settled()
        page = await plane.call(plane.client.alerts, "srv_1")
        assert [alert["alert_id"] for alert in page["alerts"]] == ["a0", "a1", "a2"]
        rest = await plane.call(plane.client.alerts, "srv_1", page["alerts"][0]["seq"])
        assert [alert["alert_id"] for alert in rest["alerts"]] == ["a1", "a2"]
        assert await plane.call(plane.client.alerts, "srv_1", page["next"]) == {
            "alerts": [],
            "next": page["next"],
            "more": False,
        }


async def test_every_listing_comes_in_pages_of_bounded_size(tmp_path: Path) -> None:
    limits = Limits(answer_records=3, answer_bytes=10_000)
    async with running(tmp_path, limits=limits) as plane, plane.agent() as agent:
        for server_id in ("srv_2", "srv_3", "srv_4", "srv_5"):
            await plane.token(server_id)
        accepted = await plane.call(plane.client.command, "srv_1", "logs_subscribe", {"service_id": "s"})
        await agent.expect("logs_subscribe")
        for index in range(8):
            # Three small ones fit into an answer, of the large ones only two.
            padding = "x" * (3500 if index > 4 else 1)
            await agent.send("alert", {"number": index, "padding": padding})
            await agent.send(
                "deploy_status", {"deployment_id": "dep_1", "status": "running", "number": index, "padding": padding}
            )
            await agent.send("log_stream", _lines(accepted["request_id"], f"{index} {padding}"))
        await agent.send("log_stream", {"request_id": accepted["request_id"], "logs": [], "done": True})
        await agent.settled()
        for path, name, number in (
            ("/api/v1/servers/srv_1/alerts", "alerts", lambda alert: alert["number"]),
            ("/api/v1/deployments/dep_1", "events", lambda event: event["number"]),
            (f"/api/v1/logs/{accepted['request_id']}", "lines", lambda line: int(line["message"].split()[0])),
        ):
            pages = await _pages(plane, path, limits)
            numbers = [[number(record) for record in page[name]] for page in pages]
            assert numbers == [[0, 1, 2], [3, 4, 5], [6, 7]], name
        assert [page["done"] for page in pages] == [False, False, True]
        pages = await _pages(plane, "/api/v1/servers", limits)
        assert [[server["server_id"] for server in page["servers"]] for page in pages] == [
            ["srv_1", "srv_2", "srv_3"],
            ["srv_4", "srv_5"],
        ]
        # The client puts the pages together.
        assert len(await plane.call(plane.client.servers)) == 5
        assert len((await plane.call(plane.client.deployment, "dep_1"))["events"]) == 8


async def _pages(plane: Plane, path: str, limits: Limits) -> list[dict[str, Any]]:
    pages: list[dict[str, Any]] = []
    query = ""
    while not pages or pages[-1]["more"]:
        answer = await plane.raw(plane.request("GET", path + query))
        body = answer.partition(b"\r\n\r\n")[2]
        assert len(body) <= limits.answer_bytes
        pages.append(json.loads(body))
        query = f"?after={pages[-1]['next']}"
    return pages


async def test_the_largest_messages_of_an_agent_can_be_read_in_answers_of_16_mib(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        accepted = await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        await agent.expect("deploy")
        deployment_id = accepted["deployment_id"]
        # As UTF-8 it fits into a frame; as the ASCII that is stored it is twice as long.
        text = json.dumps({"stdout": "€" * 2_300_000}, ensure_ascii=False)
        response = f'{{"request_id": "{accepted["request_id"]}", "success": true, "data": {text}}}'
        await agent.socket.send(f'{{"type": "command_response", "payload": {response}}}')
        for index in range(5):
            report = {"deployment_id": deployment_id, "status": "running", "logs": ["x" * 1_000_000], "number": index}
            await agent.send("deploy_status", report)
        await agent.send("alert", {"number": 1, "text": "x" * 16_000_000})
        await agent.settled()
        pages = await _pages(plane, f"/api/v1/deployments/{deployment_id}", plane.settings.limits)
        assert len(pages) > 2
        assert len(pages[0]["command"]["response"]["data"]["stdout"]) == 2_300_000
        assert [event["number"] for page in pages for event in page["events"]] == list(range(5))
        (alert,) = (await plane.call(plane.client.alerts, "srv_1"))["alerts"]
        assert (alert["number"], alert["omitted"]) == (1, ["text"])


async def test_a_response_too_large_to_store_still_answers_its_command(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        accepted = await plane.call(plane.client.command, "srv_1", "exec", {"service_id": "s", "command": ["x"]})
        await agent.expect("exec")
        data = json.dumps({"stdout": "€" * 5_000_000}, ensure_ascii=False)
        response = f'{{"request_id": "{accepted["request_id"]}", "success": true, "data": {data}}}'
        await agent.socket.send(f'{{"type": "command_response", "payload": {response}}}')
        view = await plane.call(plane.client.command_state, accepted["request_id"], 5)
        assert view["state"] == "answered"
        assert view["response"] == {"request_id": accepted["request_id"], "success": True, "omitted": ["data"]}


async def test_names_that_are_too_long_are_cut(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await agent.send("deploy_status", {"deployment_id": "dep_1", "service_id": "s" * 5000, "status": "running"})
        accepted = await plane.call(plane.client.command, "srv_1", "logs_subscribe", {"service_id": "s"})
        await agent.expect("logs_subscribe")
        line = {"timestamp": "t" * 5000, "stream": "s" * 5000, "message": "m"}
        await agent.send("log_stream", {"request_id": accepted["request_id"], "logs": [line]})
        await agent.settled()
        assert len((await plane.call(plane.client.deployment, "dep_1"))["service_id"]) == 256
        (kept,) = (await plane.call(plane.client.logs, accepted["request_id"]))["lines"]
        assert (len(kept["timestamp"]), len(kept["stream"])) == (64, 16)


async def test_log_lines_of_a_subscription_are_read_as_they_come_until_done(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent, asyncio.TaskGroup() as group:
        accepted = await plane.call(plane.client.command, "srv_1", "logs_subscribe", {"service_id": "s", "tail": 5})
        request_id = accepted["request_id"]
        await agent.expect("logs_subscribe")
        waiting = group.create_task(plane.call(plane.client.logs, request_id, 0, 30), name="operator")
        await agent.send("log_stream", _lines(request_id, "one", "two\0\u2028"))
        page = await waiting
        assert [line["message"] for line in page["lines"]] == ["one", "two\0\u2028"]
        assert page["done"] is False
        last = group.create_task(plane.call(plane.client.logs, request_id, page["next"], 30), name="operator")
        await agent.send("log_stream", {"request_id": request_id, "service_id": "s", "logs": [], "done": True})
        assert await last == {"lines": [], "next": page["next"], "more": False, "done": True}


async def test_very_long_lines_are_cut(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        accepted = await plane.call(plane.client.command, "srv_1", "logs_subscribe", {"service_id": "s"})
        await agent.expect("logs_subscribe")
        await agent.send("log_stream", _lines(accepted["request_id"], "x" * 70_000))
        await agent.settled()
        page = await plane.call(plane.client.logs, accepted["request_id"])
        assert len(page["lines"][0]["message"]) == 64 * 1024


async def test_telemetry_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        for number in range(2):
            data: dict[str, object] = {"logs": [], "traces": []}
            await agent.send("telemetry_batch", {"batch_id": f"b{number}", "agent_id": "agt_1", "data": data})
        await agent.settled()
        telemetry = (await plane.call(plane.client.server, "srv_1"))["telemetry"]
        assert telemetry["batches"] == 2
        assert telemetry["bytes"] > 200


@pytest.mark.parametrize(
    ("type", "payload"),
    [
        ("something_new", {}),
        ("pong", {}),
        ("command_response", {}),
        ("command_response", {"request_id": "unknown", "success": True}),
        ("command_response", {"request_id": "unknown", "success": "yes"}),
        ("deploy_status", {"deployment_id": "dep_1", "status": "exploded"}),
        ("deploy_status", {"deployment_id": "../etc", "status": "running"}),
        ("deploy_status", {"deployment_id": "dep_1"}),
        ("log_stream", {"request_id": "unknown", "logs": []}),
        ("log_stream", {"request_id": "unknown", "logs": [{"timestamp": "", "stream": "stdout", "message": 5}]}),
        ("log_stream", {"request_id": "unknown", "logs": "text"}),
    ],
)
async def test_what_is_not_understood_is_counted_and_the_connection_lives(
    tmp_path: Path, type: str, payload: dict[str, Any]
) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await agent.send(type, payload)
        await agent.settled()
        assert (await plane.call(plane.client.server, "srv_1"))["ignored_messages"] == 1


async def test_an_oversized_heartbeat_is_answered_but_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(heartbeat_bytes=1000)) as plane, plane.agent() as agent:
        await agent.send("heartbeat", {"padding": "x" * 1000})
        await agent.expect("pong")
        await agent.settled()
        server = await plane.call(plane.client.server, "srv_1")
        assert server["ignored_messages"] == 1
        assert "padding" not in (server["heartbeat"] or {})


def _lines(request_id: str, *messages: str) -> dict[str, Any]:
    logs = [{"timestamp": "2026-01-01T00:00:00Z", "stream": "stdout", "message": message} for message in messages]
    return {"request_id": request_id, "service_id": "s", "logs": logs, "done": False}
