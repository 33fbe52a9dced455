"""Which services to deploy again for names to come from the agent alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from syntra.model.ids import ServiceId
from syntra.model.network import ProjectNetwork
from syntra.model.status import NameSource, Replica


def stale_services(
    networks: Iterable[ProjectNetwork], replicas: Sequence[Replica], called: Mapping[ServiceId, str]
) -> list[str]:
    """A sentence for every project whose containers disagree; `called` gives services the names people know.

    Those that never heard of the agent come first. Only when they are gone can the others do without aliases.
    """
    found = []
    for network in networks:
        here = [replica for replica in replicas if replica.is_up and network.name in replica.addresses]
        project = f"project {network.project}"
        if names := _services(here, NameSource.ENGINE, called):
            found.append(
                f"deploy {names} of {project} again: made before the agent answered for names, they do not ask it"
            )
        elif names := _services(here, NameSource.BOTH, called):
            found.append(
                f"deploy {names} of {project} again: they still have engine aliases, which answer for "
                "replicas that are not ready"
            )
    return found


def _services(replicas: Iterable[Replica], source: NameSource, called: Mapping[ServiceId, str]) -> str:
    ids = {replica.service_id for replica in replicas if replica.names is source}
    return ", ".join(sorted(called.get(service_id, service_id) for service_id in ids))
