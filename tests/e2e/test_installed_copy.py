"""The package, installed by pip into an empty environment: it works from anywhere, without the sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.artifact import ELSEWHERE, ROOT, clean_environment, live, run_once
from tests.engine import missing

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

NO_PACKAGES = ("No matching distribution found", "Could not find a version", "connection error", "Temporary failure")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment's folder. The copy that it was installed from is gone."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "syntra", source / "syntra", ignore=shutil.ignore_patterns("__pycache__"))
    environment = folder / "venv"
    interpreter = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([interpreter, "-m", "venv", environment], check=True, timeout=120, env=clean_environment())
    ended = subprocess.run(
        [environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check", source],
        cwd=ELSEWHERE,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if any(words in ended.stderr for words in NO_PACKAGES):
        missing(f"no package index to install the dependencies from: {ended.stderr[-300:]}")
    assert ended.returncode == 0, ended.stderr
    shutil.rmtree(source)
    yield environment
    shutil.rmtree(folder)


def test_the_package_is_whole_and_needs_nothing_but_its_dependencies(installed: Path) -> None:
    """Every module can be imported with what `dependencies` names, and typed programs find `py.typed`."""
    script = (
        "import importlib, pathlib, pkgutil, syntra\n"
        "for found in pkgutil.walk_packages(syntra.__path__, 'syntra.'):\n"
        "    if found.name != 'syntra.__main__': importlib.import_module(found.name)\n"
        "print(pathlib.Path(syntra.__file__).parent)\n"
    )
    package = Path(
        run_once([str(installed / "bin/python")], clean_environment(), "-W", "error", "-c", script).stdout.strip()
    )
    assert package.is_relative_to(installed)
    assert (package / "py.typed").exists()
    assert (package / "update/boot_check.sh").exists()
    assert {p.name for p in (ROOT / "syntra").rglob("*.py")} == {p.name for p in package.rglob("*.py")}


def test_an_installed_copy_runs_the_whole_product(installed: Path, tmp_path: Path) -> None:
    live([str(installed / "bin/syntra-agent")], tmp_path)


def test_the_installed_package_runs_as_a_module(installed: Path) -> None:
    bin, environment = installed / "bin", clean_environment()
    as_module = run_once([str(bin / "python"), "-m", "syntra"], environment, "version").stdout
    assert as_module == run_once([str(bin / "syntra-agent")], environment, "version").stdout
