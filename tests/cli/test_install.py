"""`install` and `uninstall` refuse what they cannot do; tests/e2e/test_install.py has what they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.cli.main import main

TOKEN = "syn_agt_canary of the command line"


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(words)
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


def test_sources_are_not_installed_as_a_binary(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refusal(capsys, "install", "--dry-run")
    assert code == 1
    assert said.startswith("cannot install the agent: this is not the compiled binary; install a release")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--endpoint=http://x"], "cannot use --endpoint: it must start with wss://"),
        (["--endpoint=wss://x/?token=secret"], "cannot use --endpoint: it must not hold a token in its query"),
        (["--endpoint=wss://x", "--server-id=a b"], "cannot use --server-id: it "),
        (["--token-file=a", "--token=b"], "cannot use --token: not allowed with argument --token-file"),
        (["--config=/etc/other.toml"], "cannot install the agent: --config does not apply"),
    ],
)
def test_wrong_options_are_usage_errors(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refusal(capsys, "install", *words)
    assert (code, said.startswith(sentence)) == (2, True), said


def test_a_wrong_token_is_refused_without_any_part_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    for option in (f"--token={TOKEN}", f"--token-file={file}"):
        code, said = refusal(capsys, "install", "--endpoint=wss://cp.example.com/ws", option)
        assert code == 2
        assert said.startswith("cannot use the token: ")
        assert "canary" not in said


def test_a_token_file_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refusal(capsys, "install", "--endpoint=wss://x", f"--token-file={tmp_path}/none")
    assert (code, said) == (
        1,
        f"cannot read the token from {tmp_path}/none: there is no such file; check --token-file\n",
    )


def test_uninstall_of_nothing_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/opt/syntra-agent").exists():
        pytest.skip("an agent is installed on this machine")
    assert main(["uninstall", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("removing syntra-agent: nothing to do\n")
