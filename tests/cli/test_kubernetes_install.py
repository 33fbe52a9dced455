"""`install --kubernetes --print` and what it refuses; tests/e2e/test_agent_in_cluster.py has the install itself."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

import syntra
from syntra.cli.main import main

TOKEN = "syn_agt_canary_of_the_command_line"
ENDPOINT = "wss://panel.example.com/agent"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The printed objects by kind."""
    assert main(["install", "--kubernetes", "--print", *words]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


def configuration(objects: dict[str, Any]) -> str:
    return base64.b64decode(objects["Secret"]["data"]["agent.toml"]).decode()


def variables(objects: dict[str, Any]) -> dict[str, Any]:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_it_prints_every_object_in_the_order_in_which_it_is_applied(capsys: pytest.CaptureFixture[str]) -> None:
    objects = printed(capsys)
    assert [*objects] == [
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Secret",
        "PersistentVolumeClaim",
        "Deployment",
        "Service",
    ]
    namespaces = {one["metadata"].get("namespace") for one in objects.values()}
    assert namespaces == {None, "syntra"}
    spec = objects["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == f"syntra-agent:{syntra.__version__}"
    assert [port["port"] for port in objects["Service"]["spec"]["ports"]] == [4317, 4318]
    assert variables(objects)["SYNTRA_KUBERNETES__OTLP_ENDPOINT"] == "http://syntra-agent.syntra.svc:4318"


def test_the_token_is_in_the_secret_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    objects = printed(capsys, f"--endpoint={ENDPOINT}", f"--token-file={file}", "--server-id=srv_1")
    assert base64.b64decode(objects["Secret"]["data"].pop("token")).decode() == f"{TOKEN}\n"
    assert TOKEN not in str(objects)
    assert TOKEN not in configuration(objects)
    assert f'endpoint = "{ENDPOINT}"' in configuration(objects)
    assert 'server_id = "srv_1"' in configuration(objects)


def test_another_configuration_starts_the_agent_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"

    def annotations(text: str) -> dict[str, str]:
        file.write_text(text)
        objects = printed(capsys, f"--config={file}")
        assert configuration(objects) == text
        found: dict[str, str] = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        return found

    first = annotations('agent_id = "a"\n')
    assert annotations('agent_id = "a"\n') == first
    assert annotations('agent_id = "b"\n') != first


def test_an_agent_that_receives_nothing_has_no_service(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    for text in ('[telemetry]\nreceivers = "off"\n', '[kubernetes]\notlp_endpoint = "http://collector:4318"\n'):
        file.write_text(text)
        objects = printed(capsys, f"--config={file}")
        assert "Service" not in objects
        assert "SYNTRA_KUBERNETES__OTLP_ENDPOINT" not in variables(objects)


def test_without_a_volume_there_is_no_claim(capsys: pytest.CaptureFixture[str]) -> None:
    objects = printed(capsys, "--no-volume", "--namespace=tools", "--image=registry.example.com/agent:2")
    assert "PersistentVolumeClaim" not in objects
    assert objects["Namespace"]["metadata"]["name"] == "tools"
    assert objects["ClusterRole"]["metadata"]["name"] == "syntra-agent:tools"
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", "emptyDir": {}} in volumes


@pytest.mark.parametrize("size", ["5Gi", "1.5Gi", "20G", "1073741824"])
def test_a_volume_has_the_wanted_size_and_class(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = printed(capsys, f"--volume-size={size}", "--storage-class=fast")["PersistentVolumeClaim"]["spec"]
    assert (spec["resources"]["requests"]["storage"], spec["storageClassName"]) == (size, "fast")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--no-start"], 2, "cannot use --no-start with --kubernetes: "),
        ([f"--endpoint={ENDPOINT}", f"--token={TOKEN}"], 2, "cannot use --token with --kubernetes: other users"),
        ([f"--endpoint={ENDPOINT}"], 1, "cannot install the agent: the control plane needs a token; "),
        (["--namespace=Tools"], 2, "cannot use --namespace: 'Tools' is not a name of a namespace; "),
        (["--image=a b"], 2, "cannot use --image: 'a b' is not an image; give one such as registry.example.com/"),
        (["--volume-size=much"], 2, "cannot use --volume-size: 'much' is not a size; give one such as 1Gi"),
        (["--volume-size=0Gi"], 2, "cannot use --volume-size: '0Gi' is not a size; "),
        (["--config=/no/such/file"], 78, "cannot read /no/such/file: there is no such file; "),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", "--kubernetes", "--print", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(sentence), captured.err
    assert TOKEN not in captured.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f'[control_plane]\nendpoint = "{ENDPOINT}"\ntoken = "{TOKEN}"\n', "it holds the token; remove "),
        ("agent_id = \n", "it is not valid TOML: "),
        ('agent_ids = "a"\n', "agent_ids: unknown key, did you mean agent_id?"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    text: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    assert main(["install", "--kubernetes", "--print", f"--config={file}"]) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert TOKEN not in captured.err


def test_an_uninstall_stops_no_services(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uninstall", "--kubernetes", "--stop-services"]) == 2
    assert capsys.readouterr().err.startswith("cannot use --stop-services with --kubernetes: ")


def test_a_cluster_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("apiVersion: v1\nkind: Config\n")
    assert main(["install", "--kubernetes", f"--kubeconfig={file}"]) == 1
    assert capsys.readouterr().err.startswith(f"cannot use {file}: ")
