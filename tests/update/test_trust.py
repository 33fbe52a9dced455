"""What a release server may not do: every broken, foreign, old or replayed document is refused, and nothing changes."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from syntra.update import layout
from syntra.update.build_target import build_target
from syntra.update.decide import Wanted
from syntra.update.errors import UpdateError
from syntra.update.manifest import Target
from syntra.update.release_source import trusted_roots
from syntra.update.state_file import change_state, read_state
from syntra.update.transfer import Transfer
from tests.update.conftest import STABLE, tree, update, updater
from tests.update.release_site import DAY_SECS, ReleaseSite, archive, moment, public, signature, stand_in

NEW = stand_in("1.3.0")


def refused(root: Path, site: ReleaseSite, tmp_path: Path, wanted: Wanted = STABLE) -> str:
    """The sentence; the agent that is installed must be as it was."""
    before = tree(root) - {"update-state.json", "update.lock"}
    with pytest.raises(UpdateError) as caught:
        update(updater(root, site, tmp_path), wanted)
    assert tree(root) - {"update-state.json", "update.lock"} == before
    assert layout.linked(root, "current") == "1.2.0"
    sentence = str(caught.value)
    assert sentence.startswith("cannot update the agent: ")
    assert "; " in sentence
    return sentence


def test_a_signed_release_is_installed(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    assert update(updater(root, site, tmp_path)) == "1.3.0"
    assert (layout.linked(root, "current"), layout.linked(root, "previous")) == ("1.3.0", "1.2.0")
    assert (root / "current/syntra-agent").read_bytes() == NEW
    assert not (root / "staging").exists()


def test_the_version_that_runs_is_not_installed_again(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.2.0", stand_in("1.2.0"))
    assert update(updater(root, site, tmp_path)) == ""
    assert not any("tar.gz" in path for path in site.asked)


@pytest.mark.parametrize("path", ["/keys.json", "/stable/manifest.json"])
def test_a_document_with_any_byte_changed_is_refused(root: Path, site: ReleaseSite, tmp_path: Path, path: str) -> None:
    site.publish("1.3.0", NEW)
    whole = site.files[path]
    for at in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[at] ^= 0x04
        site.files[path] = bytes(changed)
        assert "the signature of" in refused(root, site, tmp_path)


@pytest.mark.parametrize("path", ["/keys.json", "/stable/manifest.json", "/keys.json.sig", "/stable/manifest.json.sig"])
def test_a_document_cut_anywhere_is_refused(root: Path, site: ReleaseSite, tmp_path: Path, path: str) -> None:
    site.publish("1.3.0", NEW)
    whole = site.files[path]
    for cut in range(0, len(whole.rstrip()), 23):
        site.files[path] = whole[:cut]
        refused(root, site, tmp_path)


@pytest.mark.parametrize("path", ["/keys.json", "/stable/manifest.json", "/keys.json.sig", "/stable/manifest.json.sig"])
def test_an_endless_document_is_refused(root: Path, site: ReleaseSite, tmp_path: Path, path: str) -> None:
    site.publish("1.3.0", NEW)
    site.files[path] = b" " * 3_000_000
    assert "is larger than" in refused(root, site, tmp_path)


def test_a_manifest_by_a_stranger_is_refused(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW, signed_by=[Ed25519PrivateKey.generate()])
    assert "not signed by a key that this agent trusts" in refused(root, site, tmp_path)


def test_a_signature_of_another_key_under_a_known_id_is_refused(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    data = site.files["/stable/manifest.json"]
    foreign = signature(data, Ed25519PrivateKey.generate()).split()[1]
    site.files["/stable/manifest.json.sig"] = f"{public(site.key).key_id} {foreign.decode()}\n".encode()
    assert "the signature of" in refused(root, site, tmp_path)


def test_the_root_key_signs_no_manifest_and_a_release_key_no_list(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", NEW, signed_by=[site.root_key])
    assert "not signed by a key" in refused(root, site, tmp_path)
    site.publish("1.3.0", NEW)
    site.write_keys(signed_by=[site.key])
    assert "keys.json is not signed by a key" in refused(root, site, tmp_path)


def test_release_keys_are_rotated_without_a_new_agent(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    fresh = Ed25519PrivateKey.generate()
    site.write_keys(site.key, fresh, serial=2)
    site.publish("1.3.0", NEW, signed_by=[Ed25519PrivateKey.generate(), fresh])
    assert update(updater(root, site, tmp_path)) == "1.3.0"
    assert read_state(root).keys_serial == 2


def test_a_revoked_or_expired_key_signs_nothing(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    site.write_keys(serial=2, revoked=[public(site.key).key_id])
    assert "not signed by a key" in refused(root, site, tmp_path)
    past = {"public_key": public(site.key).text, "expires": moment(time.time() - 60)}
    site.write_keys(serial=2, keys=[past])
    assert "not signed by a key" in refused(root, site, tmp_path)


def test_an_old_list_cannot_bring_a_revoked_key_back(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate()
    site.write_keys(other, serial=7, revoked=[public(site.key).key_id])
    site.publish("1.2.0", b"", signed_by=[other])
    assert update(updater(root, site, tmp_path)) == ""
    site.write_keys(serial=6)
    site.publish("1.3.0", NEW)
    assert "has serial 6, and this server has seen 7" in refused(root, site, tmp_path)


def test_an_expired_list_of_keys_is_refused(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    site.write_keys(days=-1)
    assert "the list of release keys expired" in refused(root, site, tmp_path)


def test_an_expired_manifest_is_refused(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW, expires=moment(time.time() - 1))
    assert "the manifest of 1.3.0 expired on" in refused(root, site, tmp_path)


def test_a_clock_that_was_set_back_does_not_revive_an_expired_manifest(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    now = time.time()
    site.publish("1.2.0", b"", released=moment(now + 20 * DAY_SECS))
    assert update(updater(root, site, tmp_path)) == ""
    site.publish("1.3.0", NEW, released=moment(now), expires=moment(now + 10 * DAY_SECS))
    assert "expired" in refused(root, site, tmp_path)


def test_a_replayed_manifest_is_refused(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    replayed = dict(site.files)
    site.publish("1.4.0", stand_in("1.4.0"), packed=b"broken")
    refused(root, site, tmp_path)
    site.files = replayed
    assert "1.3.0 is older than 1.4.0, which this server has seen before" in refused(root, site, tmp_path)


def test_a_downgrade_needs_the_permission_of_this_server(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.1.0", stand_in("1.1.0"))
    for wanted in (STABLE, Wanted(channel="stable", version="1.1.0")):
        assert "1.1.0 is older than 1.2.0" in refused(root, site, tmp_path, wanted)
    allowed = Wanted(channel="stable", version="1.1.0", allow_downgrade=True)
    assert update(updater(root, site, tmp_path), allowed) == "1.1.0"


def test_the_manifest_of_another_version_or_channel_is_not_taken_for_the_one_asked_for(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", NEW)
    site.publish("1.4.0-beta.1", NEW, channel="beta")
    for name in ("manifest.json", "manifest.json.sig"):
        site.files[f"/1.9.0/{name}"] = site.files[f"/1.3.0/{name}"]
        site.files[f"/stable/{name}"] = site.files[f"/beta/{name}"]
    assert "1.9.0 was asked for" in refused(root, site, tmp_path, Wanted(channel="stable", version="1.9.0"))
    assert "channel beta, not stable" in refused(root, site, tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        Target(os="linux", arch="riscv64", libc="gnu"),
        Target(os="linux", arch=build_target().arch, libc="musl"),
        Target(os="darwin", arch=build_target().arch, libc="gnu"),
    ],
    ids=str,
)
def test_a_release_for_another_platform_is_refused(
    root: Path, site: ReleaseSite, tmp_path: Path, target: Target
) -> None:
    site.publish("1.3.0", NEW, target=target)
    assert f"no program for this platform ({build_target()}), only for {target}" in refused(root, site, tmp_path)


BROKEN: tuple[dict[str, Any], ...] = (
    {"product": "other-agent"},
    {"product": 1},
    {"schema": 2},
    {"schema": True},
    {"version": "1.3"},
    {"version": "../../etc"},
    {"version": None},
    {"channel": "nightly"},
    {"channel": "beta/../stable"},
    {"version": "1.3.0-beta.1"},
    {"expires": "tomorrow"},
    {"expires": 1e300},
    {"released": "0001-01-01T00:00:00Z"},
    {"artifacts": {}},
    {"artifacts": [1]},
    {"artifacts": [{}] * 100},
)


@pytest.mark.parametrize("changes", BROKEN, ids=json.dumps)
def test_a_signed_manifest_that_makes_no_sense_is_refused(
    root: Path, site: ReleaseSite, tmp_path: Path, changes: dict[str, Any]
) -> None:
    site.publish("1.3.0", NEW)
    document = {**json.loads(site.files["/stable/manifest.json"]), **changes}
    data = json.dumps(document).encode()
    site.files["/stable/manifest.json"] = data
    site.files["/stable/manifest.json.sig"] = signature(data, site.key)
    assert "manifest" in refused(root, site, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": "../syntra-agent"}, {"name": "a.tar.gz"}, {"size": 0}, {"size": -1}, {"size": 2**40}, {"size": "9"}),
        *({"sha256": "0" * 63}, {"sha256": "G" * 64}, {"os": "LINUX"}, {"arch": "x/y"}, {"libc": ""}),
    ],
    ids=json.dumps,
)
def test_an_artifact_that_makes_no_sense_is_refused(
    root: Path, site: ReleaseSite, tmp_path: Path, changes: dict[str, Any]
) -> None:
    artifact = site.publish("1.3.0", NEW)["artifacts"][0]
    site.publish("1.3.0", NEW, artifacts=[{**artifact, **changes}])
    assert "artifact" in refused(root, site, tmp_path)


def member(name: str = "syntra-agent", kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "another name": lambda: archive((member("agent"), NEW)),
    "a path": lambda: archive((member("bin/syntra-agent"), NEW)),
    "the parent": lambda: archive((member("../syntra-agent"), NEW)),
    "an absolute path": lambda: archive((member("/tmp/syntra-agent"), NEW)),
    "a symbolic link": lambda: archive((member(kind=tarfile.SYMTYPE, target="/bin/sh"), b"")),
    "a hard link": lambda: archive((member(kind=tarfile.LNKTYPE, target="/bin/sh"), b"")),
    "a device": lambda: archive((member(kind=tarfile.CHRTYPE), b"")),
    "a FIFO": lambda: archive((member(kind=tarfile.FIFOTYPE), b"")),
    "a directory": lambda: archive((member(kind=tarfile.DIRTYPE), b"")),
    "an empty program": lambda: archive((member(), b"")),
    "two members": lambda: archive((member(), NEW), (member("other"), b"x")),
    "the same member twice": lambda: archive((member(), NEW), (member(), NEW)),
    "a link behind it": lambda: archive((member(), NEW), (member("x", tarfile.SYMTYPE, "/etc/passwd"), b"")),
    "no member": lambda: archive(),
    "no archive": lambda: b"\x1f\x8b broken",
    "a program cut short": lambda: archive((member(), NEW * 2000))[:-400],
    "no gzip": lambda: NEW,
    "a program of another version": lambda: archive((member(), stand_in("1.2.9"))),
    "a program that fails": lambda: archive((member(), b"#!/bin/sh\necho no >&2\nexit 3\n")),
    "a program for another machine": lambda: archive((member(), b"\x7fELF\x02\x01\x01" + bytes(200))),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_signed_archive_with_anything_but_the_program_is_refused(
    root: Path, site: ReleaseSite, tmp_path: Path, name: str
) -> None:
    site.publish("1.3.0", b"", packed=ARCHIVES[name]())
    refused(root, site, tmp_path)


def test_a_tampered_archive_is_refused_before_it_is_unpacked(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    path = site.archive_path("1.3.0")
    whole = site.files[path]
    for at in range(0, len(whole), 61):
        site.files[path] = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert "does not have the SHA-256 of the manifest" in refused(root, site, tmp_path)


def test_an_archive_of_another_length_is_refused(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    path = site.archive_path("1.3.0")
    whole = site.files[path]
    for data in (whole + b"x", whole[:-1], b""):
        site.files[path] = data
        assert "bytes, and the manifest says" in refused(root, site, tmp_path)


def test_roots_that_others_could_write_are_not_trusted(site: ReleaseSite, tmp_path: Path) -> None:
    file = site.roots_file(tmp_path)
    assert [key.text for key in trusted_roots(file)] == [public(site.root_key).text]
    file.chmod(0o666)
    with pytest.raises(UpdateError, match="could be written by other users"):
        trusted_roots(file)
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(UpdateError, match="cannot read"):
        trusted_roots(link)
    file.chmod(0o600)
    file.write_text("not a key\n")
    with pytest.raises(UpdateError, match="is not a public key"):
        trusted_roots(file)


def test_a_build_without_root_keys_installs_nothing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match=r"no release keys; .*update\.root_keys_file"):
        trusted_roots(None)


def test_a_version_that_was_rolled_back_is_installed_again_only_by_name(
    root: Path, site: ReleaseSite, tmp_path: Path
) -> None:
    site.publish("1.3.0", NEW)
    change_state(root, lambda state: state.with_rejected("1.3.0", "it crashed"))
    for wanted in (STABLE, Wanted(channel="stable", version="1.3.0")):
        assert "1.3.0 was rolled back on this server: it crashed" in refused(root, site, tmp_path, wanted)
    named = Wanted(channel="stable", version="1.3.0", retry_rejected=True)
    assert update(updater(root, site, tmp_path), named) == "1.3.0"


def test_only_one_update_runs_at_a_time(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    with updater(root, site, tmp_path).lock(), pytest.raises(UpdateError, match="is updating it"):
        update(updater(root, site, tmp_path))


def test_nothing_is_updated_while_a_version_is_on_trial(root: Path, site: ReleaseSite, tmp_path: Path) -> None:
    site.publish("1.3.0", NEW)
    update(updater(root, site, tmp_path))
    site.publish("1.4.0", stand_in("1.4.0"))
    one = updater(root, site, tmp_path)
    decision = one.check(STABLE, Transfer(20))
    with pytest.raises(UpdateError, match="is on trial"):
        one.prepare(decision, Transfer(20), lambda count: None)
