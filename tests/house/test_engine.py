"""The engine helpers do what the engine tests rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import engine
from tests.engine import LocalRegistry, engine_token

__all__ = ["engine_token"]

pytestmark = pytest.mark.engine


def test_a_service_serves_the_version_baked_into_its_image(engine_token: str) -> None:
    engine.busybox_image(f"{engine_token}/app:2", "2.0")
    container = engine.start_container(engine_token, f"{engine_token}/app:2")
    address = engine.address_of(container)
    engine.wait_until(lambda: _answer(address) == (200, "2.0\n"), "version 2.0")
    assert engine.fetch(address, path="/health") == (200, "ok 2.0\n")
    engine.api("POST", f"/containers/{container}/stop", query={"t": "20"})
    assert engine.api("GET", f"/containers/{container}/json")["State"]["ExitCode"] == 0


@pytest.mark.parametrize(("fail", "status"), [("exit", 3), ("crash", 4)])
def test_a_failing_version_ends_with_its_own_status(engine_token: str, fail: str, status: int) -> None:
    engine.busybox_image(f"{engine_token}/app:1")
    container = engine.start_container(engine_token, f"{engine_token}/app:1", env={"FAIL": fail})
    assert engine.api("POST", f"/containers/{container}/wait")["StatusCode"] == status


def test_an_unhealthy_version_serves_and_has_no_health(engine_token: str) -> None:
    engine.busybox_image(f"{engine_token}/app:1")
    address = engine.address_of(
        engine.start_container(engine_token, f"{engine_token}/app:1", env={"FAIL": "unhealthy", "VERSION": "bad"})
    )
    engine.wait_until(lambda: _answer(address) == (200, "bad\n"), "the service")
    assert engine.fetch(address, path="/health")[0] == 404


def test_cleanup_takes_what_carries_the_token_and_leaves_the_rest(engine_token: str) -> None:
    other = engine.new_token()
    engine.busybox_image(f"{engine_token}/app:1")
    try:
        for token in (engine_token, other):
            engine.api("POST", "/volumes/create", {"Name": f"data-{token}"})
            engine.api("POST", "/networks/create", {"Name": "any", "Labels": {engine.TOKEN_LABEL: token}})
        engine.start_container(engine_token, f"{engine_token}/app:1", name=f"{engine_token}-a")
        engine.cleanup(engine_token)
        assert engine.containers_of(engine_token) == []
        volumes = {volume["Name"] for volume in engine.api("GET", "/volumes")["Volumes"]}
        assert f"data-{other}" in volumes
        assert f"data-{engine_token}" not in volumes
        labels = [network["Labels"].get(engine.TOKEN_LABEL) for network in engine.api("GET", "/networks")]
        assert other in labels
        assert engine_token not in labels
        tags = [tag for image in engine.api("GET", "/images/json") for tag in image["RepoTags"] or []]
        assert f"{engine_token}/app:1" not in tags
    finally:
        engine.cleanup(other)


def test_a_pushed_image_can_be_pulled_with_the_right_password_only(engine_token: str, tmp_path: Path) -> None:
    image = engine.busybox_image(f"{engine_token}/app:1")
    with LocalRegistry(tmp_path / "registry", user="reader", password="sesame") as registry:
        digest = registry.push(image, f"{engine_token}/app", "1")
        assert digest.startswith("sha256:")
        assert engine.fetch(*_split(registry.address), path="/v2/")[0] == 401
        query = {"fromImage": f"{registry.address}/{engine_token}/app", "tag": "1"}
        with pytest.raises(engine.EngineRefused, match="no basic auth credentials"):
            engine.progress(engine.raw("POST", "/images/create", query=query))
        registry.stop()
        with pytest.raises(engine.EngineRefused, match="connection refused"):
            engine.progress(engine.raw("POST", "/images/create", query=query))
    with LocalRegistry(tmp_path / "open") as registry:
        registry.push(image, f"{engine_token}/app", "1")
        query = {"fromImage": f"{registry.address}/{engine_token}/app", "tag": "1"}
        lines = engine.progress(engine.raw("POST", "/images/create", query=query))
        assert any("Downloaded newer image" in line.get("status", "") for line in lines)


def _answer(address: str) -> tuple[int, str] | None:
    try:
        return engine.fetch(address)
    except OSError:
        return None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port)
