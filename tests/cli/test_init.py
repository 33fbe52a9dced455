"""`init`: three questions or a Compose file become service files that `plan` accepts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syntra.cli.service_file import read_service
from tests.cli.fake_agent import Cli, FakeAgent
from tests.e2e.pseudo_terminal import run_in_terminal

PROGRAM = [sys.executable, "-m", "syntra"]

COMPOSE = """\
name: shop
x-common: &common
  restart: unless-stopped
  environment: &env
    LOG_LEVEL: info
services:
  web:
    <<: *common
    image: ghcr.io/acme/web:1.10
    command: ["serve", "--port", "8080", "08"]
    ports: ["80:8080", "9090:9090", "127.0.0.1:1:2"]
    environment:
      <<: *env
      COUNTRY: no
      VERSION: 1.10
      PASSWORD:
    env_file: [web.env]
    volumes: ["data:/data", "./static:/static:ro", "/anonymous", {type: tmpfs, target: /scratch}]
    labels: ["team=shop", "traefik.enable=true", "traefik.http.routers.web.rule=Host(`a.example`) || Host(`b.example`)"]
    deploy: {replicas: 1, resources: {limits: {cpus: "0.5", memory: 256M}}}
    healthcheck: {test: ["CMD", "wget", "-q", "localhost"], interval: 1m30s, timeout: 500ms, retries: 3}
    stop_grace_period: 1m
    depends_on: [db]
    networks: [front]
    privileged: true
    build: .
  db:
    image: postgres:16
    environment: ["POSTGRES_PASSWORD=${DB_PASSWORD:?set it}", "PLAIN"]
    volumes: [{type: volume, source: pg, target: /var/lib/postgresql/data, read_only: true}]
    healthcheck: {test: pg_isready -U app, interval: 10s}
    restart: "no"
    mem_limit: 1m
  worker:
    build: ./worker
    scale: 3
    ports: ["22:22"]
volumes:
  data:
  pg: {external: true, name: old_pg}
networks: {front: {}}
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my app"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def piped(text: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNTRA_")}
    return subprocess.run(
        [*PROGRAM, "init", *words], input=text, capture_output=True, text=True, check=False, timeout=60, env=environment
    )


def test_three_answers_on_a_terminal_become_a_service_file(there: Path, cli: Cli) -> None:
    ended = run_in_terminal(
        [*PROGRAM, "init"],
        answers=[
            ("image, such as", "WEB\n"),
            ("image, such as", "ghcr.io/acme/web:1.4\n"),
            ("port on which", "eighty\n"),
            ("port on which", "8080\n"),
            ("domain, such as", "shop.example.com\n"),
        ],
    )
    assert ended.code == 0, ended.text
    assert "cannot use image WEB: 'WEB' is not a repository" in ended.text
    assert "cannot use port eighty: 'eighty' is not a whole number" in ended.text
    assert "wrote web.yml" in ended.text and "next: syntra-agent plan web.yml" in ended.text
    payload = read_service(there / "web.yml")
    assert payload["image"] == {"registry": "ghcr.io", "repository": "acme/web", "tag": "1.4"}
    assert payload["config"]["port"] == 8080  # type: ignore[index]
    assert payload["networking"] == {"domains": ["shop.example.com"]}
    with FakeAgent(cli.path) as agent:
        assert cli("plan", "web.yml")[0] == 0
        assert agent.last("plan")["service_name"] == "web"
    # What is in comments is a service file, too.
    text = (there / "web.yml").read_text()
    lines = [
        line.removeprefix("# ") if ": " in line or line.startswith("#   ") else line for line in text.splitlines()[1:]
    ]
    (there / "all.yml").write_text("\n".join(lines).replace("# env:", "env:").replace("# volumes:", "volumes:"))
    assert read_service(there / "all.yml")["config"]["env_vars"]["DATABASE_URL"] == {"secret": "db_url"}  # type: ignore[index]


def test_answers_come_from_a_pipe_or_from_options(there: Path) -> None:
    ended = piped("nginx\n\n\n")
    assert (ended.returncode, ended.stdout) == (0, "wrote nginx.yml\nnext: syntra-agent plan nginx.yml\n")
    assert read_service(there / "nginx.yml")["networking"] == {"domains": []}
    ended = piped(
        "",
        "api.yaml",
        "--image",
        "r.example:5000/team/api@sha256:" + "0" * 64,
        "--port",
        "80",
        "--domain",
        "*.a.example",
    )
    assert ended.returncode == 0, ended.stderr
    assert read_service(there / "api.yaml")["networking"] == {"domains": ["*.a.example"]}


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        ((), "", "cannot write a service file: there is no image; give --image"),
        ((), "NGINX\n", "cannot use image NGINX: 'NGINX' is not a repository"),
        (("--image", "nginx", "--port", "0"), "", "cannot use port 0: 0 is out of range"),
        (("--image", "nginx", "--port", "80", "--domain", "a b"), "", "cannot use domain a b: "),
        (("--from", "none.yaml"), "", "cannot read Compose file none.yaml: there is no such file"),
        (("--from", "compose.yaml", "--image", "x"), "", "cannot use --image, --port or --domain with --from"),
    ],
)
def test_a_wrong_answer_writes_nothing(there: Path, words: tuple[str, ...], text: str, said: str) -> None:
    ended = piped(text, *words)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert list(there.iterdir()) == []


def test_nothing_is_replaced_without_force(there: Path) -> None:
    (there / "nginx.yml").write_text("mine")
    ended = piped("nginx\n80\n\n")
    assert ended.returncode == 2
    assert "cannot write nginx.yml: it exists; give another PATH, or --force to replace it" in ended.stderr
    assert (there / "nginx.yml").read_text() == "mine"
    assert piped("nginx\n80\n\n", "--force").returncode == 0
    (there / "compose.yaml").write_text(COMPOSE)
    (there / "services").mkdir()
    (there / "services" / "db.yml").write_text("mine")
    assert piped("", "--from", "compose.yaml").returncode == 2
    assert [file.name for file in (there / "services").iterdir()] == ["db.yml"]


def test_a_compose_file_becomes_service_files_that_plan_accepts(
    there: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there / "compose.yaml").write_text(COMPOSE)
    (there / "web.env").write_text("FROM_FILE=x\n")
    ended = piped("", "--from", "compose.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (
        "wrote services/web.yml\nwrote services/db.yml\nwrote services/worker.yml\n"
        "next: syntra-agent plan --expand services\n"
    )
    monkeypatch.setenv("DB_PASSWORD", "from here")
    with FakeAgent(cli.path) as agent:
        code, _, err = cli("plan", "--expand", "services")
        sent = {each["payload"]["service_name"]: each["payload"] for each in agent.requests if each["type"] == "plan"}
    assert (code, err) == (0, "")
    web, db, worker = sent["web"], sent["db"], sent["worker"]
    assert web["project_name"] == "shop"
    assert web["image"] == {"registry": "ghcr.io", "repository": "acme/web", "tag": "1.10"}
    config = web["config"]
    assert config["command"] == ["serve", "--port", "8080", "08"]
    assert config["env_vars"] == {"FROM_FILE": "x", "LOG_LEVEL": "info", "COUNTRY": "no", "VERSION": "1.10"}
    assert (config["port"], web["networking"]) == (8080, {"domains": ["a.example", "b.example"], "expose_port": 80})
    assert [
        (one.get("host_path"), one["name"], one["container_path"], one["read_only"]) for one in config["volumes"]
    ] == [
        (None, "data", "/data", False),
        (str(there / "static"), "", "/static", True),
    ]
    assert config["tmpfs"] == [{"path": "/scratch", "options": ""}]
    assert config["labels"] == {"team": "shop"}
    assert float(config["cpu_limit"]) == 0.5
    check = config["health_check"]
    assert (check["type"], check["command"]) == ("exec", ["wget", "-q", "localhost"])
    assert (check["interval_seconds"], check["timeout_seconds"], check["retries"]) == (90, 0.5, 3)
    assert config["stop_grace_seconds"] == 60
    assert db["config"]["env_vars"] == {"POSTGRES_PASSWORD": "from here"}
    assert db["config"]["volumes"][0]["name"] == "old_pg" and db["config"]["volumes"][0]["external"] is True
    assert db["config"]["health_check"]["command"] == ["sh", "-c", "pg_isready -U app"]
    assert worker["image"]["repository"] == "my-app-worker"
    assert (worker["config"]["replicas"], worker["networking"]) == (3, {"domains": []})


def test_what_a_compose_file_loses_is_listed_with_reasons(there: Path) -> None:
    (there / "compose.yaml").write_text(COMPOSE)
    said = piped("", "--from", "compose.yaml", "out/deep").stderr
    for name, reason in {
        "networks": "a service file has no such key",
        "web.ports": "9090:9090 is one more port",
        "web.environment.PASSWORD": "it has no value; write PASSWORD: ${PASSWORD}",
        "web.volumes": "/anonymous has no name or path",
        "web.networks": "use project",
        "web.privileged": "is refused: a privileged container",
        "web.build": "build and push the image elsewhere",
        "db.environment.PLAIN": "it has no value",
        "db.restart": "no is not possible",
        "db.memory_limit": "'1m' is less than the 6 MB",
        "worker.build": "build and push the image elsewhere, and write its name in image",
        "worker.ports": "several replicas cannot share a port of the host",
    }.items():
        assert any(line.startswith(f"not carried over: {name}: ") and reason in line for line in said.splitlines()), (
            name,
            said,
        )
    assert "web.ports: 127.0.0.1:1:2 is not PORT or PORT:PORT of TCP" in said
    assert said.splitlines()[-1] == "note: the files have variables; plan and deploy them with --expand"
    assert "# Not carried over: web.build: " in (there / "out" / "deep" / "web.yml").read_text()
    assert "../../web.env" in (there / "out" / "deep" / "web.yml").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {}\n", "it has no services; is it a Compose file?"),
        ("image: x\n", "it has no services"),
        ("- a\n", "it has no services"),
        ("services: [\n", "compose.yaml:2:1: it is not valid YAML"),
        ("services: !!python/object:os.system {}\n", "it is not valid YAML"),
        ("services: {a: &a [*a]}\n", "it is nested more than 32 levels deep"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c]\nservices: {e: [*d,*d,*d,*d,*d,*d,*d,*d,*d]}\n",
            "it holds more than 10000 values",
        ),
    ],
)
def test_what_is_no_compose_file_is_said(there: Path, text: str, said: str) -> None:
    (there / "compose.yaml").write_text(text)
    ended = piped("", "--from", "compose.yaml")
    assert ended.returncode == 2
    assert ended.stderr.startswith("cannot read Compose file compose.yaml") and said in ended.stderr


def test_odd_services_are_written_or_listed_and_never_break(there: Path) -> None:
    odd = ["5", "x", "[]", "{}", "[1]", "{a: b}", "~", "[{}]", "[~]", "'${X}'", "[[]]"]
    keys = ["command", "environment", "env_file", "labels", "ports", "expose", "volumes", "tmpfs", "restart", "scale"]
    keys += ["deploy", "stop_grace_period", "healthcheck", "networks", "ulimits", "image", "user", "init", "build"]
    services = [
        f"  {key.replace('_', '-')}-{number}: {{image: nginx, {key}: {value}}}\n"
        if key != "image"
        else f"  image-{number}: {{image: {value}}}\n"
        for key in keys
        for number, value in enumerate(odd)
    ]
    (there / "compose.yaml").write_text("services:\n" + "".join(services))
    ended = piped("", "--from", "compose.yaml")
    assert ended.returncode == 0, ended.stderr
    # An env file is named as Compose names it, whether it is there or not.
    for file in (there / "services").glob("[!e]*"):
        read_service(file, variables={"X": "1"})
