"""scripts/install.sh in the shells it meets, against a release server on loopback, with a stand-in for the agent.

The stand-in records how it was called, so nothing is installed. tests/e2e/test_install.py installs the real agent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from syntra.update.build_target import build_target
from syntra.update.manifest import Target
from syntra.update.root_key import ROOT_KEYS
from tests.engine import missing
from tests.update.release_site import ReleaseSite, archive_of, public

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/install.sh"
OS_RELEASES = Path(__file__).with_name("os_release")
SHELLS = (("dash",), ("busybox", "sh"), ("bash",))
TOKEN = "syn_agt_canary-in-the-installer"
HIDE_RUN = "mount -t tmpfs none /run"


def program(record: Path, version: str = "1.2.0") -> bytes:
    """Records its arguments, the command line of all processes, its environment, and the token that it was given."""
    return f"""#!/bin/sh
case $1 in version) echo {version}; exit 0 ;; --version) echo "syntra-agent {version}"; exit 0 ;; esac
echo "$*" >>{record}/calls
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >{record}/processes
env >{record}/environment
while [ $# -gt 0 ]; do
  [ "$1" != --token-file ] || {{ cp "$2" {record}/token; stat -c %a "$2" >{record}/mode; }}
  [ "$1" != --release ] || ls "$2" >{record}/release
  shift
done
[ ! -e {record}/fails ] || exit 7
""".encode()


class Installer:
    """Runs the script with a release server of its own."""

    def __init__(self, folder: Path, site: ReleaseSite) -> None:
        self.site = site
        self.record = folder / "record"
        self.temporary = folder / "tmp"
        self.record.mkdir()
        self.temporary.mkdir()
        self.roots = site.roots_file(folder)
        self.shell: tuple[str, ...] = ("dash",)
        self.path = os.environ["PATH"]
        site.publish("1.2.0", program(self.record))

    def run(
        self,
        *arguments: str,
        os_release: str = "",
        stdin: str | None = None,
        piped: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        command = [*self.shell, *(["-s", "--"] if piped else [str(SCRIPT)]), *arguments]
        if os_release:
            # Without /run there is neither an engine nor a service manager.
            bound = (
                f'mount --bind {OS_RELEASES / os_release} "$(readlink -f /etc/os-release)" && {HIDE_RUN} && exec "$@"'
            )
            command = ["unshare", "--mount", "sh", "-c", bound, "sh", *command]
        return subprocess.run(
            command,
            input=SCRIPT.read_text() if piped else stdin or "",
            env={
                "PATH": self.path,
                "HOME": str(self.temporary),
                "TMPDIR": str(self.temporary),
                "SYNTRA_BASE_URL": self.site.url,
                "SYNTRA_ROOT_KEYS_FILE": str(self.roots),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """The command lines of the agent; the workspace's random name is W in them."""
        file = self.record / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [
            " ".join(
                "W" + word[word.find("/token") :]
                if "/syntra-install." in word and "/token" in word
                else "W"
                if "/syntra-install." in word
                else word
                for word in line.split()
            )
            for line in lines
        ]

    def refused(self, *arguments: str, **options: str) -> str:
        """The one sentence of a refusal; the agent was not called, and nothing is left."""
        ended = self.run(*arguments, **options)  # type: ignore[arg-type]  # only texts are passed
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert self.calls() == []
        assert list(self.temporary.iterdir()) == []
        return ended.stderr.splitlines()[-1]


@pytest.fixture
def installer(tmp_path: Path) -> Iterator[Installer]:
    if os.geteuid() != 0:
        missing("the installer runs as root only")
    if shutil.which("openssl") is None or shutil.which("curl") is None:
        missing("openssl or curl is not installed")
    with ReleaseSite() as site:
        yield Installer(tmp_path, site)


@pytest.fixture(params=SHELLS, ids=[shell[0] for shell in SHELLS])
def any_shell(request: pytest.FixtureRequest, installer: Installer) -> Installer:
    installer.shell = request.param
    if shutil.which(installer.shell[0]) is None:
        missing(f"{installer.shell[0]} is not installed")
    return installer


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        missing("shellcheck is not installed")
    ended = subprocess.run(
        [
            "shellcheck",
            "--shell=sh",
            "--enable=all",
            "--exclude=SC2250,SC2249,SC2310,SC2311,SC2312,SC2244,SC2248",
            SCRIPT,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "")


def test_everything_is_in_functions_that_the_last_line_calls() -> None:
    """A download that was cut off anywhere runs nothing."""
    lines = SCRIPT.read_text().splitlines()
    assert lines[-1] == 'main "$@"'
    depth, outside = False, []
    for line in lines[:-1]:
        if line.endswith("() {"):
            depth = True
        elif line == "}":
            depth = False
        elif not depth and line and not line.startswith("#") and not line.endswith("; }"):
            outside.append(line)
    assert all(line.split("=")[0].isupper() or line in ("set -eu", "umask 077") for line in outside), outside


def test_a_script_that_was_cut_off_does_nothing(installer: Installer) -> None:
    text = SCRIPT.read_text()
    for end in range(0, len(text) - 12, 997):
        ended = subprocess.run(
            ["dash", "-s", "--", "--uninstall"], input=text[:end], env={"PATH": installer.path}, capture_output=True,
            text=True, check=False, timeout=20,
        )  # fmt: skip
        assert ended.stdout == "", end


def test_the_script_and_the_agent_have_the_same_root_keys() -> None:
    (line,) = [line for line in SCRIPT.read_text().splitlines() if line.startswith("ROOT_KEYS=")]
    assert line == f'ROOT_KEYS="{" ".join(ROOT_KEYS)}"'


def test_the_one_line_verifies_and_hands_over(any_shell: Installer) -> None:
    ended = any_shell.run("--endpoint=wss://cp.example.com/ws", f"--token={TOKEN}", "--server-id", "srv_1", piped=True)
    assert ended.returncode == 0, ended.stderr
    assert any_shell.calls() == [
        f"install --release W --token-file W/token --endpoint wss://cp.example.com/ws --server-id srv_1 "
        f"--base-url {any_shell.site.url} --root-keys {any_shell.roots}"
    ]
    assert (any_shell.record / "token").read_text() == f"{TOKEN}\n"
    assert (any_shell.record / "mode").read_text() == "600\n"
    assert {"keys.json", "keys.json.sig", "manifest.json", "manifest.json.sig"} < set(
        (any_shell.record / "release").read_text().split()
    )
    assert list(any_shell.temporary.iterdir()) == []


def test_the_token_reaches_no_process_list_environment_or_output(installer: Installer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    for given in ({"SYNTRA_TOKEN": TOKEN}, {"SYNTRA_TOKEN_FILE": str(file)}):
        ended = installer.run("--endpoint=wss://cp.example.com/ws", environment=given)
        assert ended.returncode == 0, ended.stderr
        assert (installer.record / "token").read_text().strip() == TOKEN
        said = ended.stdout + ended.stderr
        said += (installer.record / "processes").read_text(errors="replace") + "".join(installer.calls())
        assert TOKEN not in said + (installer.record / "environment").read_text()


def test_the_token_comes_from_standard_input(installer: Installer) -> None:
    ended = installer.run("--endpoint=wss://cp.example.com/ws", "--token-file=-", stdin=f"{TOKEN}\n")
    assert ended.returncode == 0, ended.stderr
    assert (installer.record / "token").read_text() == f"{TOKEN}\n"


def test_dry_run_and_no_start_are_the_agents_own(installer: Installer) -> None:
    assert installer.run("--dry-run", "--no-start").returncode == 0
    (call,) = installer.calls()
    assert call.startswith("install --release W --dry-run --no-start")


def test_a_failure_of_the_agent_is_the_scripts_and_leaves_nothing(installer: Installer) -> None:
    (installer.record / "fails").touch()
    assert installer.run("--with-proxy").returncode == 7
    assert len(installer.calls()) == 1
    assert list(installer.temporary.iterdir()) == []


def test_the_proxy_is_started_at_the_end(installer: Installer) -> None:
    assert installer.run("--with-proxy").returncode == 0
    assert installer.calls()[1:] == ["proxy up"]


def test_an_uninstall_without_an_agent_is_nothing_to_do(installer: Installer) -> None:
    if Path("/opt/syntra-agent").exists():
        pytest.skip("an agent is installed on this machine")
    ended = installer.run("--uninstall")
    assert ended.returncode == 0
    assert "nothing to do" in ended.stdout


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("debian", "debian"),
        ("ubuntu", "debian"),
        ("fedora", "fedora"),
        ("rocky", "fedora"),
        ("alpine", "alpine"),
        ("arch", "unknown"),
    ],
)
def test_families_are_told_apart(name: str, family: str, any_shell: Installer) -> None:
    ended = any_shell.run("--dry-run", os_release=name)
    assert ended.returncode == 0, ended.stderr
    assert f"({family})" in ended.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ubuntu", "apt-get install -y --no-install-recommends docker.io"),
        ("rocky", "dnf install -y moby-engine"),
        ("alpine", "apk add docker"),
    ],
)
def test_docker_comes_from_the_package_manager_of_the_family(name: str, command: str, installer: Installer) -> None:
    ended = installer.run("--with-docker", "--dry-run", os_release=name)
    assert ended.returncode == 0, ended.stderr
    assert f"installing Docker: {command}" in ended.stdout.splitlines()


def test_docker_is_not_guessed_for_an_unknown_family(installer: Installer) -> None:
    said = installer.refused("--with-docker", "--dry-run", os_release="arch")
    assert said == (
        "cannot install the agent: the package of Docker is not known for Arch Linux; "
        "install it (docs.docker.com) and try again"
    )


def test_os_release_is_data_and_never_runs(any_shell: Installer) -> None:
    trace = Path("/tmp/syntra-os-release-ran")
    trace.unlink(missing_ok=True)
    any_shell.run("--dry-run", os_release="hostile")
    assert not trace.exists()


def test_a_musl_build_is_taken_where_the_other_does_not_run(installer: Installer) -> None:
    musl = Target(os="linux", arch=build_target().arch, libc="musl")
    manifest = installer.site.manifest(
        "1.2.0", {build_target(): archive_of(b"#!/bin/sh\nexit 1\n"), musl: archive_of(program(installer.record))}
    )
    publish(installer.site, manifest, {
        build_target(): archive_of(b"#!/bin/sh\nexit 1\n"), musl: archive_of(program(installer.record)),
    })  # fmt: skip
    ended = installer.run()
    assert ended.returncode == 0, ended.stderr
    assert "-musl.tar.gz" in ended.stdout


def publish(site: ReleaseSite, manifest: dict[str, object], archives: Mapping[Target, bytes]) -> None:
    """Release several archives under one manifest."""
    import json

    from syntra.update.manifest import archive_name
    from tests.update.release_site import signature

    data = json.dumps(manifest).encode()
    for where in ("1.2.0", "stable"):
        site.files[f"/{where}/manifest.json"] = data
        site.files[f"/{where}/manifest.json.sig"] = signature(data, site.key)
    for target, packed in archives.items():
        site.files[f"/1.2.0/{archive_name('1.2.0', target)}"] = packed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tokne=secret-value"], "unknown option --tokne; see the list above"),
        (["--token"], "option --token has no value; give --token=VALUE"),
        (["--channel=nightly"], "channel is neither stable nor beta; give --channel=stable"),
        (["--version=../x"], "the version has other characters than 1.2.3; give --version=1.2.3"),
        (["--base-url=file:///x"], "the base URL starts with neither https:// nor http://; correct --base-url"),
    ],
)
def test_wrong_options_are_refused_without_their_values(
    arguments: list[str], sentence: str, any_shell: Installer
) -> None:
    assert any_shell.refused(*arguments) == f"cannot install the agent: {sentence}"


class TestRefusedReleases:
    """Each fault alone; the agent in it never runs."""

    def test_a_changed_archive(self, any_shell: Installer) -> None:
        path = any_shell.site.archive_path("1.2.0")
        any_shell.site.files[path] = any_shell.site.files[path][:-1] + b"!"
        assert "has another SHA-256 than the manifest says" in any_shell.refused()

    def test_a_longer_and_a_shorter_archive(self, any_shell: Installer) -> None:
        path = any_shell.site.archive_path("1.2.0")
        whole = any_shell.site.files[path]
        any_shell.site.files[path] = whole + b"!"
        any_shell.refused()
        any_shell.site.files[path] = whole[:-1]
        assert "has another size than the manifest says" in any_shell.refused()

    def test_a_changed_manifest(self, any_shell: Installer) -> None:
        path = "/stable/manifest.json"
        any_shell.site.files[path] = any_shell.site.files[path].replace(b"x86_64", b"x86_63")
        assert "the manifest is not signed by a release key" in any_shell.refused()

    def test_a_manifest_by_another_key(self, any_shell: Installer) -> None:
        any_shell.site.publish("1.2.0", program(any_shell.record), signed_by=[Ed25519PrivateKey.generate()])
        assert "the manifest is not signed by a release key" in any_shell.refused()

    def test_keys_by_another_root(self, any_shell: Installer) -> None:
        any_shell.site.write_keys(signed_by=[Ed25519PrivateKey.generate()])
        assert "keys.json is not signed by a root key" in any_shell.refused()

    def test_a_revoked_key(self, any_shell: Installer) -> None:
        any_shell.site.write_keys(revoked=[public(any_shell.site.key).key_id])
        assert "the manifest is not signed by a release key" in any_shell.refused()

    def test_an_expired_key_list_and_an_expired_manifest(self, any_shell: Installer) -> None:
        any_shell.site.publish("1.2.0", program(any_shell.record), expires="2020-01-01T00:00:00Z")
        assert "the manifest has expired" in any_shell.refused()
        any_shell.site.write_keys(days=-1)
        assert "the list of release keys has expired" in any_shell.refused()

    def test_another_version_than_the_wanted_one(self, any_shell: Installer) -> None:
        for name in ("manifest.json", "manifest.json.sig"):
            any_shell.site.files[f"/1.1.0/{name}"] = any_shell.site.files[f"/1.2.0/{name}"]
        assert "the server answers with version 1.2.0" in any_shell.refused("--version=1.1.0")

    def test_a_manifest_of_another_channel(self, any_shell: Installer) -> None:
        for name in ("manifest.json", "manifest.json.sig"):
            any_shell.site.files[f"/beta/{name}"] = any_shell.site.files[f"/stable/{name}"]
        assert "the manifest is of another channel" in any_shell.refused("--channel=beta")

    def test_a_second_member(self, any_shell: Installer) -> None:
        import tarfile

        from tests.update.release_site import archive

        packed = archive((tarfile.TarInfo("syntra-agent"), b"#!/bin/sh\n"), (tarfile.TarInfo("../x"), b""))
        any_shell.site.publish("1.2.0", b"", packed=packed)
        assert "holds more than the agent" in any_shell.refused()

    def test_a_program_that_does_not_run_here(self, any_shell: Installer) -> None:
        any_shell.site.publish("1.2.0", b"#!/bin/sh\nexit 1\n")
        assert "no release 1.2.0 runs on this machine" in any_shell.refused()

    def test_no_keys_to_verify_with(self, any_shell: Installer) -> None:
        if ROOT_KEYS:
            pytest.skip("this source has release keys")
        said = any_shell.run(environment={"SYNTRA_ROOT_KEYS_FILE": ""})
        assert said.returncode == 1
        assert "this installer has no release keys" in said.stderr

    def test_plain_http_without_openssl(self, any_shell: Installer, tmp_path: Path) -> None:
        """Only the signature protects a download over http."""
        tools = tmp_path / "tools"
        tools.mkdir()
        for folder in ("/usr/bin", "/bin", "/usr/sbin"):
            for tool in Path(folder).iterdir():
                if tool.name != "openssl" and not (tools / tool.name).exists():
                    (tools / tool.name).symlink_to(tool)
        any_shell.path = str(tools)
        assert "openssl 3 is missing" in any_shell.refused()
