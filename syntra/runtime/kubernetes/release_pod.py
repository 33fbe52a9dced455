"""The pod that runs a deployment's release command. Pure.

It is a pod of the new version in all but its command: no port, no probes, no Service selects it, and it is never
started again. Its name is of the deployment, so an agent that was killed finds it and the command runs once.
"""

from __future__ import annotations

from dataclasses import replace

from syntra.model.spec import Deployment
from syntra.runtime.kubernetes.names import KIND, SLOT, content_name, namespace, service_name
from syntra.runtime.kubernetes.objects import Object, mapping, texts
from syntra.runtime.kubernetes.pod_template import pod_template
from syntra.runtime.kubernetes.render_context import RenderContext
from syntra.runtime.kubernetes.resources import POD

RELEASE = "release"


def release_name(deployment: Deployment) -> str:
    """The name of the pod."""
    return content_name(f"{service_name(deployment.spec)}-release", deployment.deployment_id)


def release_pod(deployment: Deployment, context: RenderContext) -> Object:
    """The pod. The deployment has a release command."""
    spec = replace(
        deployment.spec, command=deployment.spec.release_command, port=None, host_port=None, labels={}, health=None
    )
    template = pod_template(replace(deployment, spec=spec), context)
    labels = texts(template, "metadata", "labels")
    # Without the label of a slot neither a Service nor a Deployment selects it.
    labels.pop(SLOT, None)
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": {
            "name": release_name(deployment),
            "namespace": namespace(spec.project_name),
            "labels": {**labels, KIND: RELEASE},
            "annotations": mapping(template, "metadata", "annotations"),
        },
        "spec": {**mapping(template, "spec"), "restartPolicy": "Never"},
    }
