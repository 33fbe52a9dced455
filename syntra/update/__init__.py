"""Self-update: verified manifests, download, atomic swap, boot counter."""
