"""The cluster, for the tests that need a real API server."""

from __future__ import annotations

from tests.cluster import cluster, cluster_token
from tests.cluster_account import account
from tests.cluster_images import cluster_images

__all__ = ["account", "cluster", "cluster_images", "cluster_token"]
