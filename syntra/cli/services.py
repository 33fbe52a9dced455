"""Resolves the service that the user named: `api`, `shop/api` or `svc_shop-api`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from syntra.agent.config.suggest import hint
from syntra.cli.agent_client import ask
from syntra.cli.as_typed import typed
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.reading import Json, rows, text


def find(socket: Path, given: str) -> str:
    """The service id for a given name. Raises CliError when it matches no service, or several."""
    return typed(_found(socket, given), given)


def chosen(services: Sequence[Json], given: str) -> list[Json]:
    """The one service of a list that a name means. Raises CliError as `find` does."""
    service_id = typed(_chosen(services, given), given)
    found = [service for service in services if text(service, "service_id") == service_id]
    if not found:
        raise CliError(f"cannot find service {given}: there is none with that name; see `syntra-agent ps`")
    return found


def _found(socket: Path, given: str) -> str:
    return _chosen(rows(ask(socket, "list_services", {}), "services"), given)


def _chosen(services: Sequence[Json], given: str) -> str:
    if any(text(service, "service_id") == given for service in services):
        return given
    matches = [service for service in services if given in (text(service, "service_name"), _qualified(service))]
    if len(matches) == 1:
        return text(matches[0], "service_id")
    if matches:
        choices = {_qualified(service) for service in matches}
        if len(choices) < len(matches):
            choices = {text(service, "service_id") for service in matches}
        raise CliError(
            f"cannot choose a service: several are called {given}; use one of {', '.join(sorted(choices))}",
            ExitCode.USAGE,
        )
    if given.startswith("svc_"):
        # The id may be unknown here (stopped and removed, say): the agent decides.
        return given
    names = [text(service, "service_name") for service in services] + [_qualified(service) for service in services]
    raise CliError(
        f"cannot find service {given}: there is none with that name{hint(given, names) or '; see `syntra-agent ps`'}"
    )


def _qualified(service: Json) -> str:
    return f"{text(service, 'project_name')}/{text(service, 'service_name')}"
