"""A service of a Compose file as the keys of a service file, and what cannot be carried over. Pure."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from syntra.cli.service_hints import refusal, unknown_key
from syntra.cli.service_yaml import plain

_HOST_RULE = re.compile(r"\s*Host\(`([^`]+)`\)\s*")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PORT = re.compile(r"(?:(?P<published>\d+):)?(?P<target>\d+)(?:/tcp)?")
_RESERVED_LABELS = ("syntra.", "com.docker.", "traefik.")
_SAME = (
    "command",
    "entrypoint",
    "user",
    "working_dir",
    "stop_signal",
    "shm_size",
    "ulimits",
    "extra_hosts",
    "cap_drop",
)
_RENAMED = {"mem_limit": "memory_limit", "cpus": "cpu_limit", "hostname": "internal_hostname"}
# Nothing is lost without them: the agent does the same by itself.
_IMPLIED = ("container_name", "depends_on", "links", "pull_policy")

Drop = Callable[[str, str], None]


class ComposeService:
    """One service. `keys` are those of the service file; `dropped` names what is lost, each with a reason."""

    def __init__(self, name: str, service: Mapping[str, object], volumes: object, source: Path, target: Path) -> None:
        """`volumes` are the file's own; `source` is its folder, `target` the folder of the service file."""
        self.name = name
        self.keys: dict[str, object] = {}
        self.dropped: list[str] = []
        self._service = service
        self._volumes_of_file = volumes if isinstance(volumes, Mapping) else {}
        self._source, self._target = source, target
        for key, value in service.items():
            if value is not None and not key.startswith("x-"):
                self._carry(key, value)
        if "image" not in self.keys:
            # As Compose calls what it builds.
            built = re.sub(r"[^a-z0-9_-]+", "-", f"{source.resolve().name}-{name}".lower()).strip("-_")
            self.keys = {"image": built, **self.keys}
        if str(self.keys.get("replicas", "1")) != "1" and self.keys.pop("expose_port", None) is not None:
            self._drop("ports", "several replicas cannot share a port of the host")

    def _carry(self, key: str, value: object) -> None:
        carry = getattr(self, f"_carry_{key}", None)
        if carry is not None:
            carry(value)
        elif key in _SAME or key == "image":
            self.keys[key] = value
        elif key in _RENAMED:
            self.keys[_RENAMED[key]] = value
        elif key in ("init", "read_only"):
            self.keys[key] = plain(str(value))
        elif key in _IMPLIED:
            pass
        else:
            reason = refusal(key) or unknown_key(key, [])
            self._drop(
                key, reason.removeprefix("unknown key; ").replace("unknown key", "a service file has no such key")
            )

    def _drop(self, key: str, reason: str) -> None:
        self.dropped.append(f"{self.name}.{key}: {reason}")

    def _carry_build(self, _value: object) -> None:
        advice = "" if self._service.get("image") else ", and write its name in image"
        self._drop("build", f"build and push the image elsewhere{advice}")

    def _carry_environment(self, value: object) -> None:
        env: dict[str, object] = {}
        for name, text in _pairs(value):
            if text is None:
                self._drop(
                    f"environment.{name}", f"it has no value; write {name}: ${{{name}}}, and deploy with --expand"
                )
            else:
                env[name] = text
        if env:
            self.keys["env"] = env

    def _carry_env_file(self, value: object) -> None:
        items = value if isinstance(value, list) else [value]
        paths = [item.get("path") if isinstance(item, Mapping) else item for item in items]
        self.keys["env_file"] = [
            os.path.relpath(self._source / str(path), self._target) for path in paths if path is not None
        ]

    def _carry_labels(self, value: object) -> None:
        labels: dict[str, object] = {}
        for name, text in _pairs(value):
            if name.startswith("traefik.") and self._carry_route(name, text or ""):
                continue
            if name.startswith(_RESERVED_LABELS):
                self._drop(f"labels.{name}", "use domains and the other keys of routing")
            else:
                labels[name] = text or ""
        if labels:
            self.keys["labels"] = labels

    def _carry_route(self, name: str, text: str) -> bool:
        if name.endswith(".rule"):
            hosts = [_HOST_RULE.fullmatch(part) for part in text.split("||")]
            domains = [found[1] for found in hosts if found is not None]
            if len(domains) == len(hosts):
                self.keys.setdefault("domains", domains)
                return True
        if name.endswith(".loadbalancer.server.port") and text.isdigit():
            self.keys["port"] = int(text)
            return True
        # The entry points and certificates are the agent's business.
        return name == "traefik.enable" or name.endswith((".entrypoints", ".tls", ".tls.certresolver"))

    def _carry_ports(self, value: object) -> None:
        for item in value if isinstance(value, list) else []:
            found = _port_of(item)
            if found is None:
                self._drop("ports", f"{_shown(item)} is not PORT or PORT:PORT of TCP; write port and expose_port")
                continue
            target, published = found
            known = self.keys.setdefault("port", target)
            if known != target or (
                published is not None and self.keys.setdefault("expose_port", published) != published
            ):
                self._drop("ports", f"{_shown(item)} is one more port; a service has one")

    def _carry_expose(self, value: object) -> None:
        ports = [str(item) for item in value if str(item).isdigit()] if isinstance(value, list) else []
        if ports and "ports" not in self._service:
            self.keys.setdefault("port", int(ports[0]))

    def _carry_volumes(self, value: object) -> None:
        volumes = (
            [found for item in value if (found := self._volume(item)) is not None] if isinstance(value, list) else []
        )
        if volumes:
            self.keys["volumes"] = volumes

    def _volume(self, item: object) -> dict[str, object] | None:
        if isinstance(item, Mapping):
            kind, source, target = (str(item.get(name) or "") for name in ("type", "source", "target"))
            is_read_only = plain(str(item.get("read_only"))) is True
            if kind == "tmpfs":
                mounts = self.keys.setdefault("tmpfs", [])
                assert isinstance(mounts, list), "cannot happen because `_carry_tmpfs` makes one"
                mounts.append(target)
                return None
        else:
            parts = str(item).split(":")
            source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
            is_read_only = "ro" in (parts[2].split(",") if len(parts) > 2 else [])
        if not source or "$" in source:
            self._drop("volumes", f"{_shown(item)} has no name or path that is known here; write it in volumes")
            return None
        volume: dict[str, object] = {"container_path": target, **({"read_only": True} if is_read_only else {})}
        if source.startswith("~"):
            return {"host_path": os.path.normpath(os.path.expanduser(source)), **volume}
        if source.startswith(("/", ".")):
            return {"host_path": os.path.normpath(self._source.resolve() / source), **volume}
        about = self._volumes_of_file.get(source)
        if isinstance(about, Mapping) and about.get("external") and plain(str(about["external"])) is not False:
            return {"name": str(about.get("name") or source), **volume, "external": True}
        return {"name": source, **volume}

    def _carry_tmpfs(self, value: object) -> None:
        mounts = self.keys.setdefault("tmpfs", [])
        assert isinstance(mounts, list), "cannot happen because only lists are set"
        mounts += value if isinstance(value, list) else [value]

    def _carry_restart(self, value: object) -> None:
        if value not in ("always", "unless-stopped"):
            self._drop("restart", f"{value} is not possible; a service that exits is always started again")

    def _carry_scale(self, value: object) -> None:
        self.keys["replicas"] = plain(str(value))

    def _carry_deploy(self, value: object) -> None:
        for key, item in value.items() if isinstance(value, Mapping) else ():
            limits = item.get("limits") if key == "resources" and isinstance(item, Mapping) else None
            if key == "replicas":
                self._carry_scale(item)
            elif isinstance(limits, Mapping):
                renamed = {"cpus": "cpu_limit", "memory": "memory_limit"}
                self.keys |= {renamed[name]: limits[name] for name in renamed if limits.get(name) is not None}
            elif key != "restart_policy":
                self._drop(f"deploy.{key}", "use strategy, replicas, cpu_limit and memory_limit")

    def _carry_stop_grace_period(self, value: object) -> None:
        if (found := _seconds(value)) is not None:
            self.keys["stop_grace_seconds"] = found
        else:
            self._drop("stop_grace_period", "it is not a duration")

    def _carry_healthcheck(self, value: object) -> None:
        about = value if isinstance(value, Mapping) else {}
        test = about.get("test")
        words = test if isinstance(test, list) else ["CMD-SHELL", test] if test else []
        if plain(str(about.get("disable"))) is True or words[:1] == ["NONE"]:
            self._drop("healthcheck", "a service file cannot switch off the check of the image")
            return
        if len(words) < 2:
            self._drop("healthcheck", "it has no test; write health_check")
            return
        command = ["sh", "-c", str(words[1])] if words[0] == "CMD-SHELL" else words[1:]
        check: dict[str, object] = {"type": "exec", "command": command}
        for name in ("interval", "timeout", "start_period"):
            if (found := _seconds(about.get(name))) is not None:
                check[f"{name}_seconds"] = found
        if about.get("retries") is not None:
            check["retries"] = plain(str(about["retries"]))
        self.keys["health_check"] = check

    def _carry_networks(self, value: object) -> None:
        if list(value if isinstance(value, list | dict) else ()) != ["default"]:
            self._drop("networks", "use project; services of one project share a network")


def _pairs(value: object) -> list[tuple[str, str | None]]:
    if isinstance(value, Mapping):
        return [(str(key), None if item is None else str(item)) for key, item in value.items()]
    pairs = []
    for item in value if isinstance(value, list) else []:
        name, equals, text = str(item).partition("=")
        pairs.append((name, text if equals else None))
    return pairs


def _port_of(item: object) -> tuple[int, int | None] | None:
    """The port in the container, and that of the host."""
    if isinstance(item, Mapping):
        if str(item.get("protocol") or "tcp") != "tcp" or item.get("host_ip"):
            return None
        published = item.get("published")
        item = f"{published}:{item.get('target')}" if published else str(item.get("target"))
    found = _PORT.fullmatch(str(item))
    if found is None:
        return None
    return int(found["target"]), int(found["published"]) if found["published"] else None


def _seconds(value: object) -> float | None:
    """A Compose duration such as `1m30s`, in seconds."""
    text = str(value)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    total = sum((float(number) * _UNITS[unit] for number, unit in parts), 0.0)
    return int(total) if total.is_integer() else total


def _shown(item: object) -> str:
    return ",".join(f"{key}={value}" for key, value in item.items()) if isinstance(item, Mapping) else str(item)
