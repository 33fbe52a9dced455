"""The client of the Kubernetes API: faults on a scripted server, credentials on a real one."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path

import pytest
import trustme

from syntra.runtime.errors import RuntimeUnavailable
from syntra.runtime.kubernetes.access import Access, Source
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.errors import ApiRefusal, ClusterUnavailable
from syntra.runtime.kubernetes.resources import POD
from tests.cluster import Cluster
from tests.runtime.kubernetes.fake_api import Request, answer, client_of, fake_api, pod, pods, refusal, silence
from tests.runtime.kubernetes.kubeconfig import kubeconfig


async def test_a_list_is_read_page_by_page_without_managed_fields(tmp_path: Path) -> None:
    first = pod("a", 1)
    first["metadata"]["managedFields"] = [{"manager": "x"}]
    async with fake_api(pods(5, first, rest="more"), pods(5, pod("b", 2))) as api, client_of(api, tmp_path) as client:
        found, version = await client.list(POD, "shop", labels="a=b")
        assert [one["metadata"] for one in found] == [pod("a", 1)["metadata"], pod("b", 2)["metadata"]]
        assert version == "5"
        assert "continue=more" in api.lines[1] and "labelSelector=a%3Db" in api.lines[1]


async def test_a_busy_server_is_asked_again_after_the_time_it_names(tmp_path: Path) -> None:
    busy = answer("busy", 429, headers="Retry-After: 1\r\n")
    async with fake_api(busy, answer({"kind": "Pod"})) as api, client_of(api, tmp_path) as client:
        began = asyncio.get_running_loop().time()
        assert await client.get("/x") == {"kind": "Pod"}
        assert asyncio.get_running_loop().time() - began >= 0.9 and len(api.requests) == 2


async def test_an_answer_that_does_not_come_ends_at_the_deadline(tmp_path: Path) -> None:
    async with fake_api(silence) as api, client_of(api, tmp_path) as client:
        with pytest.raises(ClusterUnavailable, match=r"no answer within 0\.3 s") as late:
            await client.call("GET", "/x", deadline=0.3)
        assert late.value.sent


@pytest.mark.parametrize("cut", [b"HTTP/1.1 200 OK\r\nContent-", b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"ki'])
async def test_an_answer_that_is_cut_is_not_taken_for_whole(tmp_path: Path, cut: bytes) -> None:
    async def half(request: Request) -> None:
        await request.send(cut)

    async with fake_api(half) as api, client_of(api, tmp_path) as client:
        with pytest.raises(ClusterUnavailable):
            await client.get("/x")


async def test_refusals_are_told_apart_from_what_may_pass(tmp_path: Path) -> None:
    typed = refusal(500, "", "failed to create typed patch object: unknown field")
    async with (
        fake_api(typed, refusal(503, "ServiceUnavailable"), answer("404 page not found\n", 404)) as api,
        client_of(api, tmp_path) as client,
    ):
        with pytest.raises(ApiRefusal) as invalid:
            await client.get("/x", what="apply Deployment web")
        assert invalid.value.code == "INVALID_PAYLOAD" and "cannot apply Deployment web: failed" in str(invalid.value)
        with pytest.raises(RuntimeUnavailable, match="503"):
            await client.get("/x")
        with pytest.raises(ApiRefusal, match="404 page not found") as absent:
            await client.get("/x")
        assert absent.value.is_not_found


async def test_a_namespace_that_is_being_deleted_is_no_missing_right(tmp_path: Path) -> None:
    ending = refusal(403, "Forbidden", "because it is being terminated", "NamespaceTerminating")
    other = refusal(403, "Forbidden", "no such right")
    async with fake_api(ending, other) as api, client_of(api, tmp_path) as client:
        with pytest.raises(ApiRefusal, match="wait until the namespace is gone, and try again") as refused:
            await client.get("/x")
        assert refused.value.code == "CONFLICT"
        with pytest.raises(ApiRefusal, match="give the agent's user this right"):
            await client.get("/x")


async def test_a_connection_that_was_closed_meanwhile_is_replaced(tmp_path: Path) -> None:
    async def once(request: Request) -> None:
        await request.send(answer({"n": 1}))

    async with fake_api(once, answer({"n": 2})) as api, client_of(api, tmp_path) as client:
        assert await client.get("/x") == {"n": 1}
        await asyncio.sleep(0.05)
        assert await client.get("/x") == {"n": 2}


async def test_a_token_that_expired_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    async def expired(request: Request) -> None:
        token.write_text("new")
        await request.send(refusal(401, "Unauthorized"))

    async with fake_api(expired, answer({"n": 1})) as api, client_of(api, tmp_path, tokenFile=str(token)) as client:
        assert await client.get("/x") == {"n": 1}
        assert [request.headers["authorization"] for request in api.requests] == ["Bearer old", "Bearer new"]


async def test_a_token_that_stays_refused_is_said(tmp_path: Path) -> None:
    async with fake_api(refusal(401, "Unauthorized")) as api, client_of(api, tmp_path, token="t") as client:
        with pytest.raises(ApiRefusal) as refused:
            await client.get("/x")
        assert refused.value.code == "PERMISSION_DENIED" and len(api.requests) == 1


async def test_a_proxy_is_asked_for_a_tunnel(tmp_path: Path) -> None:
    async with fake_api(b"HTTP/1.1 200 OK\r\n\r\n", answer({"n": 1}), answer("no", 403)) as proxy:
        path = kubeconfig(
            tmp_path / "kubeconfig",
            "http://api.example:6443",
            cluster={"proxy-url": f"http://127.0.0.1:{proxy.port}"},
        )
        access = await Access.open(Source(kubeconfig=str(path)))
        async with KubernetesClient(access) as client:
            assert await client.get("/x") == {"n": 1}
        assert proxy.lines == ["CONNECT api.example:6443 HTTP/1.1", "GET /x HTTP/1.1"]
        async with KubernetesClient(access) as client:
            with pytest.raises(ClusterUnavailable, match="the proxy refused the connection"):
                await client.get("/x")


def _parts(cluster: Cluster) -> tuple[str, str]:
    shown = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    return shown["clusters"][0]["cluster"]["server"], shown["users"][0]["user"]["token"]


async def test_the_server_s_certificate_is_checked_for_the_name_that_is_set(cluster: Cluster, tmp_path: Path) -> None:
    server, token = _parts(cluster)
    certificate = str(cluster.kubeconfig.parent / "pki/apiserver.crt")
    for name, is_right in (("kubernetes.default.svc", True), ("wrong.example", False)):
        path = kubeconfig(
            tmp_path / name,
            server,
            cluster={"certificate-authority": certificate, "tls-server-name": name},
            user={"token": token},
        )
        async with KubernetesClient(await Access.open(Source(kubeconfig=str(path)))) as client:
            if is_right:
                assert "gitVersion" in await client.get("/version")
            else:
                with pytest.raises(ClusterUnavailable, match="its certificate is not trusted"):
                    await client.get("/version")


@pytest.mark.parametrize("as_files", [True, False], ids=["files", "data"])
async def test_a_client_certificate_is_shown_to_the_server(tmp_path: Path, *, as_files: bool) -> None:
    """The test cluster's API server knows tokens only, so this is a server that takes nothing but a certificate."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    identity = authority.issue_cert("agent")
    texts = {
        "certificate-authority": authority.cert_pem.bytes(),
        "client-certificate": b"".join(blob.bytes() for blob in identity.cert_chain_pems),
        "client-key": identity.private_key_pem.bytes(),
    }
    given: dict[str, object] = {}
    for name, content in texts.items():
        if as_files:
            (tmp_path / name).write_bytes(content)
            given[name] = str(tmp_path / name)
        else:
            given[f"{name}-data"] = base64.b64encode(content).decode()
    trusted = {name: value for name, value in given.items() if name.startswith("certificate-authority")}
    own = {name: value for name, value in given.items() if name not in trusted}
    async with fake_api(answer({"n": 1}), tls=tls) as api:
        server = f"https://127.0.0.1:{api.port}"
        for name, user, is_known in (("with", own, True), ("without", {"token": "t"}, False)):
            path = kubeconfig(tmp_path / name, server, cluster=trusted, user=user)
            async with KubernetesClient(await Access.open(Source(kubeconfig=str(path)))) as client:
                if is_known:
                    assert await client.get("/x") == {"n": 1}
                else:
                    with pytest.raises(ClusterUnavailable):
                        await client.get("/x")


async def test_a_plugin_gives_the_token(cluster: Cluster, tmp_path: Path) -> None:
    server, token = _parts(cluster)
    credential = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": token}}
    given = tmp_path / "credential.json"
    given.write_text(json.dumps(credential))
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "cat",
        "args": [str(given)],
        "interactiveMode": "Never",
    }
    path = kubeconfig(
        tmp_path / "kubeconfig", server, cluster={"insecure-skip-tls-verify": True}, user={"exec": plugin}
    )
    async with KubernetesClient(await Access.open(Source(kubeconfig=str(path)))) as client:
        assert (await client.get("/api/v1/namespaces/default"))["kind"] == "Namespace"
