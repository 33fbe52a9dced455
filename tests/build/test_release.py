"""What goes into a release, and that the same content makes the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from build import sbom, sources
from build.errors import BuildError
from build.facts import requirements
from build.release import archive, main
from build.targets import BUILDER, TARGETS, Target, named
from syntra import __version__


def wheels_of(target: Target) -> dict[str, str]:
    """The pinned wheels that such a system can use, by their platform tag."""
    tags = {*target.wheel_platforms, "any"}
    return {
        name: value
        for name, value in sources.PINS["wheels"].items()
        if tags & set(name.removesuffix(".whl").split("-")[-1].split("."))
    }


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_required_package_has_a_pinned_wheel(target: Target) -> None:
    found = {tuple(name.lower().split("-")[:2]) for name in wheels_of(target)}
    for name, version in requirements().items():
        assert (name.replace("-", "_").replace(".", "_").lower(), version) in found, f"update build/pins.toml: {name}"


def test_the_pinned_source_of_protobuf_is_the_required_version() -> None:
    assert sources.PINS["upb"]["file"] == f"protobuf-{requirements()['protobuf']}.tar.gz"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_has_two_names(target: Target) -> None:
    assert named(target.name) is named(target.triple) is target


def test_an_unknown_target_is_refused_with_those_there_are() -> None:
    with pytest.raises(BuildError, match="cannot build for riscv64-gnu: no such target; use x86_64-gnu, x86_64-musl"):
        named("riscv64-gnu")


def test_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["9.9.9", "x86_64-gnu"]) == 1
    assert f"cannot build 9.9.9: the sources are {__version__}" in capsys.readouterr().err


def test_a_file_that_differs_from_its_pin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something")
    right = hashlib.sha256(b"something").hexdigest()
    assert sources.checked(tmp_path / "file", right) == tmp_path / "file"
    with pytest.raises(BuildError, match="cannot use file: its SHA-256 is"):
        sources.checked(tmp_path / "file", "0" * 64)


def test_an_archive_has_no_trace_of_its_making(tmp_path: Path) -> None:
    program = tmp_path / "syntra-agent"
    program.write_bytes(b"program")
    first = archive(program)
    os.utime(program, (5, 5))
    program.chmod(0o700)
    assert archive(program) == first
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(first))) as opened:
        members = {member.name: (member.mode, member.uid, member.uname) for member in opened.getmembers()}
    assert members == {"syntra-agent": (0o755, 0, "")}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_list_of_parts_names_everything_inside(target: Target) -> None:
    written = sbom.document(target, "1.0", "2026-11-30T00:00:00Z", "a.tar.gz", "ab" * 32, wheels_of(target))
    parts = json.loads(written)
    assert (parts["bomFormat"], parts["specVersion"]) == ("CycloneDX", "1.6")
    assert parts["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    by_name = {part["name"]: part for part in parts["components"]}
    assert set(by_name) >= {*requirements(), "python", "openssl", "sqlite", "zlib", "libffi"}
    assert ("musl" in by_name) is (target.libc == "musl")
    assert all(part["hashes"] for part in by_name.values())
    refs = {part["bom-ref"] for part in parts["components"]}
    assert len(refs) == len(parts["components"])
    assert set(parts["dependencies"][0]["dependsOn"]) == refs
    assert by_name["openssl"]["purl"] == "pkg:deb/debian/openssl@3.5.7-1~deb13u2?arch=source"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_list_of_parts_has_the_form_that_scanners_read(target: Target) -> None:
    """The required fields and patterns of https://cyclonedx.org/schema/bom-1.6.schema.json for what the list uses."""
    parts = json.loads(sbom.document(target, "1.0", "2026-11-30T00:00:00Z", "a.tar.gz", "ab" * 32, wheels_of(target)))
    assert set(parts) <= {
        "bomFormat",
        "specVersion",
        "serialNumber",
        "version",
        "metadata",
        "components",
        "dependencies",
    }
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", parts["serialNumber"])
    assert parts["version"] >= 1
    assert datetime.fromisoformat(parts["metadata"]["timestamp"]).utcoffset() == timedelta()
    described = [parts["metadata"]["component"], *parts["metadata"]["tools"]["components"], *parts["components"]]
    for part in described:
        assert set(part) <= {"type", "bom-ref", "name", "version", "purl", "hashes"}
        assert part["type"] in ("application", "library")
        assert part["name"]
        assert part["purl"].startswith("pkg:")
        for value in part.get("hashes", ()):
            assert value["alg"] == "SHA-256"
            assert re.fullmatch(r"[0-9a-f]{64}", value["content"])
    known = {part["bom-ref"] for part in [parts["metadata"]["component"], *parts["components"]]}
    assert all({entry["ref"], *entry["dependsOn"]} <= known for entry in parts["dependencies"])


def test_the_same_artifact_has_the_same_list(tmp_path: Path) -> None:
    made = [sbom.document(BUILDER, "1.0", "2026-11-30T00:00:00Z", "a.tar.gz", "ab" * 32, {}) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0] != sbom.document(BUILDER, "1.0", "2026-11-30T00:00:00Z", "a.tar.gz", "cd" * 32, {})
