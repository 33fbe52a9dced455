"""`controlplane token create`: a token for a server's agent, from the control plane that runs on this machine."""

from __future__ import annotations

import json
from pathlib import Path

from syntra.cli.controlplane_client import Api, CallRefused, operator_token
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.reading import Json, text
from syntra.cli.terminal import out, printable
from syntra.utils.frozen import frozen

_EVERY = ("0.0.0.0", "::")


@frozen
class Place:
    """Where the control plane listens and keeps its operator's token. `certificate` is that of its TLS, if it has."""

    host: str
    port: int
    data_dir: Path
    certificate: Path | None


def create(place: Place, server: str) -> ExitCode:
    """Create a token and print the lines for agent.toml. Raises CliError."""
    made = _post(place, {"server_id": server, "name": server})
    scheme = "ws" if place.certificate is None else "wss"
    # Agents elsewhere cannot dial "every address".
    host = http_host("localhost" if place.host in _EVERY else place.host)
    endpoint = f"{scheme}://{host}:{place.port}/agent/ws"
    out("# Put these lines at the top of agent.toml, and restart the agent:")
    out(f"server_id = {json.dumps(text(made, 'server_id'))}")
    out(f"control_plane = {{endpoint = {json.dumps(printable(endpoint))}, token = {json.dumps(text(made, 'token'))}}}")
    return ExitCode.OK


def http_host(host: str) -> str:
    """The host as URLs have it."""
    return f"[{host}]" if ":" in host else host


def _post(place: Place, body: Json) -> Json:
    host = "localhost" if place.host in _EVERY else place.host
    scheme = "http" if place.certificate is None else "https"
    api = Api(
        url=f"{scheme}://{http_host(host)}:{place.port}",
        token=operator_token(None, place.data_dir),
        certificates=place.certificate,
        # The file is the very certificate; its name is that by which agents dial.
        is_pinned=True,
    )
    try:
        return api.call("POST", "/api/v1/tokens", body)
    except CallRefused as refused:
        raise CliError(f"cannot create a token: {refused.message}", refused.exit_code) from refused
