"""The operators' HTTP API: JSON in and out, one bearer token, errors as `{"error": {"code", "message"}}`."""

from __future__ import annotations

import hmac
import json
import logging
import math
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import NoReturn
from urllib.parse import parse_qs, unquote

from syntra.connection.codec import MAX_VALUES, count_values
from syntra.controlplane import certificates, listings, views
from syntra.controlplane.clock import Clock
from syntra.controlplane.connections import OPERATOR
from syntra.controlplane.errors import Conflict, LimitReached, ServerNotConnected, StoreError
from syntra.controlplane.fleet import Fleet
from syntra.controlplane.http import Head, Refused, Response, error_response
from syntra.controlplane.outgoing import outgoing_command
from syntra.controlplane.records import CommandState, Server
from syntra.controlplane.settings import ControlPlaneSettings
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry.blocks import Kind
from syntra.controlplane.telemetry.query import parse
from syntra.controlplane.telemetry.reader import TelemetryReader
from syntra.controlplane.tokens import bearer_token, new_agent_token, token_hash
from syntra.controlplane.waiters import Waiters
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.ids import service_id
from syntra.utils.frozen import frozen

_log = logging.getLogger(__name__)


@frozen
class Call:
    """A request whose path and method match a route."""

    argument: str
    query: Mapping[str, str]
    body: bytes = field(repr=False)


Action = Callable[[Call], Awaitable[Response]]


@frozen
class ApiParts:
    """The objects that the API uses."""

    settings: ControlPlaneSettings
    store: StoreThread
    fleet: Fleet
    waiters: Waiters
    clock: Clock
    telemetry: TelemetryReader
    operator_hash: bytes = field(repr=False)


class Api:
    """Satisfies `http.Handler`."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._fleet = parts.fleet
        routes: list[tuple[str, str, Action]] = [
            ("GET", "/healthz", self._health),
            ("POST", "/api/v1/tokens", self._create_token),
            ("GET", "/api/v1/servers", self._servers),
            ("GET", "/api/v1/servers/([^/]+)", self._server),
            ("POST", "/api/v1/servers/([^/]+)/commands", self._send_command),
            ("GET", "/api/v1/servers/([^/]+)/alerts", self._alerts),
            ("GET", "/api/v1/servers/([^/]+)/certificates", self._certificates),
            ("DELETE", "/api/v1/servers/([^/]+)/certificates", self._revoke_certificates),
            ("GET", "/api/v1/commands/([^/]+)", self._command),
            ("GET", "/api/v1/deployments/([^/]+)", self._deployment),
            ("GET", "/api/v1/logs/([^/]+)", self._logs),
            ("GET", f"/api/v1/telemetry/({'|'.join(kind.value for kind in Kind)})", self._telemetry),
        ]
        self._routes = [(method, re.compile(pattern), action) for method, pattern, action in routes]

    def owner(self, head: Head) -> str | None:
        """The operator, when the request has the operator's token."""
        return OPERATOR if self._is_operator(head) else None

    def refusal(self, head: Head) -> Response | None:
        """The response for a wrong token, path or method.

        The token is checked first, so that clients without one do not learn which paths exist.
        """
        if head.path != "/healthz" and not self._is_operator(head):
            return error_response(
                401, "UNAUTHORIZED", "give the operator token as a bearer token", {"www-authenticate": "Bearer"}
            )
        methods = [method for method, pattern, _ in self._routes if pattern.fullmatch(head.path)]
        if not methods:
            return error_response(404, "NOT_FOUND", f"there is nothing at {head.path[:200]}")
        if head.method not in methods:
            allow = ", ".join(methods)
            return error_response(405, "METHOD_NOT_ALLOWED", f"{head.path[:200]} takes {allow}", {"allow": allow})
        return None

    async def respond(self, head: Head, body: bytes) -> Response:
        """Carry out the request. Every expected failure has its response."""
        try:
            return await self._route(head, body)
        except Refused as refused:
            return refused.response
        except InvalidField as exc:
            return error_response(400, exc.code, str(exc))
        except (ServerNotConnected, Conflict, LimitReached) as exc:
            return error_response(409, exc.code, str(exc))
        except StoreError as exc:
            _log.error("request failed", extra={"path": head.path[:200], "reason": str(exc)})
            return error_response(503, exc.code, str(exc), {"retry-after": "5"})
        except Exception:  # noqa: BLE001 - a bug in one request must not end the control plane
            _log.exception("request failed", extra={"path": head.path[:200]})
            return error_response(500, "INTERNAL", "the control plane failed; see its log")

    def _is_operator(self, head: Head) -> bool:
        token = bearer_token(head.header("authorization"))
        return token is not None and hmac.compare_digest(token_hash(token), self._parts.operator_hash)

    async def _route(self, head: Head, body: bytes) -> Response:
        for method, pattern, action in self._routes:
            match = pattern.fullmatch(head.path)
            if match and method == head.method:
                argument = unquote(match[1]) if match.groups() else ""
                return await action(Call(argument=argument, query=_query(head.query), body=body))
        raise AssertionError("an unrouted request cannot happen because refusal() came first")

    # Actions

    async def _health(self, call: Call) -> Response:
        return Response(status=200, body={"status": "ok"})

    async def _create_token(self, call: Call) -> Response:
        fields = Fields(_object(call.body))
        server = fields.optional_text("server_id") or f"srv_{uuid.uuid4().hex[:12]}"
        service_id("server_id", server)
        name = fields.optional_text("name") or server
        if len(name) > 128:
            raise InvalidField("name", "is longer than 128 characters")
        token = new_agent_token()
        await self._store.run(Store.add_token, token_hash(token), server, name, self._parts.clock())
        _log.info("agent token created", extra={"server_id": server})
        return Response(status=201, body={"token": token, "server_id": server})

    async def _servers(self, call: Call) -> Response:
        after = call.query.get("after", "")
        body = await self._store.run(listings.servers, after, self._fleet.connected(), self._parts.settings.limits)
        return Response(status=200, body=body)

    async def _server(self, call: Call) -> Response:
        return Response(status=200, body=self._server_view(await self._known_server(call.argument)))

    async def _send_command(self, call: Call) -> Response:
        wait = self._wait(call)
        server = await self._known_server(call.argument)
        limit = self._parts.settings.limits.command_bytes
        command = outgoing_command(server.server_id, _object(call.body), str(uuid.uuid4()), limit)
        state = await self._fleet.send(command)
        _log.info(
            "command accepted",
            extra={
                "server_id": command.server_id,
                "request_id": command.request_id,
                "type": command.type,
                "state": state.value,
            },
        )
        if wait > 0 and state is CommandState.SENT:
            view = await self._await_answer(command.request_id, wait)
            return Response(status=200 if view["state"] == CommandState.ANSWERED.value else 202, body=view)
        accepted: dict[str, object] = {"request_id": command.request_id, "state": state.value}
        if command.deployment_id is not None:
            accepted["deployment_id"] = command.deployment_id
        return Response(status=202, body=accepted)

    async def _command(self, call: Call) -> Response:
        return Response(status=200, body=await self._await_answer(call.argument, self._wait(call)))

    async def _deployment(self, call: Call) -> Response:
        after = _after(call)
        key = f"deployment {call.argument}"
        head = await self._parts.waiters.until(key, self._wait(call), lambda: self._look_at_deployment(call.argument))
        body = await self._store.run(listings.deployment, call.argument, after, head, self._parts.settings.limits)
        return Response(status=200, body=body)

    async def _alerts(self, call: Call) -> Response:
        after = _after(call)
        server = await self._known_server(call.argument)
        body = await self._store.run(listings.alerts, server.server_id, after, self._parts.settings.limits)
        return Response(status=200, body=body)

    async def _certificates(self, call: Call) -> Response:
        server = await self._known_server(call.argument)
        records = await self._store.run(certificates.of_server, server.server_id)
        return Response(status=200, body={"certificates": [views.certificate_view(record) for record in records]})

    async def _revoke_certificates(self, call: Call) -> Response:
        server = await self._known_server(call.argument)
        count = await self._store.run(certificates.revoke, server.server_id)
        _log.info("certificates revoked", extra={"server_id": server.server_id, "count": count})
        if count and (link := self._fleet.link(server.server_id)) is not None:
            link.socket.begin_close(4001, "the client certificate was revoked")
        return Response(status=200, body={"revoked": count})

    async def _logs(self, call: Call) -> Response:
        after = _after(call)

        async def look() -> tuple[bool, None]:
            state = await self._store.run(Store.log_state, call.argument, after)
            if state is None:
                raise Refused(404, "NOT_FOUND", f"there is no command {call.argument[:200]}")
            return state.has_lines or state.done, None

        await self._parts.waiters.until(f"logs {call.argument}", self._wait(call), look)
        body = await self._store.run(listings.log_lines, call.argument, after, self._parts.settings.limits)
        return Response(status=200, body=body)

    async def _telemetry(self, call: Call) -> Response:
        query = parse(Kind(call.argument), call.query, self._parts.settings.limits.answer_records)
        return Response(status=200, body=await self._parts.telemetry.answer(query))

    # Parts of actions

    def _server_view(self, server: Server) -> dict[str, object]:
        link = self._fleet.link(server.server_id)
        return views.server_view(server, link.connected_at if link is not None else None)

    async def _known_server(self, server_id: str) -> Server:
        server = await self._store.run(Store.server, server_id)
        if server is None:
            raise Refused(404, "NOT_FOUND", f"there is no server {server_id[:200]}; create a token for it first")
        return server

    async def _await_answer(self, request_id: str, wait: float) -> dict[str, object]:
        async def look() -> tuple[bool, dict[str, object]]:
            command = await self._store.run(Store.command, request_id)
            if command is None:
                raise Refused(404, "NOT_FOUND", f"there is no command {request_id[:200]}")
            state = self._fleet.state_of(command)
            over = state in (CommandState.ANSWERED, CommandState.TIMED_OUT)
            return over, views.command_view(command, state)

        # A sent command has a deadline; a queued one has none yet.
        left = self._fleet.seconds_left(request_id)
        return await self._parts.waiters.until(f"command {request_id}", min(wait, left) if left > 0 else wait, look)

    async def _look_at_deployment(self, deployment_id: str) -> tuple[bool, dict[str, object]]:
        deployment = await self._store.run(Store.deployment, deployment_id)
        if deployment is None:
            raise Refused(404, "NOT_FOUND", f"there is no deployment {deployment_id[:200]}")
        command = await self._store.run(Store.command, deployment.request_id) if deployment.request_id else None
        state = self._fleet.state_of(command) if command is not None else None
        reported = deployment.status is not None and deployment.status.is_terminal
        # An agent that refuses a deploy sends a response and no status.
        refused = command is not None and command.was_refused
        return reported or refused, views.deployment_view(deployment, command, state)

    def _wait(self, call: Call) -> float:
        text = call.query.get("wait", "0")
        longest = self._parts.settings.timings.longest_wait
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= longest:
            raise InvalidField("wait", f"{text[:40]!r} is not a number of seconds (0–{longest:g})")
        return seconds


def _query(text: str) -> dict[str, str]:
    try:
        return {key: values[-1] for key, values in parse_qs(text, max_num_fields=16).items()}
    except ValueError as exc:
        raise Refused(400, "BAD_REQUEST", "the query has more than 16 fields") from exc


def _after(call: Call) -> int:
    text = call.query.get("after", "0")
    if re.fullmatch(r"[0-9]{1,18}", text) is None:
        raise InvalidField("after", f"{text[:40]!r} is not a sequence number")
    return int(text)


def _object(body: bytes) -> Mapping[str, object]:
    """The JSON object in a body; an empty body is an empty object. NaN and Infinity are refused."""
    if not body:
        return {}
    try:
        text = body.decode()
        if count_values(text, MAX_VALUES) > MAX_VALUES:
            raise Refused(400, "BAD_JSON", f"the body has more than {MAX_VALUES} values")
        value = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError) as exc:
        raise Refused(400, "BAD_JSON", f"the body is not JSON: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise Refused(400, "BAD_JSON", "the body is not a JSON object")
    return value


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
