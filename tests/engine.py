"""A Docker engine for tests, judged from outside: its own small client, images from nothing, a registry, clean-up.

Nothing here uses the product's client, so that a test sees what really happened. Every object a test makes carries the
test's token (see `engine_token`) in its name or a label value, and clean-up removes by that token only. Nothing is
pulled from anywhere: images are made of the machine's static busybox.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

SOCKET = "/var/run/docker.sock"
API = "/v1.41"
PORT = 8080
"""Where the service of `busybox_image` listens inside its container."""
TOKEN_LABEL = "syntra.test"

SERVICE = """#!/bin/sh
# A service with a version. FAIL makes it misbehave: exit (at once), crash (after a second), unhealthy (/health is 404),
# slow (listens after $SLOW seconds, 3 by default), deaf (ignores SIGTERM).
trap 'echo "stopping $VERSION"; kill $child 2>/dev/null; exit 0' TERM INT
[ "$FAIL" = deaf ] && trap '' TERM
echo "starting $VERSION"
mkdir -p /www
echo "$VERSION" > /www/index.html
[ "$FAIL" = unhealthy ] || echo "ok $VERSION" > /www/health
case "$FAIL" in
  exit) echo "failing as told" >&2; exit 3 ;;
  slow) sleep "${SLOW:-3}" & child=$!; wait $child ;;
esac
httpd -f -p "${PORT:-8080}" -h /www & child=$!
echo "serving $VERSION on ${PORT:-8080}"
[ "$FAIL" = crash ] && { sleep 1; kill $child; exit 4; }
wait $child
"""


class EngineRefused(Exception):
    """The engine answered with an error; `status` is HTTP's, 200 for an error inside a progress stream."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


_at = [SOCKET]


def engine_socket() -> str:
    """The socket of the engine that the helpers speak to."""
    return _at[-1]


@contextlib.contextmanager
def engine_at(path: str) -> Iterator[None]:
    """The helpers speak to the engine at that socket, from any thread."""
    _at.append(path)
    try:
        yield
    finally:
        _at.remove(path)


class UnixConnection(http.client.HTTPConnection):
    """The standard library's client over a unix socket; `path` is that of the engine when it is not given."""

    def __init__(self, path: str | None = None, timeout: float = 60.0) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path or engine_socket()

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def raw(
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    query: Mapping[str, str | Sequence[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> bytes:
    """One request; the whole answer. Raises EngineRefused for a status of 400 and above."""
    target = API + path + ("?" + urllib.parse.urlencode(query, doseq=True) if query else "")
    connection = UnixConnection(timeout=timeout)
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status >= 400:
        try:
            message = str(json.loads(content)["message"])
        except (ValueError, KeyError, TypeError):
            message = content.decode(errors="replace")[:200]
        raise EngineRefused(answer.status, message)
    return content


def api(
    method: str,
    path: str,
    body: object | None = None,
    *,
    query: Mapping[str, str | Sequence[str]] | None = None,
    timeout: float = 60.0,
) -> Any:
    """One JSON request; the parsed answer, None when it is empty."""
    encoded = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    content = raw(method, path, encoded, query=query, headers=headers, timeout=timeout)
    return json.loads(content) if content.strip() else None


def progress(content: bytes) -> list[dict[str, Any]]:
    """The lines of a pull, push or import; raises EngineRefused when one of them is an error."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines() if line.strip()]
    for line in lines:
        if "error" in line:
            raise EngineRefused(200, str(line["error"]))
    return lines


def engine_problem() -> str | None:
    """Why no engine can be used here, or None."""
    try:
        raw("GET", "/_ping", timeout=5)
    except (OSError, http.client.HTTPException, EngineRefused) as error:
        return f"no engine at {engine_socket()}: {error or type(error).__name__}; `scripts/test engine` starts one"
    return None if shutil.which("busybox") else "no static busybox to make images of; install busybox-static"


def missing(reason: str) -> None:
    """A missing outside part: a skip with the reason on a laptop, a failure where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_engine() -> None:
    """Skip, or fail in CI, unless an engine answers and images can be made."""
    if reason := engine_problem():
        missing(reason)


def new_token() -> str:
    """A name no other test uses; fit for containers, networks, volumes, repositories and DNS labels."""
    return "t" + secrets.token_hex(6)


@pytest.fixture
def engine_token() -> Iterator[str]:
    """A token for one test's objects; whatever carries it is removed afterwards. Implies `require_engine`."""
    require_engine()
    token = new_token()
    try:
        yield token
    finally:
        cleanup(token)


def wait_until(look: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    """Look until the answer is true; fails with `what` after `timeout` seconds. For states nobody announces."""
    deadline = time.monotonic() + timeout
    while not look():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s in vain: {what}")
        time.sleep(0.05)


# Images


def busybox_tar(files: Mapping[str, bytes] | None = None) -> bytes:
    """A root file system: busybox with its applets, an empty /tmp, /www and the service script; `files` on top."""
    busybox = shutil.which("busybox")
    if busybox is None:
        missing("no static busybox to make images of; install busybox-static")
        raise AssertionError("cannot happen: `missing` does not return")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("www", 0o777), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        contents = {
            "bin/busybox": Path(busybox).read_bytes(),
            "bin/service": SERVICE.encode(),
            "etc/passwd": b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
            "etc/group": b"root:x:0:\nnobody:x:65534:\n",
            **(files or {}),
        }
        for name, body in contents.items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(body), 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(body))
        for applet in sorted(set(applets) - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return target.getvalue()


def busybox_image(reference: str, version: str = "1", *, changes: Sequence[str] = ()) -> str:
    """Import an image that serves its version over HTTP on port 8080; returns the image's id.

    `/` answers with $VERSION (baked in as `version`, an environment may override it), `/health` with `ok $VERSION`.
    $FAIL makes it misbehave, see SERVICE. `changes` are further Dockerfile instructions (HEALTHCHECK, LABEL, USER...).
    `reference` is `repository:tag` and should contain the test's token, so that clean-up finds it.
    """
    repository, _, tag = reference.rpartition(":")
    instructions = ['CMD ["/bin/service"]', "ENV PATH=/bin", f"ENV VERSION={version}", f"EXPOSE {PORT}", *changes]
    query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": instructions}
    lines = progress(
        raw("POST", "/images/create", busybox_tar(), query=query, headers={"Content-Type": "application/x-tar"})
    )
    image = str(lines[-1]["status"])
    # Podman names an import `latest`, whatever tag was asked for.
    api("POST", f"/images/{image}/tag", query={"repo": repository, "tag": tag})
    return image


# Containers


def start_container(
    token: str,
    image: str,
    *,
    name: str | None = None,
    command: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    host: Mapping[str, object] | None = None,
) -> str:
    """Create and start a container that carries the token; returns its id. `host` is the API's HostConfig.

    It is on a network of the token's own: an engine may run without its default bridge.
    """
    host = {"NetworkMode": network_of(token), **(host or {})}
    body: dict[str, object] = {
        "Image": image,
        "Env": [f"{key}={value}" for key, value in (env or {}).items()],
        "Labels": {TOKEN_LABEL: token, **(labels or {})},
        "HostConfig": host,
    }
    if command is not None:
        body["Cmd"] = list(command)
    created = api("POST", "/containers/create", body, query={"name": name} if name else None)
    api("POST", f"/containers/{created['Id']}/start")
    return str(created["Id"])


def network_of(token: str) -> str:
    """A network that carries the token."""
    name = f"net-{token}"
    with contextlib.suppress(EngineRefused):  # it is there already
        api("POST", "/networks/create", {"Name": name, "CheckDuplicate": True, "Labels": {TOKEN_LABEL: token}})
    return name


def address_of(container: str) -> str:
    """The container's address on its first network."""
    networks = api("GET", f"/containers/{container}/json")["NetworkSettings"]["Networks"]
    return next(str(network["IPAddress"]) for network in networks.values() if network["IPAddress"])


def fetch(host: str, port: int = PORT, path: str = "/", timeout: float = 5.0) -> tuple[int, str]:
    """Status and body of one plain HTTP GET."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def containers_of(token: str) -> list[dict[str, Any]]:
    """Every container, running or not, that carries the token in its name or a label value."""
    return [item for item in api("GET", "/containers/json", query={"all": "1"}) if _carries(item, token)]


# Clean-up


def cleanup(token: str) -> None:
    """Remove the containers, networks, volumes and image references that carry `token`, and nothing else."""
    assert len(token) >= 8, "a short token could match what is not ours"
    for container in containers_of(token):
        _remove(f"/containers/{container['Id']}", {"force": "1", "v": "1"})
    for network in api("GET", "/networks"):
        if _carries(network, token):
            _remove(f"/networks/{network['Id']}", {})
    for volume in api("GET", "/volumes")["Volumes"] or []:
        if _carries(volume, token):
            _remove(f"/volumes/{volume['Name']}", {"force": "1"})
    for image in api("GET", "/images/json"):
        # Pins of ours are named by the service in hex.
        names = [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]
        references = [name for name in names if token in name or token.encode().hex() in name]
        if not references and _carries(image, token):
            references = [image["Id"]]
        for reference in references:
            _remove(f"/images/{urllib.parse.quote(reference)}", {"force": "1"})


def _carries(item: Mapping[str, Any], token: str) -> bool:
    names = [*(item.get("Names") or []), item.get("Name") or ""]
    return any(token in text for text in [*names, *(item.get("Labels") or {}).values()])


def _remove(path: str, query: Mapping[str, str]) -> None:
    try:
        api("DELETE", path, query=query)
    except EngineRefused as error:
        # Gone already, or going: both are what we want.
        if error.status != 404 and "already in progress" not in error.message:
            raise


# Registry


class LocalRegistry:
    """Debian's docker-registry on loopback, with storage of its own; a context manager.

    With `user` and `password` it asks for them (basic authentication). `stop` and `start` simulate an outage; the
    address stays the same.
    """

    def __init__(self, folder: Path, *, user: str | None = None, password: str = "") -> None:
        self._folder = folder
        self._user, self._password = user, password
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`, as it stands in image references; engines accept plain HTTP on loopback."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            missing("no docker-registry; install the package of that name")
            raise AssertionError("cannot happen: `missing` does not return")
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._port:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self._port = probe.getsockname()[1]
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "data")}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        if self._user is not None:
            (self._folder / "htpasswd").write_text(f"{self._user}:{_bcrypt(self._password)}\n")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(self._folder / "htpasswd")}}
        # JSON is YAML too.
        (self._folder / "config.yml").write_text(json.dumps(config))
        with (self._folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "serve", str(self._folder / "config.yml")], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        wait_until(self._answers, f"the registry at {self.address}, see {self._folder / 'registry.log'}")

    def _answers(self) -> bool:
        try:
            return fetch("127.0.0.1", self._port, "/v2/")[0] in {200, 401}
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def auth(self) -> dict[str, str]:
        """The credentials as the Engine API spells them; empty without a user."""
        if self._user is None:
            return {}
        return {"username": self._user, "password": self._password, "serveraddress": self.address}

    def push(self, image: str, name: str, tag: str) -> str:
        """Push `image` (id or reference) as NAME:TAG; returns the manifest's digest, `sha256:...`.

        The local reference is removed again, so that deploying it means pulling it.
        """
        repository = f"{self.address}/{name}"
        api("POST", f"/images/{image}/tag", query={"repo": repository, "tag": tag})
        header = base64.urlsafe_b64encode(json.dumps(self.auth()).encode()).decode()
        try:
            lines = progress(
                raw("POST", f"/images/{repository}/push", query={"tag": tag}, headers={"X-Registry-Auth": header})
            )
        finally:
            api("DELETE", f"/images/{repository}:{tag}", query={"noprune": "1"})
        # Podman says no digest.
        return next((str(line["aux"]["Digest"]) for line in lines if "aux" in line), "") or self._digest(name, tag)

    def _digest(self, name: str, tag: str) -> str:
        connection = http.client.HTTPConnection(self.address, timeout=5)
        headers = {
            "Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        }
        if self._user is not None:
            token = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        try:
            connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers=headers)
            return str(connection.getresponse().headers["Docker-Content-Digest"])
        finally:
            connection.close()


def _bcrypt(password: str) -> str:
    """A bcrypt hash by the C library's crypt(3): the only kind of hash the registry takes."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed = library.crypt(password.encode(), b"$2y$05$" + secrets.token_hex(11).encode())
    assert hashed is not None and hashed.startswith(b"$2y$"), "libcrypt knows no bcrypt"
    return bytes(hashed).decode()
