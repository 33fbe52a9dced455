"""`cp` through the user's door: files and folders from and to a container of a real engine."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.service_stage import Stage
from tests.engine import busybox_image, cleanup, new_token, require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

SIZE = 48 * 1024 * 1024


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", "v1")
    try:
        with AgentProcess(tmp_path_factory.mktemp("agent")) as agent:
            found = Stage(token=token, agent=agent)
            assert found.run("deploy", "-", text=found.file(port=8080, replicas=2)).returncode == 0
            yield found
    finally:
        cleanup(token)


def raw(stage: Stage, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [*AGENT, "--socket", str(stage.agent.socket), *words]
    return subprocess.run(argv, input=data, capture_output=True, check=False, timeout=120)


def in_container(stage: Stage, script: str, replica: str = "1") -> str:
    ended = stage.run("exec", "--replica", replica, "web", "--", "sh", "-c", script)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_files_and_folders_are_copied_both_ways(stage: Stage, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "deep" / "er").mkdir(parents=True)
    (site / "deep" / "er" / "-dash").write_text("dash")
    (site / "index.html").write_text("hello")
    (site / "link").symlink_to("index.html")
    (site / "index.html").chmod(0o640)
    # To a new name, into a folder that exists, and to one replica alone.
    copied = stage.run("cp", str(site), "web.2:/tmp/new")
    assert (copied.returncode, copied.stdout) == (0, "copied 2 files, 9 B, to web.2:/tmp/new\n"), copied.stderr
    assert in_container(stage, "cat /tmp/new/link /tmp/new/deep/er/-dash", "2") == "hellodash"
    assert in_container(stage, "ls /tmp", "1").split() == []
    assert stage.run("cp", str(site / "index.html"), "web.2:/tmp/new/deep").returncode == 0
    assert in_container(stage, "stat -c '%a %u' /tmp/new/deep/index.html", "2") == "640 0\n"
    # And back.
    assert stage.run("cp", "web.2:/tmp/new", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back" / "link").readlink() == Path("index.html")
    assert (tmp_path / "back" / "deep" / "er" / "-dash").read_text() == "dash"
    assert stage.run("cp", "web.2:/tmp/new/deep/er/-dash", str(tmp_path)).returncode == 0
    assert (tmp_path / "-dash").read_text() == "dash"
    assert stage.run("cp", "web.2:/tmp/new/index.html", str(tmp_path / "other")).returncode == 0
    assert (tmp_path / "other").read_text() == "hello"


def test_an_archive_passes_through_the_standard_streams(stage: Stage, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("streamed")
        member.size = SIZE
        tar.addfile(member, io.BytesIO(bytes(SIZE)))
    given = raw(stage, "cp", "-", "web.1:/tmp", data=archive.getvalue())
    assert (given.returncode, given.stdout, given.stderr) == (0, b"", b"")
    assert in_container(stage, "stat -c %s /tmp/streamed") == f"{SIZE}\n"
    taken = raw(stage, "cp", "web.1:/tmp/streamed", "-")
    assert taken.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(taken.stdout)) as tar:
        assert [(one.name.removeprefix("./"), one.size) for one in tar] == [("streamed", SIZE)]
    in_container(stage, "rm /tmp/streamed")


def test_what_would_leave_the_destination_is_refused(stage: Stage, tmp_path: Path) -> None:
    in_container(stage, "mkdir /tmp/x; mknod /tmp/x/device c 1 3")
    (tmp_path / "into").mkdir()
    for made in ("mknod /tmp/x/it c 1 3", "ln -s / /tmp/x/it", "ln -s ../../../outside /tmp/x/it"):
        in_container(stage, f"rm -rf /tmp/x; mkdir /tmp/x; {made}")
        refused = stage.run("cp", "web.1:/tmp/x", str(tmp_path / "into"))
        assert refused.returncode == 1, (made, refused.stdout)
        assert refused.stderr.startswith("cannot copy web:/tmp/x: ") and refused.stderr.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["into"]
        assert not (tmp_path / "into" / "x" / "it").is_symlink()
    in_container(stage, "rm -rf /tmp/x")


def test_names_follow_docker_cp(stage: Stage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    in_container(
        stage,
        "mkdir -p /tmp/n/there /tmp/n/real; ln -s real /tmp/n/link; echo old > /tmp/n/file; ln -s file /tmp/n/to-file",
    )
    # The content alone, into what is there and to what is not; a folder that is a link; a path without its slash.
    for given, path in (
        (f"{source}/.", "/tmp/n/there"),
        (f"{source}/.", "/tmp/n/new"),
        (str(source), "/tmp/n/link/"),
        (f"{source}/a", "tmp/n/to-file"),
    ):
        copied = stage.run("cp", given, f"web.1:{path}")
        assert copied.returncode == 0, copied.stderr
    found = "cd /tmp/n; cat there/a new/a real/source/a file; test -L link && test -L to-file && ls there"
    assert in_container(stage, found) == "aaaaa\n"
    for given, path, said in (
        (str(source), "/tmp/n/file", "cannot overwrite non-directory"),
        (f"{source}/a", "/tmp/n/nope/", "there is no such folder in the container"),
    ):
        refused = stage.run("cp", given, f"web.1:{path}")
        assert refused.returncode == 1 and said in refused.stderr, refused.stderr
        assert refused.stderr.startswith(f"cannot copy web:{path}: ")
    # And back.
    assert stage.run("cp", "web.1:/tmp/n/there/.", str(tmp_path / "content")).returncode == 0
    assert [path.name for path in (tmp_path / "content").iterdir()] == ["a"]
    assert stage.run("cp", "web.1:/tmp/n/there", str(tmp_path / "content")).returncode == 0
    assert (tmp_path / "content" / "there" / "a").read_text() == "a"
    in_container(stage, "rm -rf /tmp/n")


def test_a_copy_that_the_container_cannot_take_says_why(stage: Stage, tmp_path: Path) -> None:
    # The engine answers long before it has read all of it.
    (tmp_path / "large").write_bytes(bytes(SIZE))
    refused = stage.run("cp", str(tmp_path / "large"), "web.1:/proc/none/large")
    assert refused.returncode == 1, refused.stdout
    assert refused.stderr.startswith("cannot copy web:/proc/none/large: ") and refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["/a", "/b"], 2, "exactly one of SRC and DST"),
        (["web:/a", "web:/b"], 2, "exactly one of SRC and DST"),
        (["web:", "/b"], 2, "there is no path behind the colon"),
        (["web:/nope", "/tmp/x"], 1, "cannot copy web:/nope: "),
        (["web.9:/etc", "/tmp/x"], 1, "cannot copy web:/etc: "),
        (["nope:/etc", "/tmp/x"], 1, "cannot find service nope"),
        (["/no/such", "web:/tmp"], 1, "cannot copy /no/such: No such file"),
        (["/etc/hostname", "web:/no/such/name"], 1, "cannot copy web:/no/such/name: "),
        (["web:/etc", "/no/such/name"], 1, "there is no folder /no/such"),
    ],
)
def test_what_cannot_be_copied_is_said_in_one_line(stage: Stage, words: list[str], code: int, said: str) -> None:
    ended = stage.run("cp", *words)
    assert ended.returncode == code and said in ended.stderr and ended.stderr.count("\n") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
