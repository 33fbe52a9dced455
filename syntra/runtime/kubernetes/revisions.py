"""Kept revisions: a deployment with the objects that were applied for it, in a Secret. Pure.

A rollback applies the kept objects, so it does not depend on how a later agent would render the same deployment. An
agent that lost its journal reads the deployments from them. Helm keeps its releases in the same way.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence

from syntra.model.errors import RequestError
from syntra.model.fields import Fields
from syntra.model.ids import DeploymentId
from syntra.model.spec import Deployment
from syntra.model.spec_payload import parse_deployment, render_deployment
from syntra.runtime.kubernetes.names import DEPLOYMENT_ID, KIND, service_name
from syntra.runtime.kubernetes.objects import Object, label, text
from syntra.runtime.kubernetes.observed import Revision
from syntra.utils.frozen import frozen

REVISION_KIND = "revision"
NUMBER = "syntra.dev/revision"
_KEY = "revision.json.gz"
# etcd's limit is of the whole object.
MOST_BYTES = 1_000_000


@frozen
class Kept:
    """The contents of a revision."""

    deployment: Deployment
    objects: tuple[Object, ...]


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


def revisions(secrets: Sequence[Object]) -> list[Revision]:
    """The revisions among Secrets, oldest first."""
    found = []
    for secret in secrets:
        number = label(secret, NUMBER)
        if label(secret, KIND) == REVISION_KIND and number.isdecimal():
            found.append(
                Revision(
                    number=int(number),
                    name=text(secret, "metadata", "name"),
                    deployment_id=DeploymentId(text(secret, "metadata", "annotations", DEPLOYMENT_ID)),
                )
            )
    return sorted(found, key=lambda revision: revision.number)


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
