"""Kubernetes: manifests and rollout verdicts (pure) and the client edge around the official package."""
