"""The plan of an install: what is wanted and what is there -> the actions that are missing. Pure.

A second install with the same input has no actions. An existing configuration is never changed: an endpoint or server
id that differs from it is refused, and the sentence names the line to edit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from syntra.install import places
from syntra.install.actions import (
    Action,
    Enable,
    InstallVersion,
    MakeDirectory,
    MakeLink,
    Plan,
    ReloadManager,
    Restart,
    Start,
    WriteFile,
)
from syntra.install.errors import InstallError
from syntra.install.first_configuration import configuration
from syntra.install.observed import Manager, Observed
from syntra.install.openrc_script import SCRIPT
from syntra.install.systemd_unit import unit
from syntra.update.version import Version
from syntra.utils.frozen import frozen

OLDEST_SYSTEMD = 247
"""The first with LoadCredential= (systemd.exec(5))."""

_ETC = "/etc/syntra"
_DIRECTORIES = ((_ETC, 0o755), (places.OPT, 0o755), (places.DATA, 0o700), (places.CACHE, 0o700))


@frozen
class Wanted:
    """What the user asked for. The fresh ids are used only where the machine has none."""

    version: str
    boot_check: str = field(repr=False)
    fresh_agent_id: str
    fresh_server_id: str
    endpoint: str | None = None
    server_id: str | None = None
    token: str | None = field(default=None, repr=False)
    channel: str | None = None
    base_url: str | None = None
    """A mirror of the releases, for later updates."""
    root_keys: bytes | None = None
    """The mirror's root keys: the content of a file for `update.root_keys_file`."""
    start: bool = True

    @property
    def update(self) -> dict[str, str]:
        """The section [update] of a first configuration."""
        keys = places.ROOT_KEYS if self.root_keys is not None else None
        named = {"channel": self.channel, "base_url": self.base_url, "root_keys_file": keys}
        return {name: value for name, value in named.items() if value is not None}


def install_plan(wanted: Wanted, seen: Observed) -> Plan:
    """The actions in order. Raises InstallError where the wish contradicts the machine."""
    _check(wanted, seen)
    files = tuple(_files(wanted, seen))
    service = _service_file(seen)
    reload = (ReloadManager(),) if service and seen.manager is Manager.SYSTEMD else ()
    program = tuple(_program(wanted, seen))
    link = () if seen.links.get(places.COMMAND) == places.PROGRAM else (_command_link(),)
    changes: tuple[Action, ...] = (*_directories(seen), *files, *program, *link, *service, *reload)
    # A new link alone changes nothing for a running agent.
    needs_restart = bool(files or program or service)
    return Plan(
        actions=(*changes, *_running(wanted, seen, needs_restart=needs_restart)), notes=tuple(_notes(wanted, seen))
    )


def server_id_of(wanted: Wanted, seen: Observed) -> str:
    """The server's id after the install."""
    configured = (seen.configured or {}).get("server_id")
    return wanted.server_id or configured or seen.kept_ids.get("server_id") or wanted.fresh_server_id


def endpoint_of(wanted: Wanted, seen: Observed) -> str | None:
    """The control plane after the install; None for an agent that runs alone."""
    return seen.configured.get("endpoint") if seen.configured is not None else wanted.endpoint


def _check(wanted: Wanted, seen: Observed) -> None:
    if seen.manager is Manager.SYSTEMD and seen.systemd_version < OLDEST_SYSTEMD:
        raise _refused(
            f"systemd {seen.systemd_version} cannot pass credentials to a service",
            f"use a system with systemd {OLDEST_SYSTEMD} or newer",
        )
    if seen.current is not None and Version.parse(wanted.version) < Version.parse(seen.current):
        raise _refused(
            f"version {seen.current} is installed, which is newer than {wanted.version}",
            f"keep it, or run `syntra-agent update --version {wanted.version}`",
        )
    if seen.configured is not None:
        for key, given in (("control_plane.endpoint", wanted.endpoint), ("server_id", wanted.server_id)):
            has = seen.configured.get(key.rpartition(".")[2])
            if given is not None and given != has:
                raise _refused(
                    f"{places.CONFIGURATION} has {key} = {has or 'nothing'} and is kept",
                    f"set {key} there to {given}, or omit the option",
                )
    if endpoint_of(wanted, seen) is None and wanted.token is not None:
        raise _refused("there is a token but no control plane", "give its address with --endpoint")
    if endpoint_of(wanted, seen) is not None and wanted.token is None and not _has_token(seen):
        raise _refused("the control plane needs a token", "give it with --token-file FILE")


def _refused(reason: str, next_step: str) -> InstallError:
    return InstallError(f"cannot install the agent: {reason}; {next_step}")


def _has_token(seen: Observed) -> bool:
    file = seen.files.get(places.TOKEN)
    return file is not None and bool(file.content.strip())


def _directories(seen: Observed) -> Iterator[MakeDirectory]:
    for path, mode in _DIRECTORIES:
        # A stricter mode than ours is the operator's choice.
        if path not in seen.directories or seen.directories[path] & ~mode:
            yield MakeDirectory(path=path, mode=mode)


def _files(wanted: Wanted, seen: Observed) -> Iterator[WriteFile]:
    if seen.configured is None:
        text = configuration(
            agent_id=seen.kept_ids.get("agent_id") or wanted.fresh_agent_id,
            server_id=server_id_of(wanted, seen),
            endpoint=wanted.endpoint,
            update=wanted.update,
        )
        yield WriteFile(
            path=places.CONFIGURATION, content=text.encode(), mode=0o600, purpose="the configuration, with new ids"
        )
    if wanted.root_keys is not None:
        yield from _file_if_changed(
            seen, places.ROOT_KEYS, wanted.root_keys, 0o644, "the root keys of the mirror, for updates"
        )
    if wanted.token is not None:
        content, purpose = wanted.token.encode() + b"\n", "the token of the control plane"
    else:
        # The unit passes the file on as a credential, so it has to exist.
        content, purpose = b"", "an empty file for the token of a control plane"
    kept = seen.files.get(places.TOKEN)
    if kept is None or (wanted.token is not None and kept.content.strip() != content.strip()) or kept.mode & 0o077:
        unchanged = kept is not None and wanted.token is None
        yield WriteFile(
            path=places.TOKEN,
            content=kept.content if unchanged and kept is not None else content,
            mode=0o600,
            purpose="the same token, for root alone" if unchanged else purpose,
        )


def _program(wanted: Wanted, seen: Observed) -> Iterator[Action]:
    if seen.current != wanted.version or not seen.has_same_program:
        yield InstallVersion(
            root=places.OPT,
            version=wanted.version,
            replaces=seen.current if seen.current != wanted.version else None,
        )
    yield from _file_if_changed(
        seen,
        places.BOOT_CHECK,
        wanted.boot_check.encode(),
        0o755,
        "brings back the previous version after a bad update",
    )


def _command_link() -> MakeLink:
    return MakeLink(path=places.COMMAND, target=places.PROGRAM)


def _service_file(seen: Observed) -> tuple[WriteFile, ...]:
    match seen.manager:
        case Manager.SYSTEMD:
            return tuple(
                _file_if_changed(seen, places.UNIT, unit(seen.systemd_version).encode(), 0o644, "the systemd unit")
            )
        case Manager.OPENRC:
            return tuple(_file_if_changed(seen, places.OPENRC_SCRIPT, SCRIPT.encode(), 0o755, "the OpenRC script"))
        case Manager.NONE:
            return ()


def _file_if_changed(seen: Observed, path: str, content: bytes, mode: int, purpose: str) -> Iterator[WriteFile]:
    kept = seen.files.get(path)
    if kept is None or kept.content != content or kept.mode != mode:
        yield WriteFile(path=path, content=content, mode=mode, purpose=purpose)


def _running(wanted: Wanted, seen: Observed, *, needs_restart: bool) -> Iterator[Action]:
    if seen.manager is Manager.NONE:
        return
    if not seen.is_enabled:
        yield Enable()
    if not wanted.start:
        return
    if not seen.is_active:
        yield Start()
    elif needs_restart:
        yield Restart()


def _notes(wanted: Wanted, seen: Observed) -> Iterator[str]:
    if seen.configured is not None:
        yield f"{places.CONFIGURATION} is kept as it is"
    if not seen.has_engine:
        yield "no container engine answers on this server yet; the agent waits for it (for Docker see docs.docker.com)"
    if seen.manager is Manager.NONE:
        yield f"neither systemd nor OpenRC runs here; start the agent yourself with `{places.COMMAND} start`"
    elif not wanted.start and not seen.is_active:
        yield "the service starts at the next boot"
