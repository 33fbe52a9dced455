"""Who has which domain where containers' labels make the routes: the journal tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from syntra.agent.journal.rows import ServiceRow
from syntra.agent.traffic.route_ownership import RouteOwnership
from syntra.model.errors import RequestError
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment
from tests.agent.journal.opened import opened
from tests.agent.samples import deployment


def routed(service_id: str, domain: str) -> Deployment:
    plain = deployment("d1", service_id)
    return replace(plain, spec=replace(plain.spec, domains=(domain,)))


async def test_a_domain_is_its_service_s_also_while_that_is_stopped(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        row = ServiceRow(
            service_id=ServiceId("web"), deployment_id=DeploymentId("d1"), replicas=1, stopped=True, at=1.0
        )
        await journal.journal.rebuild([routed("web", "a.example")], [row])
        ownership = RouteOwnership(journal.journal, lambda _: False)
        with pytest.raises(RequestError, match="belongs to service web") as refused:
            await ownership.check_labels(routed("other", "a.example"))
        assert refused.value.code == "ROUTE_CONFLICT"
        await ownership.check_labels(routed("web", "a.example"))
        await ownership.check_labels(routed("other", "b.example"))
        await journal.journal.forget_service(ServiceId("web"))
        fresh = RouteOwnership(journal.journal, lambda _: False)
        await fresh.check_labels(routed("other", "a.example"))
