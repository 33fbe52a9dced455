"""`cp` where a container has no `tar`, or does not run: the engine's archives, on Docker and on Podman."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.service_stage import Stage
from tests.engine import api, cleanup, missing, new_token, progress, raw, require_engine
from tests.podman import podman_service, speaking_to_podman

__all__ = ["podman_service"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

CONFIG = '[networking]\nproxy = "off"\ndns.mode = "off"\n'


@pytest.fixture(params=["docker", "podman"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A service of one replica that runs, from an image with one file."""
    if request.param == "docker":
        require_engine()
        yield from _stage(tmp_path)
    else:
        with speaking_to_podman(request.getfixturevalue("podman_service")):
            yield from _stage(tmp_path)


def _stage(folder: Path) -> Iterator[Stage]:
    token = new_token()
    image_of_one_program(token)
    try:
        with AgentProcess(folder / "agent", config=CONFIG) as agent:
            found = Stage(token=token, agent=agent)
            deployed = found.run("deploy", "-", text=found.file())
            assert deployed.returncode == 0, deployed
            yield found
    finally:
        cleanup(token)


def image_of_one_program(token: str) -> None:
    """From nothing: one static program, and no name by which it would be `tar`, `test` or a shell."""
    program = shutil.which("busybox")
    if program is None:
        missing("no static busybox to make images of; install busybox-static")
    assert program is not None, "cannot happen: `missing` does not return"
    root = io.BytesIO()
    with tarfile.open(fileobj=root, mode="w") as archive:
        entry = tarfile.TarInfo("busybox-app")
        content = Path(program).read_bytes()
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
    query = {"fromSrc": "-", "repo": token, "tag": "v1", "changes": ['CMD ["/busybox-app", "sleep", "100000"]']}
    kind = {"Content-Type": "application/x-tar"}
    lines = progress(raw("POST", "/images/create", root.getvalue(), query=query, headers=kind))
    api("POST", f"/images/{lines[-1]['status']}/tag", query={"repo": token, "tag": "v1"})


def test_an_image_without_tar_and_a_stopped_container_are_copied_from_and_to(stage: Stage, tmp_path: Path) -> None:
    assert stage.run("exec", "web", "--", "tar").returncode in (126, 127)
    site = tmp_path / "site"
    (site / "deep").mkdir(parents=True)
    (site / "deep" / "page").write_text("hello")
    (site / "deep" / "page").chmod(0o640)
    (site / "link").symlink_to("deep/page")

    def copies(name: str) -> None:
        for words in (
            (str(site), f"web:/{name}"),
            (f"{site}/deep/page", f"web:/{name}"),
            (f"web:/{name}", str(tmp_path / name)),
        ):
            copied = stage.run("cp", *words)
            assert copied.returncode == 0, (words, copied.stderr)
        assert (tmp_path / name / "deep" / "page").read_text() == "hello"
        assert (tmp_path / name / "page").stat().st_mode & 0o777 == 0o640
        assert (tmp_path / name / "link").readlink() == Path("deep/page")
        for words in (("web:/nope", str(tmp_path / "nope")), (str(site), "web:/nope/nope")):
            refused = stage.run("cp", *words)
            assert refused.returncode == 1 and refused.stderr.startswith("cannot copy web:/nope"), refused.stderr
            assert "no such file or folder in the container" in refused.stderr and refused.stderr.count("\n") == 1

    copies("running")
    [container] = stage.replicas()
    owned = api(
        "POST",
        f"/containers/{container['Id']}/exec",
        {"Cmd": ["/busybox-app", "stat", "-c", "%a %u %g", "/running/page"], "AttachStdout": True, "Tty": True},
    )
    assert (
        raw(
            "POST", f"/exec/{owned['Id']}/start", b'{"Tty": true}', headers={"Content-Type": "application/json"}
        ).strip()
        == b"640 0 0"
    )
    assert stage.run("stop", "web").returncode == 0
    [container] = stage.replicas()
    assert container["State"] != "running"
    copies("stopped")
    # What was copied while it ran is there, too.
    assert stage.run("cp", "web:/running/.", str(tmp_path / "again")).returncode == 0
    assert (tmp_path / "again" / "deep" / "page").read_text() == "hello"
    assert json.loads(stage.run("cp", "--json", f"{site}/.", "web:/stopped").stdout) == {"files": 1, "bytes": 5}
