"""Service files: what a person may write, what becomes of it, and how a mistake is named."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from syntra.cli import service_payload, service_shapes
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.service_file import read_service
from syntra.cli.service_payload import service_id

EXAMPLE = Path(__file__).parents[2] / "config" / "service.example.yml"

FLAT = """\
image: registry.example:5000/team/api:1.10
project: shop
port: 8080
replicas: 1
env:
  VERSION: 1.10
  DEBUG: true
  COUNTRY: no
  PADDED: 012
  QUOTED: "1.20"
  EMPTY: ""
volumes:
  - data:/var/lib/api
  - /etc/api:/config:ro
health_check: /health
domains: [api.example, www.example]
expose_port: 80
cpu_limit: 0.5
memory_limit: 512m
command: serve --name "a b"
"""

NESTED = {
    "service_name": "api",
    "project_name": "shop",
    "image": {"registry": "registry.example:5000", "repository": "team/api", "tag": "1.10"},
    "config": {
        "port": 8080,
        "replicas": 1,
        "cpu_limit": "0.5",
        "memory_limit": "512m",
        "env_vars": {"A": "b"},
        "labels": {"team": "x"},
        "volumes": [{"name": "data", "container_path": "/data", "read_only": True}],
        "health_check": {"type": "exec", "command": ["true"], "interval_seconds": 1, "retries": 2},
    },
    "networking": {"domains": ["api.example"], "internal_hostname": "api.shop.internal", "expose_port": None},
    "strategy": "blue_green",
    "rollback_on_failure": False,
    "timeout_seconds": 60,
}


def read(tmp_path: Path, name: str, text: str) -> dict[str, Any]:
    path = tmp_path / name
    path.write_text(text)
    return read_service(path)


def mistake(tmp_path: Path, name: str, text: str) -> str:
    with pytest.raises(CliError) as caught:
        read(tmp_path, name, text)
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def without_columns(sentence: str) -> str:
    return re.sub(r"(:\d+):\d+: ", r"\1: ", sentence)


def test_an_image_is_enough(tmp_path: Path) -> None:
    payload = read(tmp_path, "api.yaml", "image: nginx")
    deployment_id = payload.pop("deployment_id")
    assert deployment_id.startswith("dep_")
    assert len(deployment_id) == len("dep_") + 12
    assert payload == {
        "service_id": "svc_default_api",
        "service_name": "api",
        "project_name": "default",
        "image": {"registry": "", "repository": "nginx", "tag": "latest"},
        "config": {"replicas": 1, "command": [], "env_vars": {}, "labels": {}, "volumes": []},
        "networking": {"domains": []},
        "strategy": "rolling",
        "rollback_on_failure": True,
        "timeout_seconds": 300.0,
    }


def test_the_example_is_a_service_and_names_every_key(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    assert read_service(EXAMPLE)["strategy"] == "rolling"
    # The keys that it leaves absent hold too: one that is published has one replica, as the example has.
    whole = re.sub(r"^( *)# (\w+: )", r"\1\2", text, flags=re.MULTILINE)
    (tmp_path / "web.env").write_text("TOKEN=x\n")
    payload = read(tmp_path, "service.yml", whole)
    assert (payload["service_name"], payload["networking"]["expose_port"]) == ("web", 80)
    written = set(re.findall(r"^ *(\w+):", whole, re.MULTILINE))
    targets = {**service_payload._ROOT, **service_payload._CONFIG, **service_payload._NETWORKING}
    shown = {target for key, target in targets.items() if key in written}
    assert set(targets.values()) - shown == {"service_id", "deployment_id"}  # made when absent, and better so
    shapes = (*service_shapes.HEALTH, *service_shapes.CANARY, *service_shapes.METRICS, *service_shapes.AUTOSCALE)
    assert {*shapes, *service_shapes.LOGS} <= written


def test_flat_yaml_becomes_the_contract_shape(tmp_path: Path) -> None:
    payload = read(tmp_path, "api.yaml", FLAT)
    assert payload["service_id"] == "svc_shop_api"
    assert payload["image"] == {"registry": "registry.example:5000", "repository": "team/api", "tag": "1.10"}
    config = payload["config"]
    assert (config["port"], config["replicas"]) == (8080, 1)
    assert payload["networking"] == {"domains": ["api.example", "www.example"], "expose_port": 80}
    assert config["volumes"] == [
        {"name": "data", "container_path": "/var/lib/api", "read_only": False},
        {"name": "etc-api", "host_path": "/etc/api", "container_path": "/config", "read_only": True},
    ]
    assert config["command"] == ["serve", "--name", "a b"]
    assert config["health_check"]["type"] == "http"
    assert config["health_check"]["path"] == "/health"


def test_environment_values_stay_as_they_were_written(tmp_path: Path) -> None:
    assert read(tmp_path, "api.yaml", FLAT)["config"]["env_vars"] == {
        "VERSION": "1.10",
        "DEBUG": "true",
        "COUNTRY": "no",
        "PADDED": "012",
        "QUOTED": "1.20",
        "EMPTY": "",
    }


def test_a_variable_may_name_a_secret(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("URL=from the file\nB=c\n")
    text = "image: nginx\nenv_file: a.env\nenv:\n  URL: {secret: db_url}\n  A: b\n"
    variables = read(tmp_path, "a.yaml", text)["config"]["env_vars"]
    assert variables == {"URL": {"secret": "db_url"}, "A": "b", "B": "c"}
    sentence = mistake(tmp_path, "b.yaml", "image: nginx\nenv:\n  A: {secret: geheim/x}\n  B: {secrt: x}\n")
    assert "b.yaml:3:7: env.A.secret: is not a secret's name" in sentence
    assert "b.yaml:4:3: env.B: an object is not a string; a secret is {secret: NAME}" in sentence
    assert "geheim" not in sentence


def test_the_nested_shape_is_kept(tmp_path: Path) -> None:
    payload = read(tmp_path, "x.json", json.dumps(NESTED))
    assert payload["service_name"] == "api"
    assert payload["strategy"] == "blue_green"
    assert payload["rollback_on_failure"] is False
    assert payload["timeout_seconds"] == 60
    assert payload["config"]["labels"] == {"team": "x"}
    assert payload["config"]["health_check"]["command"] == ["true"]
    assert payload["networking"] == {"domains": ["api.example"], "internal_hostname": "api.shop.internal"}


def test_toml_says_the_same_as_json(tmp_path: Path) -> None:
    text = """
image = "nginx:1"
port = 80
env = {A = "b", N = 5, T = true}
health_check = {path = "/", interval_seconds = 2}
[[volumes]]
name = "data"
container_path = "/data"
"""
    document = {
        "image": "nginx:1",
        "port": 80,
        "env": ["A=b", "N=5", "T=true"],
        "health_check": {"path": "/", "interval_seconds": 2},
        "volumes": [{"name": "data", "container_path": "/data"}],
    }
    from_toml, from_json = read(tmp_path, "a.toml", text), read(tmp_path, "a.json", json.dumps(document))
    del from_toml["deployment_id"], from_json["deployment_id"]
    assert from_toml == from_json


def test_flat_and_nested_keys_may_stand_side_by_side(tmp_path: Path) -> None:
    payload = read(tmp_path, "a.yaml", "image: nginx\nport: 80\nconfig:\n  replicas: 3\nnetworking:\n")
    assert (payload["config"]["port"], payload["config"]["replicas"]) == (80, 3)


def test_a_canary_is_written_as_it_is_sent(tmp_path: Path) -> None:
    text = "image: nginx\nstrategy: canary\ncanary:\n  steps: [{percent: 5, hold_seconds: 2m}]\n  max_error_percent: 1"
    payload = read(tmp_path, "a.yaml", text)
    assert payload["canary"] == {
        "steps": [{"percent": 5, "hold_seconds": 120.0}, {"percent": 100, "hold_seconds": 0.0}],
        "max_error_percent": 1.0,
        "min_requests": 20,
    }
    assert len(read(tmp_path, "b.yaml", "image: nginx\nstrategy: canary\n")["canary"]["steps"]) == 3


def test_aliases_are_allowed(tmp_path: Path) -> None:
    text = "image: nginx\nenv: &e\n  A: 1.50\nlabels: *e\n"
    payload = read(tmp_path, "a.yaml", text)
    assert payload["config"]["env_vars"] == payload["config"]["labels"] == {"A": "1.50"}


def test_the_same_project_and_name_always_give_the_same_id_and_others_another() -> None:
    assert service_id("shop", "api") == service_id("shop", "api") == "svc_shop_api"
    pairs = [("shop", "api"), ("shop-api", "x"), ("shop", "api-x"), ("Shop", "api"), ("shop", "Api"), ("shop", "a.b")]
    pairs += [("shop", "a_b"), ("shop", "a-b"), ("s" * 63, "a" * 63), ("s" * 63, "a" * 62 + "b"), ("a_b", "c")]
    pairs += [("a", "b_c")]
    ids = [service_id(*pair) for pair in pairs]
    assert len(set(ids)) == len(ids)
    assert all(len(each) <= 100 for each in ids)


def test_a_file_name_that_is_no_service_name_becomes_one(tmp_path: Path) -> None:
    assert read(tmp_path, "my app (2).yaml", "image: nginx")["service_name"] == "my-app-2"


MISTAKES: dict[str, tuple[str, str]] = {
    "unknown key": ("image: nginx\nreplica: 2\n", "a.yaml:2: replica: unknown key, did you mean replicas?"),
    "unknown key of a section": (
        "image: nginx\nconfig:\n  portt: 80\n",
        "a.yaml:3: config.portt: unknown key, did you mean port?",
    ),
    "unknown key of a health check": (
        "image: nginx\nhealth_check:\n  path: /\n  intervall_seconds: 1\n",
        "a.yaml:4: health_check.intervall_seconds: unknown key, did you mean interval_seconds?",
    ),
    "unknown key of a volume": (
        "image: nginx\nvolumes:\n- name: x\n  container_path: /x\n  readonly: true\n",
        "a.yaml:5: volumes[0].readonly: unknown key, did you mean read_only?",
    ),
    "unknown key of an image": ("image:\n  repo: nginx\n", "a.yaml:2: image.repo: unknown key"),
    "given twice": ("image: nginx\nport: 80\nconfig: {port: 81}\n", "config.port: is given twice, here and as port"),
    "written twice": ("image: nginx\nimage: nginx\n", "a.yaml:2: duplicate key 'image'"),
    "no image": ("port: 80\n", "a.yaml:1: image: is missing"),
    "wrong image": ("\nimage: NGINX\n", "a.yaml:2: image: 'NGINX' is not a repository"),
    "image as a number": ("image: 5\n", "a.yaml:1: image: is neither"),
    "wrong port": ("image: nginx\nport: 70000\n", "a.yaml:2: port: 70000 is out of range (1–65535)"),
    "port as words": ("image: nginx\nport: eighty\n", "a.yaml:2: port: 'eighty' is not a whole number"),
    "wrong domain": ("image: nginx\ndomains:\n- ok.example\n- 'bad domain'\n", "a.yaml:4: domains[1]: 'bad domain'"),
    "wrong strategy": ("image: nginx\nstrategy: fast\n", "a.yaml:2: strategy: 'fast' is not one of rolling"),
    "unknown key of a canary": (
        "image: nginx\ncanary:\n  step: []\n",
        "a.yaml:3: canary.step: unknown key, did you mean steps?",
    ),
    "unknown key of a canary's step": (
        "image: nginx\ncanary:\n  steps:\n  - percent: 5\n    hold: 3\n",
        "a.yaml:5: canary.steps[0].hold: unknown key",
    ),
    "steps that fall": (
        "image: nginx\nstrategy: canary\ncanary:\n  steps:\n  - percent: 50\n  - percent: 5\n",
        "a.yaml:6: canary.steps[1].percent: 5 is not more than the 50 of the step before",
    ),
    "canary as text": ("image: nginx\ncanary: 10%\n", "a.yaml:2: canary: is not a mapping of keys to values"),
    "wrong memory": ("image: nginx\nmemory_limit: much\n", "a.yaml:2: memory_limit: 'much' is not a size"),
    "wrong volume text": ("image: nginx\nvolumes:\n- data\n", "a.yaml:3: volumes[0]: is not NAME:/PATH"),
    "volumes as a mapping": ("image: nginx\nvolumes: {a: b}\n", "a.yaml:2: volumes: is not a list"),
    "wrong container path": ("image: nginx\nvolumes:\n- data:rel\n", "a.yaml:3: volumes[0].container_path: 'rel'"),
    "env key given twice": ("image: nginx\nenv: [A=1, B=1, A=geheim]\n", "a.yaml:2: env[2]: A is given twice"),
    "label given twice": ("image: nginx\nlabels: [A=1, A=1]\n", "a.yaml:2: labels[1]: A is given twice"),
    "host given twice": (
        "image: nginx\nextra_hosts: ['a:::1', a=1.1.1.1]\n",
        "a.yaml:2: extra_hosts[1]: a is given twice",
    ),
    "relative volume": ("image: nginx\nvolumes: ['./data:/data']\n", "'./data' is a relative path; write it whole"),
    "volume of the home": ("image: nginx\nvolumes: ['~/data:/data']\n", "'~/data' is a relative path; write it whole"),
    "compose's volume": (
        "image: nginx\nvolumes:\n- {source: a, target: /a}\n",
        "a.yaml:3: volumes[0].source: unknown key; use name, or host_path",
    ),
    "compose's check": (
        "image: nginx\nhealth_check: {test: a}\n",
        "health_check.test: unknown key; use type with path",
    ),
    "environment": ("image: nginx\nenvironment: {A: b}\n", "a.yaml:2: environment: unknown key; use env"),
    "nested environment": ("image: x\nconfig: {environment: {A: b}}\n", "config.environment: unknown key; use env"),
    "restart": ("image: nginx\nrestart: always\n", "a.yaml:2: restart: unknown key; leave it out; the engine always"),
    "build": ("build: .\n", "a.yaml:1: build: unknown key; build and push the image elsewhere"),
    "depends_on": ("image: nginx\ndepends_on: [db]\n", "depends_on: unknown key; leave it out"),
    "ports": ("image: nginx\nports: ['80:80']\n", "ports: unknown key; use port for the port inside"),
    "expose": ("image: nginx\nexpose: [80]\n", "expose: unknown key; use port"),
    "container_name": ("image: nginx\ncontainer_name: a\n", "container_name: unknown key; use name"),
    "networks": ("image: nginx\nnetworks: [a]\n", "networks: unknown key; use project"),
    "services": (
        "services: {web: {image: nginx}}\n",
        "a.yaml:1: services: this is a Compose file; `syntra-agent init",
    ),
    "privileged": ("image: nginx\nprivileged: true\n", "a.yaml:2: privileged: is refused: a privileged container"),
    "privileged, nested": ("image: x\nconfig:\n  privileged: false\n", "a.yaml:3: config.privileged: is refused: a"),
    "cap_add": ("image: nginx\ncap_add: [SYS_ADMIN]\n", "cap_add: is refused: more capabilities"),
    "devices": ("image: nginx\ndevices: [/dev/kvm]\n", "devices: is refused: devices of this server"),
    "network_mode": ("image: nginx\nnetwork_mode: host\n", "network_mode: is refused: every service is in the network"),
    "pid": ("image: nginx\npid: host\n", "pid: is refused: the processes"),
    "ipc": ("image: nginx\nipc: host\n", "ipc: is refused: shared memory"),
    "userns_mode": ("image: nginx\nuserns_mode: host\n", "userns_mode: is refused: the user namespace"),
    "wrong user": ("image: nginx\nuser: a b\n", "a.yaml:2: user: 'a b' is not a user"),
    "wrong tmpfs": ("image: nginx\ntmpfs: [/a, b]\n", "a.yaml:2: tmpfs[1].path: 'b' is not an absolute path"),
    "tmpfs as a mapping": ("image: nginx\ntmpfs: {a: b}\n", "a.yaml:2: tmpfs: is not a list of /PATH"),
    "wrong limit": ("image: nginx\nulimits: {nofiles: 1}\n", "a.yaml:2: ulimits.nofiles: is not a limit; these are: "),
    "limits as a list": ("image: nginx\nulimits: [nofile]\n", "a.yaml:2: ulimits: is not a mapping of names to limits"),
    "wrong key of a limit": ("image: x\nulimits: {core: {max: 1}}\n", "a.yaml:2: ulimits.core.max: unknown key"),
    "wrong signal": ("image: nginx\nstop_signal: KILL\n", "a.yaml:2: stop_signal: 'KILL' is not a signal"),
    "no env file": ("image: nginx\nenv_file: no.env\n", "no.env: there is no such file"),
    "env file as a number": (
        "image: nginx\nenv_file: 3\n",
        "a.yaml:2: env_file: is neither a path nor a list of paths",
    ),
    "wrong env": ("image: nginx\nenv: [A]\n", "a.yaml:2: env[0]: is not NAME=VALUE"),
    "env as text": ("image: nginx\nenv: A=b\n", "a.yaml:2: env: is neither a mapping nor a list"),
    "nested env": ("image: nginx\nenv:\n  A: {b: c}\n", "a.yaml:3: env.A: an object is not a string"),
    "open quote": ("image: nginx\ncommand: 'a \"b'\n", "a.yaml:2: command: has a quote that does not end"),
    "port shared": ("image: nginx\nport: 1\nreplicas: 2\nexpose_port: 80\n", "a.yaml:4: expose_port: 2 replicas"),
    "password": ("image: nginx\nregistry_auth: {password: geheim}\n", "registry_auth: does not belong into a service"),
    "empty": ("", "a.yaml: it is empty"),
    "a list": ("- image\n", "it is not a mapping of keys to values"),
    "section as text": ("image: nginx\nconfig: x\n", "a.yaml:2: config: is not a mapping of keys to values"),
    "broken": ("image: [nginx\nport: 80\n", "a.yaml:2: "),
    "python tag": ("image: !!python/object/apply:os.system [id]\n", "a.yaml:1: tags are not allowed"),
    "local tag": ("image: !x nginx\n", "a.yaml:1: tags are not allowed"),
    "binary tag": ("image: !!binary aGk=\n", "a.yaml:1: tags are not allowed"),
    "written tag": ('image: nginx\nport: !!int "80"\n', "a.yaml:2: tags are not allowed"),
    "set": ("image: nginx\nenv: !!set {a}\n", "a.yaml:2: tags are not allowed"),
    "merge": ("image: nginx\nenv:\n  <<: {A: b}\n", "a.yaml:3: a key must be a plain word"),
    "list as a key": ("? [a]\n: b\n", "a.yaml:1: a key must be a plain word"),
    "two documents": ("image: nginx\n---\nimage: nginx\n", "a.yaml:2: "),
    "unknown alias": ("image: *x\n", "a.yaml:1: "),
    "control character": ("image: \x01\n", "it holds a control character"),
    "recursive": ("image: nginx\nenv: &a\n  b: *a\n", "it is nested more than 32 levels deep"),
    "deep": ("image: " + "[" * 100_000, "it is nested more than 32 levels deep"),
    "many aliases": (
        "image: nginx\n"
        + "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)),
        "it holds more than 10000 values",
    ),
}


@pytest.mark.parametrize("case", sorted(MISTAKES))
def test_a_mistake_is_named_with_file_line_and_field(case: str, tmp_path: Path) -> None:
    text, expected = MISTAKES[case]
    started = time.process_time()
    sentence = mistake(tmp_path, "a.yaml", text)
    assert expected in without_columns(sentence)
    assert all(str(tmp_path / "a.yaml") in line for line in sentence.splitlines())
    assert "geheim" not in sentence
    assert time.process_time() - started < 5


MANY = """\
imagee: nginx
port: 70000
expose_port: true
replicas: many
env:
  A: {b: c}
  B: 1
  "C D=geheim": x
  "E F": y
labels: {syntra.x: "1", team: a, traefik.y: "2"}
volumes:
- data
- good:/good
- {name: x, container_path: rel, readonly: true}
- "bad name!:/b"
health_check: {typ: http, path: /, intervall_seconds: 1}
domains: [ok.example, 'bad domain']
strategy: canary
canary: {steps: [{percent: 150}]}
config:
  portt: 1
env_file: none.env
"""


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    sentence = mistake(tmp_path, "a.yaml", MANY)
    file = tmp_path / "a.yaml"
    first, *said = sentence.splitlines()
    assert first == f"cannot use service file {file}: it has {len(said)} mistakes"
    found = [line.removeprefix(f"  {file}:").split(": ")[:2] for line in said]
    assert found == [
        ["1:1", "imagee"],
        ["2:1", "port"],
        ["4:1", "replicas"],
        ["6:3", "env.A"],
        ["8:3", "env"],
        ["9:3", "env"],
        ["10:10", "labels"],
        ["10:34", "labels"],
        ["12:3", "volumes[0]"],
        ["14:13", "volumes[2].container_path"],
        ["14:34", "volumes[2].readonly"],
        ["15:3", "volumes[3].name"],
        ["16:16", "health_check.typ"],
        ["16:36", "health_check.intervall_seconds"],
        ["17:23", "domains[1]"],
        ["19:19", "canary.steps[0].percent"],
        ["21:3", "config.portt"],
        ["22:1", "env_file"],
    ], sentence
    assert "geheim" not in sentence


def test_a_mistake_stands_at_the_same_place_in_every_format(tmp_path: Path) -> None:
    as_json = '{"image": "nginx",\n "volumes": [\n  "a:/a", {"name": "b",\n   "container_path": "x"}]}'
    assert "a.json:4:4: volumes[1].container_path: 'x'" in mistake(tmp_path, "a.json", as_json)
    as_toml = """
image = "nginx"  # "[x]"
env."A.B" = '''
[[volumes]]'''
[[volumes]]
name = "one"
container_path = "/a"
[[volumes]]
name = "two"
container_path = "x"
[health_check]
path = 'relative'
[config.ulimits]
nofile = { soft = 1, hard = "x" }
"""
    sentence = mistake(tmp_path, "a.toml", as_toml)
    places = [line.split(": ")[0].rpartition("a.toml:")[2] for line in sentence.splitlines()[1:]]
    assert places == ["10:1", "12:1", "14:22"], sentence


def test_no_number_of_mistakes_takes_long(tmp_path: Path) -> None:
    text = "image: nginx\n" + "".join(f"wrong{n}: x\n" for n in range(5000))
    started = time.process_time()
    assert ": it has 50 or more mistakes\n" in mistake(tmp_path, "a.yaml", text)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"image": "nginx",\n "port": }', "a.json:2:10: Expecting value"),
        ("a.json", '{"image": "nginx", "image": "x"}', "duplicate key 'image'"),
        ("a.json", '{"image": "nginx", "port": NaN}', "NaN is not JSON"),
        ("a.json", "[" * 100_000, "a value is too deep or too long"),
        ("a.json", '{"image": ' + "[" * 40 + "]" * 40 + "}", "nested more than 32 levels deep"),
        ("a.json", json.dumps({"image": list(range(10_001))}), "more than 10000 values"),
        ("a.json", '{"image": "nginx", "prt": 1}', "a.json:1:20: prt: unknown key, did you mean port?"),
        ("a.toml", "image = ]", "a.toml:1:9: Invalid value"),
        ("a.toml", "x = " + "[" * 100_000, "a value is too deep or too long"),
        ("a.toml", "image = 'nginx'\nport = 2024-01-01", "a.toml:2:1: port: "),
        ("a.ini", "image=nginx", "unknown kind; name it .yaml, .toml or .json"),
        ("a", "image: nginx", "unknown kind"),
        ("a.yaml", "#" * 300_000, "it is larger than 256 KiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, text: str, expected: str, tmp_path: Path) -> None:
    assert expected in mistake(tmp_path, name, text)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"there is no such file; check the path$"):
        read_service(tmp_path / "none.yaml")
    with pytest.raises(CliError, match="it is a directory"):
        read_service(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"image: \xff")
    with pytest.raises(CliError, match="it is not UTF-8 text"):
        read_service(tmp_path / "a.yaml")


def test_a_cut_file_is_a_service_or_a_named_mistake_at_every_byte(tmp_path: Path) -> None:
    short = "image: nginx\nport: 1\nenv: {A: 1.0}\nvolumes:\n- a1:/b:ro\n"
    for name, text in (("a.yaml", short), ("a.json", json.dumps(NESTED))):
        for cut in range(len(text)):
            try:
                assert read(tmp_path, name, text[:cut])["service_id"]
            except CliError as exc:
                assert str(tmp_path / name) in str(exc)


def test_routing_is_written_flat_or_under_networking(tmp_path: Path) -> None:
    routing = {"path_prefix": "/v1", "sticky": True, "response_headers": {"X-A": "1.10"}, "rate_limit": {"average": 5}}
    text = "path_prefix: /v1/\nsticky: true\nresponse_headers:\n  X-A: 1.10\nrate_limit:\n  average: 5\n"
    expected = {"domains": ["a.example"], **routing, "rate_limit": {"average": 5, "burst": 5}}
    flat = read(tmp_path, "a.yaml", f"image: nginx\nport: 80\ndomains: a.example\n{text}")
    nested = "".join(f"  {line}\n" for line in text.splitlines())
    under = read(tmp_path, "b.yaml", f"image: nginx\nport: 80\nnetworking:\n  domains: [a.example]\n{nested}")
    assert flat["networking"] == under["networking"] == expected


OPTIONS = """
image: nginx
entrypoint: sh -c
user: 1000
working_dir: /srv/
init: true
stop_signal: sigquit
stop_grace_seconds: 1m
shm_size: 64m
tmpfs: ["/tmp:size=64m,mode=1777", {path: /run}]
ulimits: {nofile: {soft: 1024, hard: 2048}, core: 0}
extra_hosts: {db: 10.0.0.5}
read_only: true
cap_drop: [cap_net_raw, ALL]
"""


def test_options_of_the_container_are_written_flat_or_under_config(tmp_path: Path) -> None:
    flat = read(tmp_path, "a.yaml", OPTIONS)
    body = OPTIONS.replace("image: nginx\n", "")
    nested = read(tmp_path, "b.yaml", "image: nginx\nconfig:" + body.replace("\n", "\n  "))
    assert flat["config"] == nested["config"]
    assert {key: flat["config"][key] for key in re.findall(r"^(\w+):", body, re.MULTILINE)} == {
        "entrypoint": ["sh", "-c"],
        "user": "1000",
        "working_dir": "/srv",
        "init": True,
        "stop_signal": "SIGQUIT",
        "stop_grace_seconds": 60.0,
        "shm_size": "67108864",
        "tmpfs": [{"path": "/tmp", "options": "size=64m,mode=1777"}, {"path": "/run", "options": ""}],
        "ulimits": {"nofile": {"soft": 1024, "hard": 2048}, "core": {"soft": 0, "hard": 0}},
        "extra_hosts": ["db:10.0.0.5"],
        "read_only": True,
        "cap_drop": ["NET_RAW", "ALL"],
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'image = "nginx"\nuser = 1000\nstop_signal = 3\nenv = {A = 1.10, B = 1e3, C = -0.0, D = 7}\n'),
        (
            "a.json",
            '{"image": "nginx", "user": 1000, "stop_signal": 3, "env": {"A": 1.10, "B": 1e3, "C": -0.0, "D": 7}}',
        ),
        ("a.yaml", "image: nginx\nuser: 1000\nstop_signal: 3\nenv: {A: 1.10, B: 1e3, C: -0.0, D: 7}\n"),
    ],
)
def test_a_number_is_taken_as_it_was_written_in_every_format(name: str, text: str, tmp_path: Path) -> None:
    config = read(tmp_path, name, text)["config"]
    assert config["env_vars"] == {"A": "1.10", "B": "1e3", "C": "-0.0", "D": "7"}
    assert (config["user"], config["stop_signal"]) == ("1000", "3")


def test_env_files_are_read_beside_the_service_file_and_env_wins(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "two.env").write_text("B=2\nC=2\n")
    payload = read(tmp_path, "a.yaml", "image: nginx\nenv_file: [one.env, two.env]\nenv: {C: 3}\n")
    assert payload["config"]["env_vars"] == {"A": "1", "B": "2", "C": "3"}
    assert "env_file" not in payload["config"]


def test_a_mistake_in_an_env_file_is_named_without_its_values(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("A=1\nthe secret\n")
    sentence = mistake(tmp_path, "a.yaml", "image: nginx\nenv_file: one.env\n")
    assert sentence.endswith("one.env:2: the line is not NAME=VALUE")


@pytest.mark.parametrize(
    ("text", "expected"), [("name: web\nimage: nginx\n", "web"), ('{"name": "api", "image": "nginx"}', "api")]
)
def test_standard_input_is_yaml_or_json(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_service(Path("-"))["service_name"] == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"image: nginx\n", "standard input:1:1: name: is missing"),
        (b"name: a\nimage: nginx\nprt: 1\n", "standard input:3:1: prt: unknown key, did you mean port?"),
        (b"\xff", "standard input: it is not UTF-8 text"),
        (b"#" * 300_000, "standard input: it is larger than 256 KiB"),
    ],
)
def test_a_mistake_on_standard_input_is_named(data: bytes, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(CliError, match=re.escape(expected)):
        read_service(Path("-"))
