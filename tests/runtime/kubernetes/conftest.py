"""The cluster, for the tests that need a real API server."""

from __future__ import annotations

from tests.cluster import cluster, cluster_token

__all__ = ["cluster", "cluster_token"]
