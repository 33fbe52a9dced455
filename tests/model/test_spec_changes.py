"""What differs between two deployments, in words."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.model.fields import Fields
from syntra.model.spec import Deployment
from syntra.model.spec_changes import changes
from syntra.model.spec_payload import parse_deployment


def deployment(**config: Any) -> Deployment:
    more: dict[str, Any] = {
        key: config.pop(key) for key in ("image", "networking", "strategy", "timeout_seconds") if key in config
    }
    return parse_deployment(
        Fields({"service_id": "svc_a", "deployment_id": "d1", "image": "shop/web:1", **more, "config": config})
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({}, {"image": "shop/web:2"}, "image shop/web:1 → :2"),
        ({}, {"image": "r.example/web:1"}, "image shop/web:1 → r.example/web:1"),
        ({}, {"replicas": 3}, "replicas 1 → 3"),
        ({"env": {"K": "old-value"}}, {"env": {"K": "new-value"}}, "env K changed"),
        ({}, {"env": {"K": "new-value"}}, "env K added"),
        ({"env": {"K": "old-value"}}, {}, "env K removed"),
        ({}, {"env": {"K": {"secret": "one"}}}, "env K added (secret one)"),
        ({"env": {"K": {"secret": "one"}}}, {"env": {"K": {"secret": "two"}}}, "env K changed (secret two)"),
        ({"env": {"K": {"secret": "one"}}}, {"env": {"K": "new-value"}}, "env K changed"),
        ({"env": {"K": {"secret": "one"}}}, {}, "env K removed"),
        ({"labels": {"a": "1"}}, {"labels": {"a": "2"}}, "label a 1 → 2"),
        ({"labels": {"api_token": "1"}}, {"labels": {"api_token": "2"}}, "label api_token changed"),
        ({}, {"port": 80}, "port none → 80"),
        ({"memory_limit": "512m"}, {"memory_limit": "1g"}, "memory_limit 512m → 1024m"),
        ({"cpu_limit": "0.5"}, {"cpu_limit": "2"}, "cpu_limit 0.5 → 2"),
        ({"read_only": True}, {}, "read_only on → none"),
        ({"port": 80}, {"port": 80, "health_check": {"path": "/h"}}, "health_check added"),
        (
            {"port": 80, "health_check": {"path": "/h"}},
            {"port": 80, "health_check": {"path": "/i"}},
            "health_check.path /h → /i",
        ),
        ({}, {"volumes": [{"name": "data", "container_path": "/d"}]}, "volumes none → data:/d"),
        ({"networking": {"domains": ["a.x"]}}, {"networking": {"domains": ["a.x", "b.x"]}}, "domains a.x → a.x, b.x"),
    ],
)
def test_a_change_is_said_without_a_secret(old: dict[str, Any], new: dict[str, Any], text: str) -> None:
    found = changes(deployment(**old), deployment(**new), replicas=1)
    assert [change.text for change in found] == [text]
    assert "value" not in repr(found)


def test_how_a_deploy_goes_and_the_same_settings_are_no_change() -> None:
    old = deployment(env={"K": "v"}, port=80, replicas=2)
    assert changes(old, deployment(env={"K": "v"}, port=80, replicas=2, strategy="instant"), replicas=2) == ()
    assert [c.setting for c in changes(old, old, replicas=1)] == ["replicas"]
