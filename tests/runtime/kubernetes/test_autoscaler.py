"""The HorizontalPodAutoscaler of a service."""

from __future__ import annotations

import pytest

from syntra.model.errors import InvalidField
from syntra.model.spec import Autoscale
from syntra.runtime.kubernetes.autoscaler import within
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.render import Routes, check
from tests.model.samples import deployment
from tests.runtime.kubernetes.rendering import rendered

WANTED = Autoscale(least=2, most=5, cpu_percent=70)


def test_it_scales_the_deployment_of_its_slot_and_is_applied_with_it() -> None:
    found = rendered(deployment(autoscale=WANTED, cpu_nanos=10**9), slot=Slot.GREEN)
    scaler = found.autoscaler
    assert scaler is not None and scaler in found.objects
    assert scaler["metadata"]["name"] == found.workload["metadata"]["name"]  # type: ignore[index]  # rendered
    spec = scaler["spec"]
    assert isinstance(spec, dict)
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": found.workload["metadata"]["name"],  # type: ignore[index]  # rendered
    }
    assert rendered(deployment()).autoscaler is None


def test_a_number_of_replicas_stays_where_the_autoscaler_would_leave_it() -> None:
    assert [within(WANTED, replicas) for replicas in (0, 2, 4, 9)] == [2, 2, 4, 5]
    assert within(None, 9) == 9


def test_without_a_cpu_limit_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(InvalidField, match=r"config\.cpu_limit"):
        check(deployment(autoscale=WANTED, cpu_nanos=None, domains=()), Routes.NONE, host_paths=False)
