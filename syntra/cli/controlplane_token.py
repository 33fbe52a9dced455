"""`controlplane token create`: a token for a server's agent, from the control plane that runs on this machine."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path

from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.reading import Json, section, text
from syntra.cli.terminal import out, printable
from syntra.utils.frozen import frozen

ANSWER_SECS = 10.0
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
    where = f"{http_host(place.host)}:{place.port}"
    token = _operator_token(place.data_dir / "operator.token")
    host = "localhost" if place.host in _EVERY else place.host
    connection: http.client.HTTPConnection
    if place.certificate is None:
        connection = http.client.HTTPConnection(host, place.port, timeout=ANSWER_SECS)
    else:
        context = ssl.create_default_context(cafile=str(place.certificate))
        # The file is the very certificate; its name is that by which agents dial.
        context.check_hostname = False
        connection = http.client.HTTPSConnection(host, place.port, timeout=ANSWER_SECS, context=context)
    try:
        connection.request("POST", "/api/v1/tokens", json.dumps(body), {"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        known = json.loads(answer.read(65536))
    except (OSError, http.client.HTTPException, ValueError) as failed:
        raise CliError(
            f"cannot create a token: no control plane answers at {where} ({failed}); run `syntra-agent controlplane`, "
            "or give the --listen and --data-dir that it has",
            ExitCode.UNAVAILABLE,
        ) from failed
    finally:
        connection.close()
    if answer.status != 201:
        raise CliError(f"cannot create a token: {text(section(known, 'error'), 'message', str(answer.status))}")
    made: Json = known
    return made


def _operator_token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError as refused:
        raise CliError(
            f"cannot create a token: {path} belongs to another user; run this as the control plane's user",
            ExitCode.REFUSED,
        ) from refused
    except OSError as failed:
        raise CliError(
            f"cannot create a token: there is no {path}; run `syntra-agent controlplane` first, or give its --data-dir",
            ExitCode.UNAVAILABLE,
        ) from failed
