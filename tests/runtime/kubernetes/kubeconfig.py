"""Kubeconfig files, as a user would write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def kubeconfig(
    path: Path, server: str, *, cluster: Mapping[str, object] | None = None, user: Mapping[str, object] | None = None
) -> Path:
    """Write a kubeconfig with one context; `cluster` and `user` are what it has beside the server."""
    path.write_text(
        # JSON is YAML too.
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": {"server": server, **(cluster or {})}}],
                "users": [{"name": "test", "user": {**(user or {})}}],
            }
        )
    )
    path.chmod(0o600)
    return path
