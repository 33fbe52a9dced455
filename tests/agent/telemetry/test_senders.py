"""Who the senders of telemetry are: from the engine's containers and the journal's deployments."""

from __future__ import annotations

from syntra.agent.telemetry.senders import senders
from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId
from tests.model.samples import deployment


def test_every_address_of_a_replica_names_it() -> None:
    found = deployment()
    container = Container(
        container_id=ContainerId("c" * 64),
        name="syn-svc_123",
        service_id=found.spec.service_id,
        deployment_id=found.deployment_id,
        index=2,
        spec_hash="",
        state=ContainerState.RUNNING,
        created_ns=0,
        addresses={"syntra-shop": "172.18.0.2", "other": "10.9.0.2", "unset": ""},
    )
    table = senders([(container, found)])
    assert table.keys() == {"172.18.0.2", "10.9.0.2"}
    assert table["172.18.0.2"] == {
        "service_id": "svc_123",
        "service_name": "api",
        "project": "shop",
        "deployment_id": "dep_abc12345",
        "container_id": "c" * 64,
        "replica": "syn-svc_123",
        "image": str(found.spec.image),
    }
