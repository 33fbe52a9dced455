"""Variables in service files: replaced as Compose does, wholly or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.cli.exit_codes import CliError
from syntra.cli.service_expand import expand
from syntra.cli.service_file import read_service
from tests.cli.fake_agent import Cli, FakeAgent

VARIABLES = {"A": "one", "EMPTY": "", "B_2": "two", "DOLLAR": "$A ${A}"}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("plain", "plain"),
        ("$A", "one"),
        ("${A}", "one"),
        ("-${A}-$B_2.x", "-one-two.x"),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY-other}", ""),
        ("${NO:-other}", "other"),
        ("${NO-other}", "other"),
        ("${NO:-}", ""),
        ("${A:-other}", "one"),
        ("${NO:-${B_2}}", "two"),
        ("${NO:-${NO2:-a b}c}", "a bc"),
        ("${A:-${NO}}", "one"),  # a default that is not used needs no variable
        ("${A:+yes}", "yes"),
        ("${EMPTY:+yes}", ""),
        ("${EMPTY+yes}", "yes"),
        ("${NO+yes}", ""),
        ("${A:?reason}", "one"),
        ("$$A $${A} $$", "$A ${A} $"),
        ("${DOLLAR}", "$A ${A}"),  # a value is not expanded again
        ("{}}", "{}}"),
    ],
)
def test_a_text_is_expanded(text: str, becomes: str) -> None:
    assert expand(text, VARIABLES) == becomes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a ${NO} b", "needs the variable NO, which is not set; set it, or write ${NO:-DEFAULT}"),
        ("$NO", "needs the variable NO"),
        ("${NO:-${NO2}}", "needs the variable NO2"),
        ("${EMPTY:?give one}", "needs the variable EMPTY: give one"),
        ("${NO?}", "needs the variable NO: it is not set"),
        ("${A", "has a `${A` that does not end"),
        ("${A:-x", "has a `${` without `}`"),
        ("${A!}", "has a `${A` that does not end"),
        ("${}", "has a `$` that begins no variable; write `$$`"),
        ("$", "has a `$` that begins no variable"),
        ("$1", "has a `$` that begins no variable"),
        ("${A:-" * 20 + "}" * 20, "has variables nested more than 10 deep"),
    ],
)
def test_what_cannot_be_expanded_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as wrong:
        expand(text, VARIABLES)
    assert said in str(wrong.value)


def test_every_cut_of_a_text_is_expanded_or_said() -> None:
    whole = "a${A:-${B_2}x}$$ ${NO:+y} $A"
    for cut in range(len(whole)):
        try:
            assert "${" not in expand(whole[:cut], VARIABLES)
        except ValueError as wrong:
            assert "`$" in str(wrong)


FILE = """\
image: shop/web:${TAG:-1.10}
port: ${PORT}
replicas: "${COUNT}"
env:
  VERSION: ${VERSION}
  URL: "http://${HOST}:$PORT/"
  ${KEY}: stays
command: [serve, --port, "${PORT}"]
ulimits: {nofile: $COUNT}
"""
ENVIRON = {"PORT": "8080", "COUNT": "2", "VERSION": "1.20", "HOST": "db"}


@pytest.mark.parametrize("suffix", ["yaml", "json", "toml"])
def test_values_have_the_type_that_their_setting_needs(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"web.{suffix}"
    file.write_text(
        {
            "yaml": FILE.replace("  ${KEY}: stays\n", ""),
            "json": '{"image": "shop/web:${TAG:-1.10}", "port": "${PORT}", "replicas": "${COUNT}", "env": {"VERSION": '
            '"${VERSION}", "URL": "http://${HOST}:$PORT/"}, "command": ["serve", "--port", "${PORT}"], "ulimits": '
            '{"nofile": "$COUNT"}}',
            "toml": 'image = "shop/web:${TAG:-1.10}"\nport = "${PORT}"\nreplicas = "${COUNT}"\ncommand = ["serve", '
            '"--port", "${PORT}"]\n[env]\nVERSION = "${VERSION}"\nURL = "http://${HOST}:$PORT/"\n[ulimits]\n'
            'nofile = "$COUNT"\n',
        }[suffix]
    )
    payload = read_service(file, variables=ENVIRON)
    config = payload["config"]
    assert isinstance(config, dict)
    assert payload["image"] == {"registry": "", "repository": "shop/web", "tag": "1.10"}
    assert (config["port"], config["replicas"]) == (8080, 2)
    assert config["env_vars"] == {"VERSION": "1.20", "URL": "http://db:8080/"}
    assert config["command"] == ["serve", "--port", "8080"]
    assert config["ulimits"] == {"nofile": {"soft": 2, "hard": 2}}


def test_all_unset_variables_are_said_with_their_places_and_nothing_is_expanded(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(FILE)
    with pytest.raises(CliError) as refused:
        read_service(file, variables={"VERSION": "geheim"})
    assert [line.partition(": needs")[0].strip() for line in str(refused.value).splitlines()[1:]] == [
        f"{file}:2:1: port",
        f"{file}:3:1: replicas",
        f"{file}:6:3: env.URL",
        f"{file}:8:26: command[2]",
        f"{file}:9:11: ulimits.nofile",
    ]
    assert "geheim" not in str(refused.value)


def test_without_expand_the_lines_are_warned_of_and_the_text_stays(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("image: nginx\nenv:\n  A: ${A}\n  B: $HOME $$ {x}\n  C: $${C}\n  D: ${D:-x}\n")
    with FakeAgent(cli.path) as agent:
        code, _, err = cli("plan", str(file))
        assert agent.last("plan")["config"]["env_vars"]["A"] == "${A}"
    assert code == 0
    assert err == (
        f"warning: {file}:3, 6: ${{…}} is passed on as it is written; --expand replaces it by the variable's value\n"
    )


def test_the_environment_wins_over_an_env_file(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    file, variables = tmp_path / "web.yaml", tmp_path / "vars"
    file.write_text("image: nginx\nenv: {A: '${FROM_FILE}', B: '${FROM_BOTH}', C: '${FROM_HERE}'}\n")
    variables.write_text("FROM_FILE=file\nFROM_BOTH=file\n")
    monkeypatch.setenv("FROM_BOTH", "here")
    monkeypatch.setenv("FROM_HERE", "here")
    with FakeAgent(cli.path) as agent:
        assert cli("plan", str(file), "--expand", "--env-file", str(variables))[::2] == (0, "")
        assert agent.last("plan")["config"]["env_vars"] == {"A": "file", "B": "here", "C": "here"}
    assert cli("plan", str(file), "--env-file", str(variables))[2].startswith("cannot use --env-file: nothing is")
    code, _, err = cli("deploy", str(file), "--expand", "--env-file", str(tmp_path / "none"))
    assert code == 2 and "there is no such file" in err
    code, _, err = cli("deploy", str(file), "--expand")
    assert code == 2 and f"{file}:2:7: env.A: needs the variable FROM_FILE" in err
