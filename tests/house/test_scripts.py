"""The scripts' own decisions: what counts as failed, and what is said when something is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_tally(folder: Path, other: int = 0) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, ROOT / "scripts/tally.py", folder, str(other)], capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout


def junit(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


PASSED = '<testcase classname="a" name="passes"/>'
FAILED = '<testcase classname="a" name="fails"><failure/></testcase>'
SKIPPED = '<testcase classname="a" name="skipped"><skipped/></testcase>'
UNCLEAN = '<testcase classname="a" name="x"/><testcase classname="a" name="x"><error/></testcase>'


def record(folder: Path, name: str, status: int, *cases: str) -> None:
    (folder / f"{name}.xml").write_text(junit(*cases))
    (folder / f"{name}.status").write_text(f"{status}\n")


def test_results_of_several_runs_are_summed_into_one_line(tmp_path: Path) -> None:
    record(tmp_path, "unit", 0, PASSED, SKIPPED)
    record(tmp_path, "e2e", 0, PASSED)
    record(tmp_path, "soak", 5)
    assert run_tally(tmp_path) == (0, "2 passed, 0 failed, 1 skipped\n")


@pytest.mark.parametrize("cases", [(PASSED, FAILED), (PASSED, UNCLEAN)])
def test_a_failure_or_an_unclean_end_counts_once_and_fails_the_whole(tmp_path: Path, cases: tuple[str, ...]) -> None:
    record(tmp_path, "unit", 1, *cases)
    assert run_tally(tmp_path) == (1, "1 passed, 1 failed, 0 skipped\n")


@pytest.mark.parametrize("status", [1, 2, 3, 4, 137])
def test_a_run_that_went_wrong_without_a_failed_test_is_a_failure(tmp_path: Path, status: int) -> None:
    record(tmp_path, "unit", status, PASSED)
    assert run_tally(tmp_path) == (1, "1 passed, 1 failed, 0 skipped\n")


def test_a_run_without_readable_results_and_a_failed_gate_are_failures(tmp_path: Path) -> None:
    record(tmp_path, "unit", 0, PASSED)
    (tmp_path / "e2e.xml").write_text("<testsuites><testsui")
    (tmp_path / "e2e.status").write_text("2")
    assert run_tally(tmp_path, 1) == (1, "1 passed, 2 failed, 0 skipped\n")


def lib(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines of shell with scripts/lib.sh loaded."""
    return subprocess.run(
        ["bash", "-euc", f". scripts/lib.sh\n{script}"],
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_program_is_said_in_one_line_with_the_package_to_install() -> None:
    ended = lib("may_install() { return 1; }\nensure_packages sh:dash no-such-program:its-package")
    assert ended.returncode != 0
    assert ended.stderr == "missing: its-package; install with: apt-get install its-package\n"


def test_a_missing_program_is_installed_where_that_is_allowed(tmp_path: Path) -> None:
    stand_in = tmp_path / "apt-get"
    # Fails before the lists are fresh, as on a new machine.
    stand_in.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *update*) touch {tmp_path}/fresh;;\n'
        f"*) [ -e {tmp_path}/fresh ] && cp /bin/true {tmp_path}/new-program;; esac\n"
    )
    stand_in.chmod(0o755)
    ended = lib(
        "may_install() { return 0; }\nensure_packages new-program:new-package && new-program",
        PATH=f"{tmp_path}:/usr/bin:/bin",
    )
    assert (ended.returncode, ended.stderr) == (0, "installing new-package (apt)\n")


def test_a_python_that_is_too_old_does_not_fit(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert lib(f"fits {old}").returncode != 0
    assert lib('fits "$VENV/bin/python"').returncode == 0


def test_an_unknown_stage_combination_is_refused() -> None:
    ended = subprocess.run([ROOT / "scripts/test", "unit", "gate"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "one stage at a time" in ended.stderr


@pytest.mark.parametrize("name", ["bench", "build", "build-release.sh", "demo", "format", "record-session", "test"])
def test_help_is_printed_and_nothing_else_happens(name: str) -> None:
    ended = subprocess.run([ROOT / "scripts" / name, "--help"], capture_output=True, text=True, check=False, timeout=10)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"Usage: scripts/{name}")


def test_help_shows_every_stage() -> None:
    ended = subprocess.run([ROOT / "scripts/test", "--help"], capture_output=True, text=True, check=True)
    for stage in ("gate", "unit", "engine", "e2e", "soak", "PATH"):
        assert f"\n  {stage} " in ended.stdout or f"\n  {stage}…" in ended.stdout


def test_every_script_is_one_that_its_interpreter_can_read() -> None:
    scripts = [path for path in [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci/run"] if path.is_file()]
    shells = [path for path in scripts if path.read_bytes().startswith(b"#!") and b"sh" in path.read_bytes()[:32]]
    assert {"bench", "build", "demo", "run", "test"} <= {path.name for path in shells}
    for path in shells:
        read = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
        assert read.returncode == 0, f"{path.name}: {read.stderr}"


def test_an_unknown_benchmark_is_refused_with_those_there_are() -> None:
    refused = subprocess.run([ROOT / "scripts/bench", "nothing"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "use one of deploy start idle" in refused.stderr
    for name in refused.stderr.split(" one of ")[1].split():
        assert (ROOT / f"benchmarks/{name.replace('-', '_')}.py").is_file(), name
