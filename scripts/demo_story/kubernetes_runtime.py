"""The demo on a Kubernetes cluster of this machine, found as tests find it. kubectl checks the results."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.demo_story.errors import StoryFailed
from scripts.demo_story.image import archive, sample_service
from scripts.demo_story.names import Names
from scripts.demo_story.processes import Processes, wait_until
from scripts.demo_story.runtime import PORT, Container, Target, Way
from tests.cluster import Cluster, Refused, cluster_problem, running_cluster

REPOSITORY = "registry.local/syntra-demo"
SERVICE_LABEL = "syntra.dev/service-id"
DEPLOYMENT_ANNOTATION = "syntra.dev/deployment-id"
PATIENCE_SECS = 5.0
# Namespaces are deleted with everything in them, pods with their grace period.
GONE_SECS = 60.0


class KubernetesRuntime:
    """Implements `runtime.Runtime`. Requests go to the ClusterIP of the service's Service."""

    name = "kubernetes"
    removed = "no object of it and no namespace is left in the cluster"

    def __init__(self, names: Names, processes: Processes) -> None:
        self._names = names
        self._processes = processes
        self._images: dict[str, str] = {}
        self._address = ""

    def publish(self, broken: Mapping[str, bool]) -> str:
        """Load the images into the cluster's node. They are named by their content, so that they do not accumulate."""
        layers = {}
        for version, is_broken in broken.items():
            layer = sample_service(version, broken=is_broken)
            self._images[version] = f"{REPOSITORY}:{version}-{hashlib.sha256(layer).hexdigest()[:12]}"
            layers[self._images[version]] = layer
        with tempfile.TemporaryDirectory(dir=self._names.directory) as folder:
            file = Path(folder) / "images.tar"
            file.write_bytes(archive(layers))
            self._cluster.load(file)
        release = json.loads(self._cluster.kubectl("get", "--raw", "/version"))["gitVersion"]
        return f"the node of a Kubernetes {release} has images of v1, v2 and v3"

    def image(self, version: str) -> object:
        """The image on the node."""
        return self._images[version]

    def open_way(self) -> Way:
        """The Service, which exists once the service is deployed."""
        return Way(
            through="the Service",
            targets=lambda: [Target(address=self._cluster_ip, port=PORT, patience_secs=PATIENCE_SECS)],
            introduction=f"requests will go to Service {self._namespace}/hello",
            look=lambda: f"curl http://{self._cluster_ip}:{PORT}/",
        )

    @cached_property
    def otlp_address(self) -> str:
        """The node's address, which pods can reach."""
        (node, *_) = self._kubectl("get", "nodes")["items"]
        found: dict[str, str] = {one["type"]: one["address"] for one in node["status"]["addresses"]}
        return found["InternalIP"]

    def agent_settings(self, otlp_http_port: int) -> str:
        """A kubeconfig whose namespace, for the agent's lease, is the demo's own."""
        self._cluster.kubectl("create", "namespace", self._agent_namespace)
        config = json.loads(self._cluster.kubectl("config", "view", "--raw", "-o", "json"))
        for context in config["contexts"]:
            context["context"]["namespace"] = self._agent_namespace
        file = self._processes.path("kubeconfig")
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        return (
            f'[runtime]\nruntime_type = "kubernetes"\nkubernetes_config = {json.dumps(str(file))}\n'
            f'[kubernetes]\notlp_endpoint = "http://{self.otlp_address}:{otlp_http_port}"\n'
            '[networking]\nproxy = "off"\n'
        )

    def containers(self) -> list[Container]:
        """The service's pods; those that are being deleted have left already."""
        labels = f"{SERVICE_LABEL}={self._names.service_id}"
        pods = self._kubectl("-n", self._namespace, "get", "pods", "-l", labels)["items"]
        pods.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        return [
            Container(
                id=pod["metadata"]["uid"],
                name=pod["metadata"]["name"],
                deployment_id=pod["metadata"].get("annotations", {}).get(DEPLOYMENT_ANNOTATION, ""),
                running=_is_ready(pod),
                is_kept=False,
                address=pod["status"].get("podIP", ""),
            )
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        ]

    def left(self) -> list[str]:
        """The project's namespace, after the time that the cluster needs to delete it."""
        try:
            wait_until(lambda: not self._namespaces(self._namespace), "the namespace is gone", GONE_SECS, every=0.5)
        except StoryFailed:
            return [f"namespace {self._namespace}"]
        return []

    def clear(self) -> None:
        """Delete the namespaces; the cluster stays up."""
        if found := self._namespaces(self._namespace, self._agent_namespace):
            self._cluster.kubectl("delete", "namespace", "--ignore-not-found", *found, timeout=GONE_SECS)

    @cached_property
    def _cluster(self) -> Cluster:
        if reason := cluster_problem():
            raise StoryFailed(f"no Kubernetes: {reason}")
        return running_cluster()

    @property
    def _namespace(self) -> str:
        return f"syntra-{self._names.project}"

    @property
    def _agent_namespace(self) -> str:
        return f"{self._names.project}-agent"

    @property
    def _cluster_ip(self) -> str:
        if not self._address:
            service = self._kubectl("-n", self._namespace, "get", "service", "hello")
            self._address = service["spec"]["clusterIP"]
        return self._address

    def _namespaces(self, *names: str) -> list[str]:
        found = {item["metadata"]["name"] for item in self._kubectl("get", "namespaces")["items"]}
        return [name for name in names if name in found]

    def _kubectl(self, *words: str) -> Any:
        try:
            return json.loads(self._cluster.kubectl(*words, "-o", "json"))
        except Refused as refused:
            raise StoryFailed(f"kubectl {' '.join(words)}: {refused}") from refused


def _is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
