"""Configurations that do not hold: each is one sentence that names the file or variable and the key, and no secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.load import load, load_socket
from syntra.agent.config.sources import SIZE_MAX

SECRET = "syn_agt_do-not-show"
CP = "control_plane.endpoint = 'wss://cp/agent/ws'\n"
EXPORT = "telemetry.export.endpoint = 'http://otlp.example:4317'\n"

FILES: dict[str, tuple[str, str]] = {
    "port too large": ("telemetry.otlp_http_port = 70000", "telemetry.otlp_http_port: 70000 is not a port (1–65535)"),
    "port zero": ("telemetry.otlp_grpc_port = 0", "telemetry.otlp_grpc_port: 0 is not a port (1–65535)"),
    "a wildcard with TLS": (
        "telemetry.listen = ['10.0.0.1', '::']\ntelemetry.tls = {cert_path = '/c', key_path = '/k'}",
        "telemetry.listen: :: cannot have TLS; name the addresses that should",
    ),
    "ports equal": (
        "telemetry.otlp_http_port = 4317",
        "telemetry.otlp_http_port: 4317 is already telemetry.otlp_grpc_port",
    ),
    "unknown top-level key": ("data_dirr = '/x'", "data_dirr: unknown key, did you mean data_dir?"),
    "unknown key of a section": (
        "telemetry.otlp_htp_port = 1",
        "telemetry.otlp_htp_port: unknown key, did you mean otlp_http_port?",
    ),
    "key in the wrong section": (
        "[runtime]\nsampling_rate = 0.1",
        "runtime.sampling_rate: unknown key, did you mean telemetry.sampling_rate?",
    ),
    "key without its section": ("endpoint = 'x'", "endpoint: unknown key, did you mean control_plane.endpoint?"),
    "unlike anything": ("telemetry.zzz = 1", "telemetry.zzz: unknown key"),
    "unknown section": ("[telemtry]\nx = 1", "unknown section [telemtry], did you mean [telemetry]?"),
    "section unlike anything": ("[zzz]\nx = 1", "unknown section [zzz]"),
    "section that is a value": ("telemetry = 5", "telemetry: expected a section [telemetry], got a whole number"),
    "section given as a list": ("[[telemetry]]", "telemetry: expected a section [telemetry], got a list"),
    "key that is a table": ("[data_dir]\nx = 1", "data_dir: expected a quoted string, got a table"),
    "name with control characters": ('"a\\u001b[2J" = 1', r"'a\x1b[2J': unknown key"),
    "text for a number": (
        "telemetry.otlp_http_port = '4318'",
        "telemetry.otlp_http_port: expected a whole number, got a string",
    ),
    "boolean for a number": (
        "telemetry.buffer_max_mb = true",
        "telemetry.buffer_max_mb: expected a whole number, got true or false",
    ),
    "fraction for a whole number": (
        "telemetry.buffer_max_mb = 1.5",
        "telemetry.buffer_max_mb: expected a whole number, got a number with a fraction",
    ),
    "list for a number": ("telemetry.sampling_rate = [1]", "telemetry.sampling_rate: expected a number, got a list"),
    "date for a text": ("data_dir = 2024-01-01", "data_dir: expected a quoted string, got a date or time"),
    "not a number": ("telemetry.sampling_rate = nan", "telemetry.sampling_rate: the number is out of range (0–1)"),
    "infinite": ("runtime.min_healthy_secs = inf", "runtime.min_healthy_secs: the number is out of range (0–600)"),
    "above the range": ("telemetry.sampling_rate = 1.5", "telemetry.sampling_rate: 1.5 is out of range (0–1)"),
    "below the range": (
        "control_plane.heartbeat_interval_secs = 0",
        "control_plane.heartbeat_interval_secs: 0 is out of range (1–3600)",
    ),
    "huge number": (
        f"telemetry.buffer_max_mb = {'9' * 400}",
        "telemetry.buffer_max_mb: the number is out of range (1–10240)",
    ),
    "huge share": (f"telemetry.sampling_rate = {'9' * 400}", "telemetry.sampling_rate: the number is out of range"),
    "choice with a slip": (
        "runtime.runtime_type = 'dockr'",
        "runtime.runtime_type: 'dockr' is not one of docker, kubernetes, auto, did you mean docker?",
    ),
    "choice unlike anything": ("logging.format = 'xml'", "logging.format: 'xml' is not one of json, text"),
    "relative path": ("data_dir = 'data'", "data_dir: is not an absolute path: it must start with /"),
    "empty path": ("logging.file = ''", "logging.file: is not an absolute path: it must start with /"),
    "path with a control character": ("data_dir = '/a\\u0007'".replace("'", '"'), "data_dir: holds a control"),
    "long socket": (f"socket = '/{'s' * 107}'", "socket: is too long for a socket: at most 107 bytes"),
    "name with spaces": ("agent_id = 'a b'", "agent_id: is not a name"),
    "long name": (f"server_id = '{'a' * 65}'", "server_id: is not a name"),
    "http endpoint": ("control_plane.endpoint = 'https://cp'", "control_plane.endpoint: must start with wss://"),
    "endpoint without host": ("control_plane.endpoint = 'wss:///x'", "control_plane.endpoint: has no host"),
    "endpoint with a wrong port": (
        "control_plane.endpoint = 'wss://cp:70000'",
        "control_plane.endpoint: is not an address",
    ),
    "endpoint with spaces": ("control_plane.endpoint = 'wss://c p'", "control_plane.endpoint: is not an address"),
    "endpoint with a fragment": ("control_plane.endpoint = 'wss://cp#x'", "control_plane.endpoint: must not hold a #"),
    "endpoint without token": (CP, "control_plane.token: is missing although an endpoint is set"),
    "token without endpoint": (
        f"control_plane.token = '{SECRET}'",
        "control_plane.endpoint: is missing although a token is set",
    ),
    "certificate without key": ("tls.cert_path = '/c'", "tls.key_path: is missing although tls.cert_path is set"),
    "key without certificate": ("tls.key_path = '/k'", "tls.cert_path: is missing although tls.key_path is set"),
    "a port that containers cannot be told": (
        "networking.dns.port = 1053",
        "networking.dns.port: must be 53 with mode agent: no other port can be named to a container",
    ),
    "broken": ("data_dir = ", "it is not valid TOML: "),
    "key twice": ("data_dir = '/a'\ndata_dir = '/b'", "it is not valid TOML: "),
    "deep": ("x = " + "[" * 5000, "it is not valid TOML: "),
    "digits beyond reason": ("x = " + "9" * 5000, "it is not valid TOML: a value is too deep or too long"),
    "section in a section that is a value": (
        "networking.dns = 5",
        "networking.dns: expected a section [networking.dns], got a whole number",
    ),
    "unknown key of a section in a section": (
        "networking.dns.prot = 1",
        "networking.dns.prot: unknown key, did you mean port?",
    ),
    "text for a list": (
        "networking.entrypoints = 'web'",
        "networking.entrypoints: expected a list of strings, got a string",
    ),
    "number in a list": ("networking.entrypoints = [1]", "expected a list of strings, got a whole number in it"),
    "too few": ("networking.entrypoints = []", "networking.entrypoints: expected 1 to 16 entries, got 0"),
    "too many": (f"networking.dns.upstreams = {['::1'] * 17}", "networking.dns.upstreams: expected 0 to 16 entries"),
    "twice in a list": (
        "networking.entrypoints = ['web', 'web']",
        "networking.entrypoints: contains a duplicate entry",
    ),
    "backtick in a name": ("networking.entrypoints = ['a`b']", "networking.entrypoints: is not a name of the proxy's"),
    "template in a name": ("networking.cert_resolver = '{{x}}'", "networking.cert_resolver: is not a name"),
    "no name of an object": ("kubernetes.ingress_class = 'Nginx'", "kubernetes.ingress_class: is not the name of an"),
    "no namespace": ("kubernetes.namespaces = ['Shop']", "kubernetes.namespaces: is not the name of a namespace"),
    "two slashes in a Gateway": ("kubernetes.gateway = 'a/b/c'", "kubernetes.gateway: is not the name of a Gateway"),
    "name for an address": ("networking.dns.upstreams = ['dns.example']", "upstreams: holds what is not an IP address"),
    "relative directory": ("networking.traefik_dynamic_dir = 'dyn'", "traefik_dynamic_dir: is not an absolute path"),
    "API that is no HTTP": ("networking.traefik_api = 'unix:///x'", "traefik_api: must start with http://"),
    "API without host": ("networking.traefik_api = 'http:///x'", "networking.traefik_api: has no host"),
    "API with a password": ("networking.traefik_api = 'http://a:b@h'", "networking.traefik_api: must hold no user"),
    "entrypoint without a port": ("networking.proxy_listen = ['web=10.0.0.1']", "proxy_listen: has no port (1–65535)"),
    "entrypoint without a name": ("networking.proxy_listen = [':80']", "networking.proxy_listen: is not an entrypoint"),
    "no entrypoint": ("networking.proxy_listen = []", "networking.proxy_listen: expected 1 to 16 entries, got 0"),
    "no e-mail address": ("networking.acme_email = 'me'", "networking.acme_email: is not an e-mail address"),
    "option in an e-mail address": ("networking.acme_email = 'a@b.c --x'", "acme_email: is not an e-mail address"),
    "no image": ("networking.proxy_image = 'Traefik:v3'", "networking.proxy_image: is not an image, such as traefik:"),
    "metrics that are no HTTP": ("networking.traefik_metrics = '/metrics'", "traefik_metrics: must start with http://"),
    # A secret in the wrong place is not repeated.
    "secret as an image": (f"networking.proxy_image = '{SECRET}:x:y'", "networking.proxy_image: is not an image"),
    "secret as an entrypoint": (f"networking.proxy_listen = ['{SECRET}']", "proxy_listen: is not an entrypoint"),
    "secret as userinfo": (f"control_plane.endpoint = 'wss://x:{SECRET}@cp'", "must not hold a user or password"),
    "secret in the query": (
        f"control_plane.endpoint = 'wss://cp/?token={SECRET}'",
        "must not hold a token in its query",
    ),
    "secret as a port": (f"control_plane.endpoint = 'wss://cp:{SECRET}'", "control_plane.endpoint: is not an address"),
    "secret as a choice": (f"logging.level = '{SECRET}'", "logging.level: is not one of"),
    "secret as a path": (f"control_plane.token_file = '{SECRET}'", "control_plane.token_file: is not an absolute path"),
    "secret as a name": (f"agent_id = '{SECRET} '", "agent_id: is not a name"),
    "secret as a number": (f"telemetry.buffer_max_mb = '{SECRET}'", "telemetry.buffer_max_mb: expected a whole number"),
    "secret of a wrong shape": (
        f"{CP}control_plane.token = '{SECRET} x'",
        "control_plane.token: is not a token: only printable ASCII without spaces",
    ),
    "secret of a wrong type": (
        f"{CP}control_plane.token = ['{SECRET}']",
        "control_plane.token: expected a quoted string, got a list",
    ),
    "secret in broken TOML": (f"control_plane.token = '{SECRET}", "it is not valid TOML: "),
    "secret without quotes": (f"control_plane.token = {SECRET}", "it is not valid TOML: "),
    "secret under a wrong name": (f"control_plane.tokn = '{SECRET}'", "control_plane.tokn: unknown key, did you mean"),
    "client certificates without TLS": (
        "telemetry.tls.client_ca_path = '/a'",
        "telemetry.tls.cert_path: is missing although telemetry.tls.client_ca_path is set",
    ),
    "certificate of the receivers without a key": (
        "telemetry.tls.cert_path = '/c'",
        "telemetry.tls.key_path: is missing",
    ),
    "certificate of the export without a key": (
        "telemetry.export.cert_path = '/c'",
        "telemetry.export.key_path: is missing",
    ),
    "address to listen on that is a name": ("telemetry.listen = ['localhost']", "telemetry.listen: "),
    "relative socket": ("telemetry.otlp_grpc_socket = 'otlp.sock'", "telemetry.otlp_grpc_socket: "),
    "endpoint of the export with userinfo": (
        f"telemetry.export.endpoint = 'http://x:{SECRET}@otlp.example:4317'",
        "telemetry.export.endpoint: must hold no user",
    ),
    "errors are not exported": ("telemetry.export.signals = ['errors']", "telemetry.export.signals: "),
    "header without a value": (
        f"{EXPORT}telemetry.export.headers = 'a=b,{SECRET}'",
        "telemetry.export: cannot read the headers of telemetry.export: entry 2 is not name=value",
    ),
    "header that no line may have": (
        f"{EXPORT}telemetry.export.headers = 'x-key={SECRET}%0A'",
        "the value of x-key contains characters that a header must not have",
    ),
    "header that the agent sets": (
        f"{EXPORT}telemetry.export.headers = 'host={SECRET}'",
        "telemetry.export: cannot read the headers of telemetry.export: the agent sets host itself",
    ),
    "empty secret": (f"{CP}control_plane.token = ''", "control_plane.token: is empty"),
}


def refusal(path: Path | None, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ=environ)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.isprintable()
    assert SECRET not in sentence
    assert SECRET not in repr(caught.value)
    return sentence


@pytest.mark.parametrize("case", sorted(FILES))
def test_a_wrong_file_is_refused_with_its_path_and_key(case: str, tmp_path: Path) -> None:
    text, expected = FILES[case]
    path = tmp_path / "agent.toml"
    path.write_text(text)
    sentence = refusal(path, {})
    assert sentence.startswith(f"cannot load configuration {path}: ")
    assert expected in sentence


ENVIRONMENTS: dict[str, tuple[dict[str, str], str]] = {
    "range": ({"SYNTRA_TELEMETRY__OTLP_HTTP_PORT": "70000"}, "SYNTRA_TELEMETRY__OTLP_HTTP_PORT: 70000 is not a port"),
    "underscored digits": ({"SYNTRA_TELEMETRY__BUFFER_MAX_MB": "1_0"}, "MAX_MB: expected a whole number"),
    "fraction": ({"SYNTRA_TELEMETRY__BUFFER_MAX_MB": "1.0"}, "MAX_MB: expected a whole number"),
    "words": ({"SYNTRA_TELEMETRY__SAMPLING_RATE": "nan"}, "SAMPLING_RATE: expected a number"),
    "many digits": ({"SYNTRA_TELEMETRY__BUFFER_MAX_MB": "9" * 5000}, "MAX_MB: expected a whole number"),
    "choice": ({"SYNTRA_LOGGING__LEVEL": "inf"}, "did you mean info?"),
    "secret": ({"SYNTRA_CONTROL_PLANE__TOKEN": f"{SECRET}\n\n"}, "SYNTRA_CONTROL_PLANE__TOKEN: is not a token"),
    "secret in a choice": ({"SYNTRA_LOGGING__LEVEL": SECRET}, "SYNTRA_LOGGING__LEVEL: is not one of"),
    "slip": (
        {"SYNTRA_TELEMETRY__OTLP_HTP_PORT": "1"},
        "SYNTRA_TELEMETRY__OTLP_HTP_PORT: no such key, did you mean SYNTRA_TELEMETRY__OTLP_HTTP_PORT?",
    ),
    "one underscore": ({"SYNTRA_RUNTIME_DOCKER_SOCKET": "/x"}, "did you mean SYNTRA_RUNTIME__DOCKER_SOCKET?"),
    "no section": ({"SYNTRA_TOKEN": SECRET}, "SYNTRA_TOKEN: no such key, did you mean SYNTRA_CONTROL_PLANE__TOKEN?"),
    "top-level slip": ({"SYNTRA_DATADIR": "/x"}, "did you mean SYNTRA_DATA_DIR?"),
    "unlike anything": ({"SYNTRA_X__Y": "1"}, "SYNTRA_X__Y: no such key"),
    "control characters": ({"SYNTRA__\x1b": "1"}, "no such key"),
}


@pytest.mark.parametrize("case", sorted(ENVIRONMENTS))
def test_a_wrong_variable_is_refused_by_name(case: str, tmp_path: Path) -> None:
    environ, expected = ENVIRONMENTS[case]
    path = tmp_path / "agent.toml"
    path.write_text("")
    sentence = refusal(path, environ)
    assert sentence.startswith("cannot load configuration from the environment: ")
    assert expected in sentence


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    assert refusal(path, {}) == (
        f"cannot load configuration {path}: there is no such file; check --config and SYNTRA_CONFIG"
    )
    assert "there is no such file" in refusal(None, {"SYNTRA_CONFIG": str(path)})
    assert "there is no such file" in refusal(tmp_path / "missing.toml" / "x", {})


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "it is not a regular file" in refusal(tmp_path / "pipe", {})
    assert "it is a directory" in refusal(tmp_path, {})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot load configuration" in refusal(tmp_path / "loop", {})


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"#" * (SIZE_MAX + 1))
    assert "it is larger than 256 KiB" in refusal(path, {})
    path.write_bytes(b"#" * SIZE_MAX)
    load(path, environ={})


def test_what_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"data_dir = '/a'\nsocket = '/\xff'\n")
    assert "line 2 is not UTF-8 text" in refusal(path, {})


def token_file(tmp_path: Path, content: bytes, mode: int) -> str:
    token = tmp_path / "token"
    token.write_bytes(content)
    token.chmod(mode)
    path = tmp_path / "agent.toml"
    path.write_text(f"{CP}control_plane.token_file = '{token}'\n")
    return refusal(path, {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_token_file_that_others_reach_is_refused_by_name(mode: int, tmp_path: Path) -> None:
    sentence = token_file(tmp_path, SECRET.encode(), mode)
    assert f"control_plane.token_file: {tmp_path}/token may be read or written by others (mode {mode:04o})" in sentence


@pytest.mark.parametrize("content", [b"", b"\n", SECRET.encode() + b" x", SECRET.encode() + b"\xff", b"a\nb"])
def test_a_token_file_without_a_token_is_refused(content: bytes, tmp_path: Path) -> None:
    assert f"control_plane.token_file: the content of {tmp_path}/token is" in token_file(tmp_path, content, 0o600)


def test_a_token_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    assert "it is larger than 8 KiB" in token_file(tmp_path, b"x" * 9000, 0o600)
    (tmp_path / "token").unlink()
    assert f"control_plane.token_file: cannot read {tmp_path}/token" in refusal(tmp_path / "agent.toml", {})


def test_a_credentials_directory_without_a_token_does_not_help(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(CP)
    assert "control_plane.token: is missing" in refusal(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_wrong_socket_is_named_by_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("socket = 5")
    with pytest.raises(ConfigurationError, match=r"agent.toml: socket: expected a quoted string"):
        load_socket(path, environ={})
    with pytest.raises(ConfigurationError, match="from the environment: SYNTRA_SOCKET: is not an absolute path"):
        load_socket(path, environ={"SYNTRA_SOCKET": "x"})
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load_socket(tmp_path / "missing", environ={})
