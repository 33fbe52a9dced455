"""Which product answers the Engine API, as it says itself, and how Podman differs from Docker. Pure.

Podman answers Docker's API beside its own and says so in the headers of `GET /_ping` (Podman API, "Ping service").
This package makes up for the differences, so that its callers need not know them; docs/runtimes.md lists them.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping

from syntra.model.fields import Json


class Product(enum.Enum):
    """The values are the names that `status` and `hello` give."""

    DOCKER = "docker"
    PODMAN = "podman"


def product_of(headers: Mapping[str, str]) -> Product:
    """By the headers of a ping, whose names are in lower case."""
    is_podman = "libpod-api-version" in headers or headers.get("server", "").startswith("Libpod/")
    return Product.PODMAN if is_podman else Product.DOCKER


def podman_create_body(body: Mapping[str, object]) -> dict[str, object]:
    """A create body with the restart policy that means on Podman what `always` means on Docker.

    Podman cannot change the policy of a container (before 5.0 there is no `POST /containers/{id}/update`). It need not:
    what was stopped by a call stays down. Its `always` differs in one place, `podman-restart.service`, which starts all
    containers of that policy when the machine boots, even after a stop.
    """
    host = body.get("HostConfig")
    if not isinstance(host, Mapping) or host.get("RestartPolicy") != {"Name": "always"}:
        return dict(body)
    return {**body, "HostConfig": {**host, "RestartPolicy": {"Name": "unless-stopped"}}}


def podman_network_options(name: str) -> dict[str, Json]:
    """Options that name a new network's interface as Docker does: `br-` and the start of the id.

    Podman's id of a network is the SHA-256 of its name, and its answers do not contain the interface.
    """
    return {"com.docker.network.bridge.name": f"br-{hashlib.sha256(name.encode()).hexdigest()[:12]}"}


def podman_log_driver(told: str) -> str:
    """The log driver by Docker's name: Podman writes its own `k8s-file` for `json-file`.

    Podman 4 names no default. Without a size limit its files grow until the disk is full.
    """
    return "json-file" if told in ("", "k8s-file") else told


def familiar_name(name: str) -> str:
    """An image's name as Docker lists it. Podman always lists `docker.io/` and its folder `library/`."""
    short = name.removeprefix("docker.io/")
    return name if short == name else short.removeprefix("library/")
