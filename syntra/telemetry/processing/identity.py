"""The identity of a sending container, and how it replaces what a request claims about itself.

The address that a request came from says which container sent it. `syntra.service.id`, `syntra.deployment.id`,
`syntra.project`, `container.id`, `service.instance.id`, `service.name` and `service.namespace` are therefore set from
the identity, and what the request says under these names is removed. An empty field of the identity removes the claim
and sets nothing. Processes of the server itself have no identity; their resources stay as they are. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from syntra.telemetry.intake import BadData
from syntra.utils.frozen import frozen

UNKNOWN_SERVICE = "unknown_service"
"""The semantic conventions' name for a service that gives none."""


@frozen
class Identity:
    """A sending container, from its labels. `project` becomes `service.namespace`, `replica` `service.instance.id`."""

    service_id: str
    service_name: str
    deployment_id: str
    project: str
    container_id: str
    replica: str
    image: str = ""

    def attributes(self) -> dict[str, str]:
        """The resource attributes that this identity sets."""
        return {
            "service.name": self.service_name,
            "service.namespace": self.project,
            "service.instance.id": self.replica,
            "container.id": self.container_id,
            "container.image.name": self.image,
            "syntra.service.id": self.service_id,
            "syntra.deployment.id": self.deployment_id,
            "syntra.project": self.project,
        }


def decode_resource(encoded: bytes) -> Resource:
    """Decode a resource. Raises BadData."""
    try:
        return Resource.FromString(encoded)
    except DecodeError as error:
        raise BadData("cannot decode a resource: it is not valid protobuf", "resource") from error


def identified(resource: Resource, identity: Identity, strings: Sequence[str] = ()) -> Resource:
    """A copy of the resource with the identity's attributes instead of the claimed ones.

    `strings` is the string table of a profiles request, which the keys of its attributes may point into.
    """
    given = identity.attributes()
    made = Resource()
    for attribute in resource.attributes:
        key = attribute.key
        index = attribute.key_strindex
        if not key and 0 < index < len(strings):
            key = strings[index]
        if key not in given:
            made.attributes.add().CopyFrom(attribute)
    for key, value in given.items():
        if value:
            added = made.attributes.add()
            added.key = key
            added.value.string_value = value
    made.dropped_attributes_count = resource.dropped_attributes_count
    made.entity_refs.extend(resource.entity_refs)
    return made


def text_attribute(resource: Resource, key: str) -> str:
    """The value of a string attribute; empty if there is none. The first one counts."""
    for attribute in resource.attributes:
        if attribute.key == key:
            return str(attribute.value.string_value)
    return ""
