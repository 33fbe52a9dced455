"""Kept revisions: a deployment with the objects that its pods were made from, in a Secret. Pure.

A rollback applies the kept pod template and environment, so its pods do not depend on how a later agent would render
the same deployment. An agent that lost its journal reads the deployments from them. Helm keeps its releases in the same
way.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import gzip
import json
from collections.abc import Sequence

from syntra.model.errors import RequestError
from syntra.model.fields import Fields
from syntra.model.ids import DeploymentId
from syntra.model.spec import Deployment
from syntra.model.spec_payload import parse_deployment, render_deployment
from syntra.runtime.kubernetes.names import DEPLOYMENT_ID, KIND, RESTARTED_AT, SLOT, Slot, service_name
from syntra.runtime.kubernetes.objects import Object, label, mapping, text
from syntra.runtime.kubernetes.observed import Revision
from syntra.runtime.kubernetes.render import Rendered
from syntra.utils.frozen import frozen

REVISION_KIND = "revision"
ENV_KIND = "env"
NUMBER = "syntra.dev/revision"
_KEY = "revision.json.gz"
# etcd's limit is of the whole object.
MOST_BYTES = 1_000_000


@frozen
class Kept:
    """The contents of a revision."""

    deployment: Deployment
    objects: tuple[Object, ...]


def kept_objects(rendered: Rendered) -> tuple[Object, ...]:
    """What a revision keeps of a rendered set: the Deployment and the environment. Credentials are not for later."""
    return (rendered.workload, *_environment(rendered.supports))


def as_kept(rendered: Rendered, revision: Kept, slot: Slot) -> Rendered:
    """A rendered set with the pods as the revision had them, in a slot. Numbers of replicas and routes are today's."""
    workload = next((obj for obj in revision.objects if text(obj, "kind") == "Deployment"), None)
    if workload is None:
        return rendered
    template = copy.deepcopy(mapping(workload, "spec", "template"))
    mapping(template, "metadata", "labels")[SLOT] = slot.value
    restarted_at = text(rendered.workload, "spec", "template", "metadata", "annotations", RESTARTED_AT)
    marks = mapping(template, "metadata", "annotations")
    marks.pop(RESTARTED_AT, None)
    if restarted_at:
        marks[RESTARTED_AT] = restarted_at
    others = [obj for obj in rendered.supports if obj not in _environment(rendered.supports)]
    return dataclasses.replace(
        rendered,
        supports=(*_environment(revision.objects), *others),
        workload={**rendered.workload, "spec": {**mapping(rendered.workload, "spec"), "template": template}},
    )


def _environment(objects: Sequence[Object]) -> tuple[Object, ...]:
    return tuple(obj for obj in objects if text(obj, "kind") == "Secret" and label(obj, KIND) == ENV_KIND)


def revision_secret(number: int, deployment: Deployment, objects: Sequence[Object], about: Object) -> Object | None:
    """The Secret of a revision; None when it would be too large. `about` is metadata to start from."""
    content = json.dumps({"deployment": render_deployment(deployment), "objects": list(objects)}, sort_keys=True)
    packed = base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode()
    if len(packed) > MOST_BYTES:
        return None
    known = about.get("labels")
    marks = about.get("annotations")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "syntra.dev/revision.v1",
        "metadata": {
            "namespace": text(about, "namespace"),
            "name": f"syntra-rev-{service_name(deployment.spec)}-{number}",
            "labels": {**(known if isinstance(known, dict) else {}), KIND: REVISION_KIND, NUMBER: str(number)},
            "annotations": {**(marks if isinstance(marks, dict) else {}), DEPLOYMENT_ID: deployment.deployment_id},
        },
        "data": {_KEY: packed},
    }


def revision_secrets(secrets: Sequence[Object]) -> list[Object]:
    """The revisions among Secrets, oldest first."""
    found = [one for one in secrets if label(one, KIND) == REVISION_KIND and label(one, NUMBER).isdecimal()]
    return sorted(found, key=lambda secret: int(label(secret, NUMBER)))


def revisions(secrets: Sequence[Object]) -> list[Revision]:
    """What is known of the revisions among Secrets without their contents, oldest first."""
    return [
        Revision(
            number=int(label(secret, NUMBER)),
            name=text(secret, "metadata", "name"),
            deployment_id=DeploymentId(text(secret, "metadata", "annotations", DEPLOYMENT_ID)),
        )
        for secret in revision_secrets(secrets)
    ]


def kept(secret: Object) -> Kept | None:
    """The contents of a revision's Secret; None when it was changed outside the agent."""
    try:
        content = json.loads(gzip.decompress(base64.b64decode(text(secret, "data", _KEY), validate=True)))
        return Kept(
            deployment=parse_deployment(Fields(content["deployment"])),
            objects=tuple(dict(one) for one in content["objects"]),
        )
    except (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError, RequestError):
        return None
