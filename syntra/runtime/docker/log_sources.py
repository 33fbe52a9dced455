"""Where the logs of containers are: the engine says it in the inspection of each."""

from __future__ import annotations

from syntra.model.ids import ContainerId
from syntra.model.log_source import LogSource
from syntra.runtime.docker import fields
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import NotFound
from syntra.runtime.docker.looks import Looks
from syntra.runtime.docker.records import ContainerDetails
from syntra.runtime.docker.replicas import deployment_of
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import parse_ns

JSON_FILE = "json-file"


class LogSources:
    """Lists them. Raises the client's errors."""

    def __init__(self, containers: Containers, looks: Looks) -> None:
        self._containers = containers
        self._looks = looks
        # What does not change in the life of a container that is none of the agent's.
        self._others: dict[str, LogSource] = {}

    async def find(self, *, everything: bool) -> list[LogSource]:
        """The agent's containers, replicas or not; with `everything` all of the engine's."""
        ours = [_source(details, is_ours=True) for details in await self._looks.details(None, fresh=False)]
        if not everything:
            return ours
        known = {source.container_id for source in ours}
        others: dict[str, LogSource] = {}
        for item in await self._containers.list(labels={}):
            if item.id in known:
                continue
            is_running = item.state == "running"
            seen = self._others.get(item.id)
            if seen is None or seen.is_running != is_running:
                try:
                    seen = _source(await self._containers.inspect(item.id), is_ours=False)
                except NotFound:
                    continue
            others[item.id] = seen
        self._others = others
        return ours + list(others.values())


def _source(details: ContainerDetails, *, is_ours: bool) -> LogSource:
    driver = fields.text(details.raw, "HostConfig", "LogConfig", "Type")
    try:
        created_ns = parse_ns(details.created) or 0
    except AgentError:
        created_ns = 0
    return LogSource(
        container_id=ContainerId(details.id),
        name=details.name,
        image=details.image_ref,
        driver=driver,
        path=fields.text(details.raw, "LogPath") if driver == JSON_FILE else "",
        created_ns=created_ns,
        is_running=details.state.running,
        labels=details.labels,
        deployment=deployment_of(details) if is_ours else None,
    )
