"""What is left out of the program and what goes in by name, against the packages as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from build.compile import LOADED_BY_NAME, NOT_NEEDED
from build.facts import requirements
from build.sources import PINS

WITHOUT = """
import asyncio, json, sys
from importlib.abc import MetaPathFinder
from pathlib import Path

left_out, kubeconfig = json.loads(sys.argv[1]), sys.argv[2]

class LeftOut(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if any(name == one or name.startswith(one + ".") for one in left_out):
            raise ModuleNotFoundError(f"{name} is not in the program", name=name)

sys.meta_path.insert(0, LeftOut())
from syntra.runtime.kubernetes.access import Access, find_source

async def main():
    access = await Access.open(find_source(Path(kubeconfig), {}))
    print(json.dumps([access.address.authority, await access.authorization()]))
    print(json.dumps([name for name in sys.modules if name.startswith("kubernetes.client.")]))

asyncio.run(main())
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: one, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: one, user: {token: something}}]
contexts: [{name: one, context: {cluster: one, user: one}}]
current-context: one
"""


@pytest.mark.parametrize("name", LOADED_BY_NAME)
def test_a_module_that_goes_in_by_name_exists(name: str) -> None:
    """Nuitka ends with an error for one that does not."""
    assert find_spec(name) is not None


def test_a_cluster_needs_nothing_that_is_left_out(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(NOT_NEEDED), str(kubeconfig)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found, loaded = map(json.loads, ended.stdout.splitlines())
    assert found == ["127.0.0.1:6443", "Bearer something"]
    # The package's own `import` statements name `models`; the other modules are found by name only.
    assert set(loaded) - {"kubernetes.client.models"} <= set(LOADED_BY_NAME)


def test_what_is_left_out_is_required_by_another_package_and_named_nowhere_else() -> None:
    left_out = PINS["python_packages"]["left_out"]
    pinned = (Path(__file__).parents[2] / "requirements/run.txt").read_text()
    assert [name for name in left_out if f"\n{name}==" not in f"\n{pinned}"] == []
    assert set(left_out).isdisjoint(requirements())
