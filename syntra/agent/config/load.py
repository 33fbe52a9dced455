"""Loads settings from a file, the environment and the command line, with the origin of every value.

Precedence, lowest first: default, file, environment, command line. The token has more places, below the file:
`control_plane.token_file`, then `$CREDENTIALS_DIRECTORY/token` (systemd's LoadCredential=), then the file `token` in
the directory of the configuration file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

from syntra.agent.config import sources
from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.files import FileForbidden, FileMissing, FileProblem, read_small
from syntra.agent.config.schema import Value
from syntra.agent.config.settings import BY_DOTTED, KEYS, Settings, build
from syntra.agent.config.values import from_text, from_toml, token
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

DEFAULT_PATH = Path("/etc/syntra/agent.toml")
TOKEN_FILE_MAX = 8 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHECK_PATH = "check --config and SYNTRA_CONFIG"


@frozen
class Loaded:
    """Settings, and where their values came from."""

    settings: Settings
    origins: Mapping[str, str]
    """By dotted key: `default`, `file`, `environment SYNTRA_…`, `command line`, `token file` or `credential`."""
    path: Path
    found: bool
    """False: no path was given and the default file does not exist; only defaults and environment apply."""
    warnings: tuple[str, ...] = ()
    """Settings that work but should be changed, one sentence each."""
    command_line: Mapping[str, str] = field(default_factory=dict)
    """Values from the command line; a reload applies them again."""


def configuration_path(given: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """The file to read, and whether it was named explicitly: the argument, then SYNTRA_CONFIG, then the default."""
    if given is not None:
        return given, True
    if environ.get("SYNTRA_CONFIG"):
        return Path(environ["SYNTRA_CONFIG"]), True
    return DEFAULT_PATH, False


def reload(loaded: Loaded, *, environ: Mapping[str, str]) -> Loaded:
    """Load again from the same sources, for SIGHUP. A default file may appear; a file that existed may not vanish."""
    return load(loaded.path if loaded.found else None, environ=environ, command_line=loaded.command_line)


def load(path: Path | None, *, environ: Mapping[str, str], command_line: Mapping[str, str] | None = None) -> Loaded:
    """Read, check and merge. Raises ConfigurationError, whose text is one line without secrets.

    `command_line`: values as text, by dotted key. A missing file is an error when it was named, else defaults apply.
    """
    path, asked = configuration_path(path, environ)
    source = str(path)
    values: dict[str, Value | None] = {key.dotted: key.default for key in KEYS}
    origins = {key.dotted: "default" for key in KEYS}
    warnings: list[str] = []
    found = _read_file(path, asked, values, origins, warnings)
    for key, value in sources.overrides(environ).items():
        values[key.dotted] = value
        origins[key.dotted] = f"environment {key.variable}"
    for name in sources.unknown_variables(environ):
        warnings.append(
            f"{name} is set in the environment, but no setting has that name; see `syntra-agent config show`"
        )
    for dotted, text in (command_line or {}).items():
        try:
            values[dotted] = from_text(BY_DOTTED[dotted], text)
        except ValueError as exc:
            raise ConfigurationError("from the command line", f"{dotted}: {exc}") from exc
        origins[dotted] = "command line"
    _find_token(values, origins, environ, source)
    _find_headers(values, origins, source)
    _check_together(values, source, warnings)
    return Loaded(
        settings=build(values),
        origins=origins,
        path=path,
        found=found,
        warnings=tuple(warnings),
        command_line=dict(command_line or {}),
    )


def load_socket(path: Path | None, *, environ: Mapping[str, str]) -> Path:
    """Load only the socket's path, for commands that talk to the agent.

    An error elsewhere in the file must not keep an operator from a running agent. When the default file is missing or
    this user may not read it, the default path is used.
    """
    socket_key = BY_DOTTED["socket"]
    given = environ.get(socket_key.variable)
    path, asked = configuration_path(path, environ)
    try:
        if given:
            return Path(str(from_text(socket_key, given)))
        written = sources.read(path).tables.get("socket", socket_key.default)
        return Path(str(from_toml(socket_key, written)))
    except ValueError as exc:
        where, name = ("from the environment", socket_key.variable) if given else (str(path), "socket")
        raise ConfigurationError(where, f"{name}: {exc}") from exc
    except FileProblem as exc:
        if asked and isinstance(exc, FileMissing):
            raise ConfigurationError(str(path), f"{exc}; {_CHECK_PATH}") from exc
        if asked or not isinstance(exc, FileMissing | FileForbidden):
            raise ConfigurationError(str(path), str(exc)) from exc
        return Path(str(socket_key.default))


def _read_file(
    path: Path,
    asked: bool,
    values: dict[str, Value | None],
    origins: dict[str, str],
    warnings: list[str],
) -> bool:
    try:
        read = sources.read(path)
    except FileMissing as exc:
        if asked:
            raise ConfigurationError(str(path), f"{exc}; {_CHECK_PATH}") from exc
        return False
    except FileProblem as exc:
        raise ConfigurationError(str(path), str(exc)) from exc
    for dotted, value in sources.checked(read, str(path)).items():
        values[dotted] = value
        origins[dotted] = "file"
    if origins["control_plane.token"] == "file" and read.mode & 0o077:
        warnings.append(f"{path} holds the token and others may read it; run `chmod 600 {path}` or use token_file")
    return True


def _find_token(
    values: dict[str, Value | None], origins: dict[str, str], environ: Mapping[str, str], source: str
) -> None:
    if values["control_plane.token"] is not None:
        if values["control_plane.endpoint"] is None:
            raise ConfigurationError(
                source, "control_plane.endpoint: is missing although a token is set; give the control plane's address"
            )
        return
    if values["control_plane.endpoint"] is None:
        return
    token_file = values["control_plane.token_file"]
    directory = environ.get("CREDENTIALS_DIRECTORY")
    found = None
    if token_file is not None:
        found = _read_token(Path(str(token_file)), source, "control_plane.token_file", private=True)
        origins["control_plane.token"] = "token file"
        if found is None:
            raise ConfigurationError(
                source, f"control_plane.token_file: cannot read {token_file}: there is no such file"
            )
    elif directory:
        # systemd keeps this directory private; an ACL may set group bits on its files, so do not check them.
        found = _read_token(Path(directory, "token"), source, "control_plane.token", private=False)
        origins["control_plane.token"] = "credential"
    else:
        # `syntra-agent install` puts it there; services of systemd get the same file as a credential.
        found = _read_token(Path(source).with_name("token"), source, "control_plane.token", private=True)
        origins["control_plane.token"] = "token file"
    if found is None:
        raise ConfigurationError(
            source, "control_plane.token: is missing although an endpoint is set; set control_plane.token_file"
        )
    values["control_plane.token"] = found


def _find_headers(values: dict[str, Value | None], origins: dict[str, str], source: str) -> None:
    """Read the headers of the OTLP export from their file; headers that are written down come first."""
    file = values["telemetry.export.headers_file"]
    if file is None or values["telemetry.export.headers"]:
        return
    found = _read_token(Path(str(file)), source, "telemetry.export.headers_file", private=True)
    if found is None:
        raise ConfigurationError(source, f"telemetry.export.headers_file: cannot read {file}: there is no such file")
    values["telemetry.export.headers"] = found
    origins["telemetry.export.headers"] = "headers file"


def _read_token(path: Path, source: str, dotted: str, *, private: bool) -> str | None:
    """The token in a file; None when the file does not exist."""
    try:
        file = read_small(path, limit=TOKEN_FILE_MAX)
    except FileMissing:
        return None
    except FileProblem as exc:
        raise ConfigurationError(source, f"{dotted}: cannot read {path}: {exc}") from exc
    if private and file.mode & 0o077:
        raise ConfigurationError(
            source, f"{dotted}: {path} may be read or written by others (mode {file.mode:04o}); run chmod 600 {path}"
        )
    try:
        return token(file.data.decode("ascii", errors="replace"))
    except ValueError as exc:
        raise ConfigurationError(source, f"{dotted}: the content of {path} {exc}") from exc


def _check_together(values: Mapping[str, Value | None], source: str, warnings: list[str]) -> None:
    """Check rules that involve several keys."""
    for section in ("tls", "telemetry.tls", "telemetry.export"):
        both = f"{section}.cert_path", f"{section}.key_path"
        for have, lack in (both, both[::-1]):
            if values[have] is not None and values[lack] is None:
                raise ConfigurationError(source, f"{lack}: is missing although {have} is set; they only work together")
    _check_telemetry(values, source)
    if values["networking.dns.mode"] == "agent" and values["networking.dns.port"] != 53:
        raise ConfigurationError(
            source, "networking.dns.port: must be 53 with mode agent: no other port can be named to a container"
        )
    endpoint = values["control_plane.endpoint"]
    if isinstance(endpoint, str):
        address = urlsplit(endpoint)
        if address.scheme == "ws" and address.hostname not in LOOPBACK:
            warnings.append("control_plane.endpoint is ws://: the token travels unencrypted; use wss://")


def _check_telemetry(values: Mapping[str, Value | None], source: str) -> None:
    if values["telemetry.otlp_grpc_port"] == values["telemetry.otlp_http_port"]:
        port = values["telemetry.otlp_http_port"]
        raise ConfigurationError(source, f"telemetry.otlp_http_port: {port} is already telemetry.otlp_grpc_port")
    if values["telemetry.tls.client_ca_path"] is not None and values["telemetry.tls.cert_path"] is None:
        raise ConfigurationError(
            source, "telemetry.tls.cert_path: is missing although telemetry.tls.client_ca_path is set"
        )
    listen = values["telemetry.listen"]
    if values["telemetry.tls.cert_path"] is not None and isinstance(listen, tuple):
        for address in listen:
            if ipaddress.ip_address(address).is_unspecified:
                # Containers send to their gateway without TLS; the wildcard would take the gateway's place.
                raise ConfigurationError(
                    source, f"telemetry.listen: {address} cannot have TLS; name the addresses that should"
                )
    if values["telemetry.scrape"] and values["telemetry.receivers"] == "off":
        raise ConfigurationError(
            source, "telemetry.scrape: needs telemetry.receivers = on: what receives telemetry scrapes, too"
        )
    interval, timeout = values["telemetry.prometheus.interval_secs"], values["telemetry.prometheus.timeout_secs"]
    if isinstance(interval, float) and isinstance(timeout, float) and timeout > interval:
        raise ConfigurationError(
            source, f"telemetry.prometheus.timeout_secs: {timeout:g} is longer than interval_secs, {interval:g}"
        )
    if values["telemetry.export.endpoint"]:
        _check_export(values, source)


def _check_export(values: Mapping[str, Value | None], source: str) -> None:
    """Check what only the exporter knows: the form of endpoint and headers."""
    # Imported here: most agents export to nothing, and this loads the exporters.
    from syntra.telemetry.shipping.export import ExportSettings, Protocol, check

    try:
        check(
            ExportSettings(
                endpoint=str(values["telemetry.export.endpoint"]),
                protocol=Protocol(values["telemetry.export.protocol"]),
                headers=str(values["telemetry.export.headers"] or ""),
            )
        )
    except AgentError as wrong:
        raise ConfigurationError(source, f"telemetry.export: {wrong}") from wrong
