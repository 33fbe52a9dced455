"""The engine's texts and what becomes of them: a table of what Docker 20.10 really says, and the real engine itself."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.ids import ContainerId
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import EngineError, engine_error, translated
from syntra.runtime.docker.explanations import explained, shortened, taken_port
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.port_holders import PortHolders
from syntra.runtime.errors import StepFailed
from tests.engine import api
from tests.model.samples import quick
from tests.runtime.docker.scratch import fresh_name

ID = "0123456789ab" + "c" * 52
RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
TEXTS = {
    f"driver failed programming external connectivity on endpoint web ({ID}): Bind for 0.0.0.0:80 failed: port is "
    "already allocated": "host port 80 is taken by another container or process",
    f"driver failed programming external connectivity on endpoint web ({ID}): Error starting userland proxy: listen "
    "tcp4 0.0.0.0:80: bind: address already in use": "host port 80 is taken by another container or process",
    "failed to set up container networking: driver failed programming external connectivity on endpoint web: failed to "
    "bind host port for 0.0.0.0:80:172.18.0.2:80/tcp: address already in use": "host port 80 is taken",
    f'{RUNC}exec: "serve": executable file not found in $PATH: unknown': "the image has no command serve",
    f'{RUNC}exec: "/x/y": stat /x/y: no such file or directory: unknown': "the image has no command /x/y",
    f'{RUNC}exec: "/x": permission denied: unknown': "/x in the image cannot be executed",
    f"{RUNC}exec /bin/x: exec format error: unknown": "made for another platform than this server's",
    "unable to find user app: no matching entries in passwd file": "the image has no user app",
    "unable to find group app: no matching entries in group file": "the image has no group app",
    "No command specified": "the image has no command of its own",
    'invalid mount config for type "bind": bind source path does not exist: /srv/x': "/srv/x does not exist on this",
    f'Conflict. The container name "/web" is already in use by container "{ID}". You have to remove (or rename) that '
    "container to be able to reuse that name.": "the name web is taken by container 0123456789ab",
    "network syntra-shop not found": "the network shop is gone",
    'invalid CapDrop: unknown capability: "CAP_NONESUCH"': "there is no capability NONESUCH",
    "Cannot mkdir: /noexec is not a directory": "/noexec in the image is not a directory",
    f'{RUNC}error during container init: error mounting "/etc/hostname" to rootfs at "/etc": mount /etc/hostname:/etc '
    "(via /proc/self/fd/6), flags: 0x5000: not a directory: unknown: Are you trying": "/etc/hostname cannot be mounted",
    f'{RUNC}error during container init: error mounting "tmpfs" to rootfs at "/x": mount tmpfs:/x (via /proc/self/fd/6)'
    ", flags: 0xe, data: size=zz: invalid argument: unknown": "the tmpfs at /x cannot be mounted",
    "write /var/lib/docker/tmp/x: no space left on device": "the disk of the engine is full",
}


@pytest.mark.parametrize("text", sorted(TEXTS))
def test_what_the_engine_says_is_explained_with_a_next_step_and_kept_as_a_detail(text: str) -> None:
    with pytest.raises(StepFailed) as caught, translated("START_FAILED", ContainerId(ID)):
        raise engine_error(500, text, method="POST", path=f"/containers/{ID}/start")
    sentence = str(caught.value)
    assert sentence.startswith("cannot start the container: ")
    assert TEXTS[text] in sentence
    assert "; " in sentence
    assert ID not in sentence + caught.value.details
    assert caught.value.details.startswith("500 ")
    assert caught.value.container_id == ID


def test_what_is_not_known_is_passed_on_once_and_with_short_ids() -> None:
    with pytest.raises(StepFailed) as caught, translated("STOP_FAILED", ContainerId(ID)):
        raise engine_error(500, f"cannot stop {ID}: tried to kill", method="POST", path=f"/containers/{ID}/stop")
    said = "the engine says 500 cannot stop 0123456789ab: tried to kill"
    assert (str(caught.value), caught.value.details) == (f"cannot stop the container: {said}", "")


@quick
@given(st.text())
def test_any_text_is_explained_or_not(text: str) -> None:
    assert explained(text) is None or str(explained(text))
    assert taken_port(text) is None or isinstance(taken_port(text), int)
    assert len(shortened(text)) <= len(text)


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"Cmd": ["nonesuch"]}, "the image has no command nonesuch"),
    ({"Cmd": ["/nonesuch/x"]}, "the image has no command /nonesuch/x"),
    ({"Cmd": ["/bin"]}, "/bin in the image cannot be executed"),
    ({"Cmd": ["true"], "User": "nonesuch"}, "the image has no user nonesuch"),
    ({"Cmd": ["true"], "User": "0:nonesuch"}, "the image has no group nonesuch"),
    ({"Cmd": ["true"], "WorkingDir": "/bin/sh"}, "/bin/sh in the image is not a directory"),
    (
        {"Cmd": ["true"], "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/nonesuch/x", "Target": "/x"}]}},
        "/nonesuch/x does not exist on this server",
    ),
    ({"Cmd": ["true"], "HostConfig": {"NetworkMode": "syntra-nonesuch"}}, "the network nonesuch is gone"),
    ({"Cmd": ["true"], "HostConfig": {"CapDrop": ["NONESUCH"]}}, "there is no capability NONESUCH"),
    ({"Cmd": ["true"], "HostConfig": {"Tmpfs": {"/x": "size=zz"}}}, "the tmpfs at /x cannot be mounted"),
]


@pytest.mark.engine
async def test_the_engine_s_own_refusals_are_understood(endpoint: Endpoint, image: str) -> None:
    async with EngineClient(endpoint) as client:
        containers = Containers(client)
        for wanted, reason in REFUSED:
            name = fresh_name()
            try:
                with pytest.raises(StepFailed) as caught, translated("START_FAILED"):
                    container_id = await containers.create(name, {"Image": image, **wanted})
                    await containers.start(container_id)
                assert reason in str(caught.value), caught.value.details
            finally:
                await containers.remove(name, force=True)


@pytest.mark.engine
async def test_who_holds_a_port_is_said_by_name(endpoint: Endpoint, image: str) -> None:
    with socket.socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        process_port = held.getsockname()[1]
        async with EngineClient(endpoint) as client:
            containers = Containers(client)
            holders = PortHolders(containers, Identity(Images(client)), lambda port: f"nginx (pid {port})")
            name, other = fresh_name(), fresh_name()
            port = process_port
            try:
                await containers.create(name, _publishing(image, process_port))
                with pytest.raises(EngineError) as by_process:
                    await containers.start(name)
                assert taken_port(by_process.value.message) == process_port
                assert await holders.of(process_port) == f"nginx (pid {process_port})"
                held.close()
                await containers.start(name)
                await containers.create(other, _publishing(image, port))
                with pytest.raises(EngineError) as by_container:
                    await containers.start(other)
                assert taken_port(by_container.value.message) == port
                assert await holders.of(port) == f"container {name} of service svc-a"
                assert await holders.of(port, service_id="svc-a") == "", "its own is stopped first"
            finally:
                for each in (name, other):
                    await containers.remove(each, force=True)
    assert api("GET", "/containers/json", query={"filters": f'{{"name": ["{name}"]}}'}) == []


def _publishing(image: str, port: int) -> dict[str, object]:
    return {
        "Image": image,
        "Cmd": ["sleep", "1000"],
        "Labels": {"syntra.service_id": "svc-a"},
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}},
    }
