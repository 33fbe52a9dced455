"""Converts the engine's JSON to records; accepts missing fields and every API version from 1.41 on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syntra.runtime.docker import fields
from syntra.runtime.docker.product import familiar_name
from syntra.runtime.docker.records import (
    ContainerDetails,
    ContainerState,
    ContainerSummary,
    EngineEvent,
    EngineInfo,
    ImageDetails,
    ImageSummary,
    NetworkDetails,
    VolumeDetails,
)

# The bridge driver's option for the interface name; without it the name comes from the network's id.
BRIDGE_NAME = "com.docker.network.bridge.name"


def container_summary(source: object) -> ContainerSummary:
    """A row of `GET /containers/json`."""
    names = fields.texts(source, "Names")
    # Links give a container more names, with two slashes; its own has one.
    own = [name for name in names if name.count("/") <= 1] or list(names)
    return ContainerSummary(
        id=fields.text(source, "Id"),
        name=own[0].lstrip("/") if own else "",
        image_id=fields.text(source, "ImageID"),
        image_ref=fields.text(source, "Image"),
        labels=fields.labels(source, "Labels"),
        state=fields.text(source, "State"),
        status_text=fields.text(source, "Status"),
        created=fields.integer(source, "Created"),
        addresses=_addresses(source),
    )


def container_details(source: Mapping[str, object]) -> ContainerDetails:
    """`GET /containers/{id}/json`. Addresses are read per network: API 1.52 has them nowhere else."""
    return ContainerDetails(
        id=fields.text(source, "Id"),
        name=fields.text(source, "Name").lstrip("/"),
        image_id=fields.text(source, "Image"),
        image_ref=fields.text(source, "Config", "Image"),
        labels=fields.labels(source, "Config", "Labels"),
        env=fields.pairs(source, "Config", "Env"),
        state=_container_state(fields.mapping(source, "State")),
        created=fields.text(source, "Created"),
        restart_count=fields.integer(source, "RestartCount"),
        tty=fields.flag(source, "Config", "Tty"),
        addresses=_addresses(source),
        restart_policy=fields.text(source, "HostConfig", "RestartPolicy", "Name"),
        raw=source,
    )


def _container_state(source: Mapping[str, object]) -> ContainerState:
    health = fields.text(source, "Health", "Status")
    return ContainerState(
        status=fields.text(source, "Status"),
        running=fields.flag(source, "Running"),
        paused=fields.flag(source, "Paused"),
        restarting=fields.flag(source, "Restarting"),
        exit_code=fields.integer(source, "ExitCode"),
        error=fields.text(source, "Error"),
        oom_killed=fields.flag(source, "OOMKilled"),
        pid=fields.integer(source, "Pid"),
        started_at=fields.text(source, "StartedAt"),
        finished_at=fields.text(source, "FinishedAt"),
        health_status=None if health in ("", "none") else health,
    )


def _addresses(source: object) -> dict[str, str]:
    networks = fields.mapping(source, "NetworkSettings", "Networks")
    return {name: fields.text(endpoint, "IPAddress") for name, endpoint in networks.items()}


def image_details(source: object) -> ImageDetails:
    """`GET /images/{name}/json`."""
    return ImageDetails(
        id=fields.text(source, "Id"),
        repo_tags=_familiar(fields.texts(source, "RepoTags")),
        repo_digests=_familiar(fields.texts(source, "RepoDigests")),
        labels=fields.labels(source, "Config", "Labels"),
        env=fields.pairs(source, "Config", "Env"),
        created=fields.text(source, "Created"),
        size_bytes=fields.integer(source, "Size"),
        stop_signal=fields.text(source, "Config", "StopSignal"),
        volumes=frozenset(path for path in fields.mapping(source, "Config", "Volumes") if path.startswith("/")),
    )


def _familiar(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(familiar_name(name) for name in names)


def image_summary(source: object) -> ImageSummary:
    """A row of `GET /images/json`, without the placeholder `<none>` of older engines."""
    return ImageSummary(
        id=fields.text(source, "Id"),
        repo_tags=_familiar(tag for tag in fields.texts(source, "RepoTags") if tag != "<none>:<none>"),
        repo_digests=_familiar(name for name in fields.texts(source, "RepoDigests") if not name.startswith("<none>")),
        labels=fields.labels(source, "Labels"),
        created=fields.integer(source, "Created"),
        size_bytes=fields.integer(source, "Size"),
    )


def network_details(source: object) -> NetworkDetails:
    """`GET /networks/{id}` or a row of `GET /networks`."""
    pools = [
        # Some engines append the prefix length to the gateway.
        (fields.text(pool, "Subnet"), fields.text(pool, "Gateway").partition("/")[0])
        for pool in fields.array(source, "IPAM", "Config")
    ]
    subnet, gateway = next((pool for pool in pools if ":" not in pool[0]), ("", ""))
    containers = fields.mapping(source, "Containers")
    return NetworkDetails(
        id=fields.text(source, "Id"),
        name=fields.text(source, "Name"),
        driver=fields.text(source, "Driver"),
        gateway=gateway,
        subnet=subnet,
        pools=tuple(pools),
        bridge=fields.labels(source, "Options").get(BRIDGE_NAME) or f"br-{fields.text(source, 'Id')[:12]}",
        labels=fields.labels(source, "Labels"),
        created=fields.text(source, "Created"),
        containers={key: fields.text(value, "IPv4Address").partition("/")[0] for key, value in containers.items()},
    )


def volume_details(source: object) -> VolumeDetails:
    """`GET /volumes/{name}` or a row of `GET /volumes`."""
    return VolumeDetails(
        name=fields.text(source, "Name"),
        driver=fields.text(source, "Driver"),
        mountpoint=fields.text(source, "Mountpoint"),
        labels=fields.labels(source, "Labels"),
        created=fields.text(source, "CreatedAt"),
    )


def engine_event(source: object) -> EngineEvent:
    """One value of `GET /events`; reads only the fields that API 1.52 still has."""
    action = fields.text(source, "Action")
    if action.startswith("exec_"):
        action = action.partition(":")[0]
    elif action == "remove" and fields.text(source, "Type") == "container":
        action = "destroy"  # Podman's word for it
    nanos = fields.integer(source, "timeNano") or fields.integer(source, "time") * 1_000_000_000
    return EngineEvent(
        type=fields.text(source, "Type"),
        action=action,
        id=fields.text(source, "Actor", "ID"),
        attributes=fields.labels(source, "Actor", "Attributes"),
        time_nano=nanos,
    )


def engine_info(source: object, *, api_version: str) -> EngineInfo:
    """`GET /info`. Engines from before cgroup v2 do not report a version: they use v1."""
    cgroup = fields.text(source, "CgroupVersion")
    return EngineInfo(
        name=fields.text(source, "Name"),
        server_version=fields.text(source, "ServerVersion"),
        api_version=api_version,
        os=fields.text(source, "OSType"),
        arch=fields.text(source, "Architecture"),
        cgroup_version=int(cgroup) if cgroup.isdecimal() else 1,
        logging_driver=fields.text(source, "LoggingDriver"),
        root_dir=fields.text(source, "DockerRootDir"),
        ncpu=fields.integer(source, "NCPU"),
        mem_total=fields.integer(source, "MemTotal"),
    )
