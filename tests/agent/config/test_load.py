"""Files and environments that hold: values, origins, the token's places, warnings, reloads."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.config import scrape
from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.load import DEFAULT_PATH, Loaded, configuration_path, load, load_socket, reload
from syntra.agent.config.schema import LISTS, Kind
from syntra.agent.config.settings import BY_DOTTED, KEYS, Settings, TelemetrySettings, changed, flatten

EXAMPLE = Path(__file__).parents[3] / "config" / "agent.example.toml"
ENDPOINT = 'control_plane.endpoint = "wss://cp.example/agent/ws"\n'

# A value that differs from the default, for every key, as it stands in a variable.
OTHER = {
    "agent_id": "agt_x",
    "server_id": "srv.x-1",
    "data_dir": "/data",
    "socket": "/run/other.sock",
    "control_plane.endpoint": "ws://localhost:7420/agent/ws",
    "control_plane.token": "syn_agt_other",
    "control_plane.token_file": "/nowhere/token",
    "control_plane.heartbeat_interval_secs": "7",
    "control_plane.dialect": "hub",
    "control_plane.reconnect_max_delay_secs": "8",
    "runtime.runtime_type": "docker",
    "kubernetes.namespaces": "syntra-a,syntra-b",
    "kubernetes.routes": "ingress",
    "kubernetes.gateway": "edge/main",
    "kubernetes.ingress_class": "nginx",
    "kubernetes.storage_class": "fast.example.com",
    "kubernetes.host_paths": "on",
    "kubernetes.cpu_request_fraction": "0.5",
    "kubernetes.otlp_endpoint": "http://agent.example:4318",
    "kubernetes.pre_stop_seconds": "20",
    "kubernetes.scale_down_delay_seconds": "5.0",
    "runtime.docker_socket": "/run/podman/podman.sock",
    "runtime.kubernetes_config": "/kube",
    "runtime.min_healthy_secs": "2.5",
    "networking.proxy": "off",
    "networking.traefik_dynamic_dir": "/dyn",
    "networking.traefik_api": "https://[::1]:9000/traefik",
    "networking.traefik_metrics": "http://localhost:9001/metrics",
    "networking.entrypoints": "web,extra-1",
    "networking.cert_resolver": "other",
    "networking.https_redirect_entrypoint": "plain",
    "networking.drain_seconds": "12.5",
    "networking.proxy_image": "registry.example.com/traefik:v3.8.0",
    "networking.proxy_listen": "plain=127.0.0.1:8000,extra-1=[::1]:8443",
    "networking.acme_email": "ops@example.com",
    "networking.dns.mode": "off",
    "networking.dns.port": "1053",
    "networking.dns.ttl": "0",
    "networking.dns.upstreams": "1.1.1.1,2606:4700::1111",
    "telemetry.otlp_grpc_port": "14317",
    "telemetry.otlp_http_port": "14318",
    "telemetry.receivers": "off",
    "telemetry.listen": "10.0.0.1,fd00::1",
    "telemetry.otlp_grpc_socket": "/run/otlp-grpc.sock",
    "telemetry.otlp_http_socket": "/run/otlp-http.sock",
    "telemetry.cors_origins": "https://shop.example.com,http://localhost:3000",
    "telemetry.max_request_mb": "8",
    "telemetry.receive_memory_mb": "32",
    "telemetry.buffer_fsync": "always",
    "telemetry.target_spans_per_sec": "500.5",
    "telemetry.scrape": '{"metric_names": ["node_*"], "url": "http://10.0.0.9:9100/metrics"}',
    "telemetry.prometheus.services": "off",
    "telemetry.prometheus.interval_secs": "30.5",
    "telemetry.prometheus.timeout_secs": "5.5",
    "telemetry.prometheus.max_targets": "10",
    "telemetry.prometheus.max_body_mb": "1",
    "telemetry.prometheus.max_samples": "100",
    "telemetry.prometheus.max_labels": "10",
    "telemetry.prometheus.max_label_bytes": "100",
    "telemetry.figures.collect": "off",
    "telemetry.figures.interval_secs": "30.5",
    "telemetry.export.endpoint": "https://otlp.example.com:4317",
    "telemetry.export.protocol": "http/protobuf",
    "telemetry.export.headers": "authorization=Bearer%20x",
    "telemetry.export.headers_file": "/nowhere/headers",
    "telemetry.export.compression": "none",
    "telemetry.export.signals": "traces,profiles",
    "telemetry.logs.containers": "all",
    "telemetry.logs.max_lines_per_sec": "100.5",
    "telemetry.logs.max_kb_per_sec": "64.5",
    "telemetry.logs.burst_secs": "2.5",
    "telemetry.export.timeout_secs": "2.5",
    "telemetry.export.ca_path": "/a",
    "telemetry.export.cert_path": "/c",
    "telemetry.export.key_path": "/k",
    "telemetry.tls.cert_path": "/c",
    "telemetry.tls.key_path": "/k",
    "telemetry.tls.client_ca_path": "/a",
    "telemetry.buffer_max_mb": "51",
    "telemetry.batch_interval_secs": "6",
    "telemetry.batch_max_items": "1001",
    "telemetry.sampling_rate": "0.5",
    "tls.cert_path": "/c",
    "tls.key_path": "/k",
    "tls.ca_path": "/a",
    "update.mode": "auto",
    "update.channel": "beta",
    "update.base_url": "http://mirror.example.com:8000/agent",
    "update.root_keys_file": "/etc/syntra/roots",
    "update.window": "22:30-04:00",
    "update.allow_downgrade": "on",
    "update.check_interval_secs": "60",
    "update.confirm_secs": "1.5",
    "update.confirm_timeout_secs": "20.5",
    "logging.level": "debug",
    "logging.format": "json",
    "logging.file": "/log",
}


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def loaded_from(tmp_path: Path, text: str, **environ: str) -> Loaded:
    return load(write(tmp_path / "agent.toml", text), environ=environ)


def test_an_empty_file_gives_the_defaults_and_an_agent_alone(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, "")
    assert loaded.settings == Settings()
    assert loaded.settings.control_plane is None
    assert loaded.settings.tls is None
    assert loaded.found
    assert set(loaded.origins.values()) == {"default"}


def test_the_defaults_of_settings_are_those_of_the_table() -> None:
    flat = flatten(Settings())
    assert {key.dotted: key.default for key in KEYS} == flat


@pytest.mark.parametrize("dotted", sorted(BY_DOTTED))
def test_every_key_can_come_from_the_environment(dotted: str, tmp_path: Path) -> None:
    key = BY_DOTTED[dotted]
    environ = {key.variable: OTHER[dotted]}
    environ |= {BY_DOTTED[name].variable: OTHER[name] for name in needed_by(dotted)}
    loaded = load(write(tmp_path / "agent.toml", ""), environ=environ)
    value = flatten(loaded.settings)[dotted]
    assert shown(value) == OTHER[dotted]
    assert value != key.default
    assert loaded.origins[dotted] == f"environment {key.variable}"


def shown(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


NEEDED = {
    "networking.dns.port": ("networking.dns.mode",),
    "telemetry.export.headers_file": ("telemetry.export.headers",),
    "telemetry.tls.client_ca_path": ("telemetry.tls.cert_path", "telemetry.tls.key_path"),
}


def needed_by(dotted: str) -> tuple[str, ...]:
    """The keys without which this one is refused."""
    if dotted.startswith("control_plane."):
        return tuple({"control_plane.endpoint", "control_plane.token"} - {dotted})
    section, _, name = dotted.rpartition(".")
    if name in ("cert_path", "key_path"):
        return tuple({f"{section}.cert_path", f"{section}.key_path"} - {dotted})
    return NEEDED.get(dotted, ())


@pytest.mark.parametrize("dotted", sorted(BY_DOTTED))
def test_every_key_can_come_from_the_file_and_gives_way_to_the_environment(dotted: str, tmp_path: Path) -> None:
    key = BY_DOTTED[dotted]
    text = "".join(f"{name} = {written(name)}\n" for name in (dotted, *needed_by(dotted)))
    loaded = loaded_from(tmp_path, text)
    assert shown(flatten(loaded.settings)[dotted]) == OTHER[dotted]
    assert loaded.origins[dotted] == "file"
    environ = {key.variable: {"runtime.runtime_type": "kubernetes", "logging.level": "warn"}.get(dotted, OTHER[dotted])}
    assert loaded_from(tmp_path, text, **environ).origins[dotted] == f"environment {key.variable}"


def written(dotted: str) -> str:
    """Another value of the key, as it stands in the file."""
    key, other = BY_DOTTED[dotted], OTHER[dotted]
    if key.kind in (Kind.INTEGER, Kind.NUMBER, Kind.PORT):
        return other
    if key.kind is Kind.SCRAPES:
        return repr([other])
    return repr(other.split(",") if key.kind in LISTS else other)


def test_an_empty_variable_counts_as_absent(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, "data_dir = '/data'", SYNTRA_DATA_DIR="", SYNTRA_LOGGING__LEVEL="")
    assert loaded.settings.data_dir == Path("/data")
    assert loaded.origins["logging.level"] == "default"


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    environ = {"SYNTRA_PEERS": "x", "SYNTRA_CONFIG": "/nowhere", "SYNTRA_SERVICE_ID": "svc_a", "SYNTRA_THEME": "dark"}
    assert load(write(tmp_path / "a.toml", ""), environ=environ).settings == Settings()


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "agent.toml", "logging.level = 'warn'")
    environ = {"SYNTRA_LOGGING__LEVEL": "error"}
    loaded = load(path, environ=environ, command_line={"logging.level": "debug"})
    assert loaded.settings.logging.level == "debug"
    assert loaded.origins["logging.level"] == "command line"


def test_a_reload_reads_the_file_again_and_keeps_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path / "agent.toml", "")
    loaded = load(path, environ={}, command_line={"logging.level": "debug"})
    path.write_text("logging.level = 'warn'\ntelemetry.sampling_rate = 1")
    again = reload(loaded, environ={})
    assert again.settings.logging.level == "debug"
    assert [key.dotted for key in changed(loaded.settings, again.settings)] == ["telemetry.sampling_rate"]
    path.unlink()
    with pytest.raises(ConfigurationError, match="there is no such file"):
        reload(again, environ={})


def test_the_path_is_the_argument_then_the_variable_then_the_default() -> None:
    assert configuration_path(Path("/a"), {"SYNTRA_CONFIG": "/b"}) == (Path("/a"), True)
    assert configuration_path(None, {"SYNTRA_CONFIG": "/b"}) == (Path("/b"), True)
    assert configuration_path(None, {"SYNTRA_CONFIG": ""}) == (DEFAULT_PATH, False)


def test_the_token_has_five_places_in_this_order(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    write(tmp_path / "credentials/token", "from-credential\n")
    write(tmp_path / "token", "from-beside\n").chmod(0o600)
    token_file = write(tmp_path / "other", "from-token-file\n")
    credential = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    with_file = ENDPOINT + f"control_plane.token_file = '{token_file}'\n"
    with_token = with_file + "control_plane.token = 'from-file'\n"
    for text, environ, token, origin in (
        (with_token, credential | {"SYNTRA_CONTROL_PLANE__TOKEN": "from-env"}, "from-env", "environment"),
        (with_token, credential, "from-file", "file"),
        (with_file, credential, "from-token-file", "token file"),
        (ENDPOINT, credential, "from-credential", "credential"),
        (ENDPOINT, {}, "from-beside", "token file"),
    ):
        loaded = loaded_from(tmp_path, text, **environ)
        assert loaded.settings.control_plane is not None
        assert loaded.settings.control_plane.token == token
        assert loaded.origins["control_plane.token"].startswith(origin)


def test_headers_of_the_export_come_from_a_file_of_their_owner(tmp_path: Path) -> None:
    file = write(tmp_path / "headers", "authorization=Bearer%20secret\n")
    text = f"telemetry.export.headers_file = '{file}'\n"
    loaded = loaded_from(tmp_path, text)
    assert loaded.settings.telemetry.export.headers == "authorization=Bearer%20secret"
    assert loaded.origins["telemetry.export.headers"] == "headers file"
    assert "secret" not in repr(loaded.settings)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="may be read or written by others"):
        loaded_from(tmp_path, text)


def test_a_credential_without_an_endpoint_leaves_the_agent_alone(tmp_path: Path) -> None:
    write(tmp_path / "token", "x")
    assert loaded_from(tmp_path, "", CREDENTIALS_DIRECTORY=str(tmp_path)).settings.control_plane is None


def test_no_representation_shows_the_token(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, ENDPOINT + "control_plane.token = 'syn_agt_hidden'")
    assert "syn_agt_hidden" not in repr(loaded)
    assert "syn_agt_hidden" not in str(loaded.settings)


def test_a_readable_file_with_a_token_and_an_unencrypted_endpoint_are_warned_about(tmp_path: Path) -> None:
    text = "control_plane.endpoint = 'ws://cp.example/agent/ws'\ncontrol_plane.token = 'x'"
    loaded = load(write(tmp_path / "agent.toml", text, 0o644), environ={})
    assert len(loaded.warnings) == 2
    assert "chmod 600" in loaded.warnings[0]
    assert "ws://" in loaded.warnings[1]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:7420", "[::1]:7420"])
def test_an_unencrypted_endpoint_on_this_machine_is_fine(host: str, tmp_path: Path) -> None:
    text = f"control_plane.endpoint = 'ws://{host}/agent/ws'\ncontrol_plane.token = 'x'"
    assert loaded_from(tmp_path, text).warnings == ()


def test_a_docker_socket_may_carry_the_scheme_of_docker_host(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, "runtime.docker_socket = 'unix:///run/docker.sock'")
    assert loaded.settings.runtime.docker_socket == "/run/docker.sock"


def test_a_byte_order_mark_and_dos_line_ends_are_forgiven(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xef\xbb\xbfdata_dir = '/data'\r\n[logging]\r\nlevel = 'warn'\r\n")
    assert load(path, environ={}).settings.logging.level == "warn"


def test_the_example_loads_and_names_every_key() -> None:
    assert load(EXAMPLE, environ={}).settings == Settings()
    # With its absent keys uncommented, it is a whole configuration of known keys.
    text = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert set(dotted_names(tomllib.loads(text))) == set(BY_DOTTED)


def test_the_example_names_every_key_of_a_scraped_endpoint() -> None:
    text = EXAMPLE.read_text()
    assert [key for key in scrape.KEYS if not re.search(rf"^#   .*\b{key}\b", text, re.MULTILINE)] == []


def dotted_names(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from dotted_names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_example_marks_exactly_the_reloadable_keys() -> None:
    marked = set()
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"\[([\w.]+)\]", line):
            section = found[1]
        elif (found := re.match(r"(?:# )?(\w+) = ", line)) and "# reload" in line:
            marked.add(f"{section}.{found[1]}")
    assert marked == {key.dotted for key in KEYS if key.reloadable}


def test_the_whole_example_loads_with_every_key_given(tmp_path: Path) -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    loaded = loaded_from(tmp_path, text)
    assert set(loaded.origins.values()) == {"file"}
    assert loaded.settings.tls is not None
    assert loaded.settings.control_plane is not None


def test_changed_names_the_keys_that_differ() -> None:
    old = Settings()
    new = dataclasses.replace(
        old, data_dir=Path("/data"), telemetry=TelemetrySettings(sampling_rate=0.2, otlp_http_port=1)
    )
    assert [(key.dotted, key.reloadable) for key in changed(old, new)] == [
        ("data_dir", False),
        ("telemetry.otlp_http_port", False),
        ("telemetry.sampling_rate", False),
    ]
    assert changed(old, old) == ()


def test_lists_in_variables_are_written_with_commas(tmp_path: Path) -> None:
    environ = {"SYNTRA_NETWORKING__ENTRYPOINTS": "web, websecure", "SYNTRA_NETWORKING__DNS__UPSTREAMS": ""}
    networking = load(write(tmp_path / "a.toml", ""), environ=environ).settings.networking
    assert networking.entrypoints == ("web", "websecure")
    assert networking.dns.upstreams == ()


def test_the_proxys_directory_is_in_the_data_directory_unless_it_is_given(tmp_path: Path) -> None:
    assert Settings().networking.dynamic_dir(Path("/data")) == Path("/data/traefik/dynamic")
    given = loaded_from(tmp_path, "networking.traefik_dynamic_dir = '/etc/traefik/dynamic'").settings.networking
    assert given.dynamic_dir(Path("/data")) == Path("/etc/traefik/dynamic")


def test_the_socket_is_found_although_the_rest_of_the_file_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "agent.toml", "socket = '/run/x.sock'\n[telemetry]\notlp_http_port = 70000\n")
    assert load_socket(path, environ={}) == Path("/run/x.sock")
    assert load_socket(path, environ={"SYNTRA_SOCKET": "/run/y.sock"}) == Path("/run/y.sock")
    assert load_socket(write(tmp_path / "b.toml", ""), environ={}) == Path("/run/syntra/agent.sock")
