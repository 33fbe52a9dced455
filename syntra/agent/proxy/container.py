"""The proxy container that the agent runs: up, down, status and problems.

A foreign proxy that applies the agent's routes is adopted: it is left alone. A running proxy is stopped only after its
replacement has been created, and is started again when the replacement fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from syntra.agent.proxy.decision import Action, Decision, Seen, decide
from syntra.agent.proxy.setup import ProxySetup
from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.networking.errors import InvalidStatic, ProxyUnreachable
from syntra.networking.port_check import obstacle
from syntra.networking.proxy_info import ProxyInfo
from syntra.networking.traefik_static import Listener, StaticSettings
from syntra.runtime.docker import fields
from syntra.runtime.docker.proxy_body import WantedProxy, differences
from syntra.runtime.docker.proxy_containers import CODE, ProxyContainers
from syntra.runtime.docker.records import ContainerDetails
from syntra.runtime.errors import RuntimeUnavailable, StepFailed

log = logging.getLogger(__name__)

ANSWER_SECS = 30.0
"""From start to the API's first response; usually half a second on an idle machine."""
APPLY_SECS = 10.0
ADOPT_SECS = 5.0
"""Longer than Traefik's throttle between two configurations, 2 s (providersThrottleDuration)."""
POLL_SECS = 0.1

Say = Callable[[str], Awaitable[None]]


class Routes(Protocol):
    """The published routes, as a proxy needs them."""

    async def write(self) -> None:
        """Write the routes file, whatever it holds. Raises RuntimeUnavailable or StepFailed."""

    async def applied(self) -> bool:
        """Whether the proxy has applied the routes published now. Raises ProxyUnreachable or RuntimeUnavailable."""

    async def wait_applied(self, secs: float) -> bool:
        """Wait until the proxy has applied the routes; False after `secs`. Raises as `applied` does."""

    async def complaints(self) -> tuple[str, ...]:
        """The proxy's errors about the routes, one sentence each. Raises as `applied` does."""


class ProxyContainer:
    """One per agent. `routes` is None when the agent writes none.

    All methods raise RuntimeUnavailable and StepFailed. A cancelled `up` leaves a proxy running; the next completes it.
    """

    def __init__(self, setup: ProxySetup, containers: ProxyContainers, routes: Routes | None) -> None:
        self._setup = setup
        self._containers = containers
        self._routes = routes
        self._info = ProxyInfo(setup.api_url)
        # Of two concurrent `up` calls, the second finds the result of the first.
        self._lock = asyncio.Lock()

    async def up(self, say: Say) -> dict[str, Json]:
        """Bring a proxy up with the agent's routes. Also raises InvalidStatic, before it changes anything."""
        async with self._lock:
            if self._routes is None:
                self._setup.static()
                raise AssertionError("cannot happen because without routes the mode is one that `static` refuses")
            found = await self._containers.found()
            running = any(_runs(item) for item in found)
            foreign = None if running else await self._version()
            if foreign is not None:
                return await self._adopt(self._routes, foreign, found)
            static, wanted = self._setup.static(), self._setup.wanted()
            seen = [Seen(id=c.id, fits=not differences(wanted, c), running=_runs(c)) for c in found]
            decision = decide(seen, foreign=False)
            await asyncio.to_thread(self._setup.make_directories)
            await self._routes.write()
            why = [what for item in found if item.id in decision.old for what in differences(wanted, item)]
            if decision.action is not Action.NOTHING:
                await self._check_ports(static, [item for item in found if _runs(item)])
                decision = await self._bring_up(decision, wanted, say)
                await say("waiting until it works with the routes")
            await self._await_routes(self._routes)
            for container_id in decision.old:
                await self._containers.stop(container_id)
                await self._containers.remove(container_id)
            return await self._report(decision, why)

    async def down(self) -> dict[str, Json]:
        """Stop and remove the agent's proxy containers. The routes file and the certificates stay."""
        async with self._lock:
            removed: list[Json] = []
            for item in await self._containers.found():
                await self._containers.stop(item.id)
                await self._containers.remove(item.id)
                removed.append(item.name)
                log.info("proxy removed", extra={"container": item.name})
        foreign = await self._version()
        if removed:
            message = (
                f"stopped and removed {', '.join(str(name) for name in removed)}; routes and certificates are kept"
            )
        else:
            message = "there is no proxy container to remove"
        if foreign is not None:
            message += f"; another proxy answers at {self._setup.api_url} and is left alone"
        return {"removed": removed, "message": message}

    async def status(self) -> dict[str, Json]:
        """The proxy's state, owner and problems; see docs/operations.md for the fields."""
        found = await self._containers.found()
        problems = self._container_problems(found)
        serving = next((item for item in found if _runs(item)), found[-1] if found else None)
        version, entrypoints, applied, detail = None, dict[str, str](), None, ""
        try:
            version = await self._info.version()
            entrypoints = await self._info.entrypoints()
            if self._routes is not None:
                applied = await self._routes.applied()
                problems += await self._routes.complaints()
        except ProxyUnreachable as away:
            detail = str(away)
        ours = serving is not None and (_runs(serving) or version is None)
        since = serving.state.started_at if ours and serving is not None and _runs(serving) else None
        acme = self._setup.acme_dir / "acme.json"
        return {
            "kind": "ours" if ours else "none" if version is None else "foreign",
            "container": None if serving is None else _described(serving),
            "version": version.version if version else None,
            "since": since or (version.since if version else None),
            "api": {"url": self._setup.api_url, "reachable": version is not None, "detail": detail},
            "entrypoints": [{"name": name, "address": address} for name, address in sorted(entrypoints.items())],
            "routes": {"directory": str(self._setup.dynamic_dir), "applied": applied},
            "certificates": {
                "resolver": self._setup.settings.networking.cert_resolver,
                "storage": str(acme),
                "present": await asyncio.to_thread(acme.exists),
            },
            "problems": list(problems),
        }

    async def problems(self) -> tuple[str, ...]:
        """Problems to show in the agent's `status`. Whether routes are applied is checked by `ProxyRoutes`."""
        problems = self._container_problems(await self._containers.found())
        if self._routes is not None:
            with suppress(ProxyUnreachable):
                problems += await self._routes.complaints()
        return problems

    def _container_problems(self, found: Sequence[ContainerDetails]) -> tuple[str, ...]:
        if not found:
            return ()
        if not any(_runs(item) for item in found):
            state = found[-1].state.status
            return (f"container {found[-1].name}, the proxy, is {state}; `syntra-agent proxy up` starts it",)
        try:
            wanted = self._setup.wanted()
        except InvalidStatic as wrong:
            return (f"the proxy runs, but `syntra-agent proxy up` would refuse the configuration: {wrong}",)
        return tuple(
            f"container {item.name}, the proxy, no longer matches the configuration ({_short(differing)}); "
            "`syntra-agent proxy up` replaces it"
            for item in found
            if _runs(item) and (differing := differences(wanted, item))
        )

    async def _adopt(self, routes: Routes, version: str, found: Sequence[ContainerDetails]) -> dict[str, Json]:
        await routes.write()
        if not await self._are_applied(routes, ADOPT_SECS):
            raise StepFailed(
                CODE,
                f"cannot bring up the proxy: another one (Traefik {version}) answers at {self._setup.api_url} "
                f"but not with the agent's routes; have it watch {self._setup.dynamic_dir}, or stop it and try again",
            )
        message = f"another proxy (Traefik {version}) is running already and has the agent's routes; nothing to do"
        if found:
            message += f"; container {found[-1].name} does not run, `syntra-agent proxy down` removes it"
        return {"action": Action.ADOPT.value, "message": message, "container": None}

    async def _check_ports(self, static: StaticSettings, serving: Sequence[ContainerDetails]) -> None:
        """Raise StepFailed when another process holds a port of the proxy. The agent's proxies release theirs."""
        ours = {port for item in serving for port in _ports(item)}
        for listener in (*static.listen, static.api):
            if listener.port in ours:
                continue
            publisher = await self._containers.publisher_of(listener.host, listener.port)
            if publisher is not None:
                reason: str | None = f"container {publisher} publishes it"
            else:
                reason = await asyncio.to_thread(obstacle, listener)
            if reason is not None:
                raise StepFailed(
                    CODE,
                    f"cannot bring up the proxy: entrypoint {listener.name} is to listen on {listener.address}, but "
                    f"{reason}; stop that, or change {_key_of(listener, static)}",
                )

    async def _bring_up(self, decision: Decision, wanted: WantedProxy, say: Say) -> Decision:
        """Create and start the new container; when it fails, start the previous ones again."""
        before = [item for item in await self._containers.found() if item.id in decision.old and _runs(item)]
        keep = decision.keep
        if keep is None:
            if not await self._containers.has_image(wanted.image):
                await say(f"pulling {wanted.image}")
                await self._containers.pull(wanted.image)
            keep = await self._containers.create(wanted)
        try:
            await self._switch(keep, before, wanted, say)
        except asyncio.CancelledError:
            # Stopping here could leave no proxy running. Complete the switch; every call is repeatable.
            with suppress(RuntimeUnavailable, StepFailed):
                await self._switch(keep, before, wanted, say)
            raise
        log.info("proxy started", extra={"image": str(wanted.image), "replaced": len(before)})
        return Decision(action=decision.action, keep=keep, old=decision.old)

    async def _switch(self, keep: str, before: Sequence[ContainerDetails], wanted: WantedProxy, say: Say) -> None:
        for item in before:
            await say(f"stopping {item.name}; its open requests get time to end")
            await self._containers.stop(item.id)
        await say(f"starting {wanted.image}")
        try:
            await self._containers.start(keep)
            await self._await_answer(keep)
        except StepFailed as failed:
            await self._containers.remove(keep)
            for item in before:
                await self._containers.start(item.id)
                # `create` renamed it to free the name.
                await self._containers.rename(item.id, item.name)
                await self._await_answer(item.id)
            again = f"; running again: {', '.join(item.name for item in before)}" if before else ""
            raise StepFailed(CODE, f"{failed}{again}") from failed

    async def _await_answer(self, container_id: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_SECS
        while True:
            answers = await self._version() is not None
            container = await self._containers.inspect(container_id)
            # When another process answers, the container cannot bind the port: it exits and the engine restarts it.
            if container is None or not _runs(container) or container.restart_count:
                last = _clip(await self._containers.last_line(container_id))
                code = container.state.exit_code if container else "unknown"
                raise StepFailed(
                    CODE,
                    f"cannot bring up the proxy: it ended at once with exit code {code}"
                    f"{f', saying: {last}' if last else ''}; check networking.proxy_image and proxy_listen",
                    container_id=ContainerId(container_id),
                )
            if answers:
                return
            if loop.time() >= deadline:
                raise StepFailed(
                    CODE,
                    f"cannot bring up the proxy: it does not answer at {self._setup.api_url} within {ANSWER_SECS:g} s; "
                    f"see `docker logs {container.name}`",
                )
            await asyncio.sleep(POLL_SECS)

    async def _await_routes(self, routes: Routes) -> None:
        if not await self._are_applied(routes, APPLY_SECS):
            raise StepFailed(
                CODE,
                f"cannot bring up the proxy: it runs, but does not apply the agent's routes within {APPLY_SECS:g} s; "
                "see `syntra-agent proxy status`",
            )

    async def _are_applied(self, routes: Routes, seconds: float) -> bool:
        try:
            return await routes.wait_applied(seconds)
        except ProxyUnreachable:
            return False

    async def _version(self) -> str | None:
        try:
            return (await self._info.version()).version
        except ProxyUnreachable:
            return None

    async def _report(self, decision: Decision, why: Sequence[str]) -> dict[str, Json]:
        container = await self._containers.inspect(decision.keep or "")
        name = container.name if container else "the proxy"
        message = {
            Action.NOTHING: f"{name} is running already; nothing to do",
            Action.START: f"{name} is running, with {container.image_ref if container else 'its image'}",
            Action.REPLACE: f"{name} is running, replaced because of: {_short(why)}",
        }[decision.action]
        return {"action": decision.action.value, "message": message, "container": name}


def _runs(item: ContainerDetails) -> bool:
    return item.state.running and not item.state.restarting


def _ports(item: ContainerDetails) -> Iterator[int]:
    for word in fields.texts(item.raw, "Config", "Cmd"):
        name, _, address = word.partition("=")
        port = address.rpartition(":")[2]
        if name.startswith("--entryPoints.") and name.endswith(".address") and port.isdigit():
            yield int(port)


def _described(item: ContainerDetails) -> dict[str, Json]:
    return {
        "id": item.id,
        "name": item.name,
        "image": item.image_ref,
        "state": item.state.status,
        "restarts": item.restart_count,
    }


def _key_of(listener: Listener, static: StaticSettings) -> str:
    return "networking.traefik_api" if listener == static.api else "networking.proxy_listen"


def _short(found: Sequence[str]) -> str:
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _clip(line: str) -> str:
    return line.strip()[:300]
