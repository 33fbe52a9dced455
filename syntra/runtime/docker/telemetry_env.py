"""The environment variables by which a container's OpenTelemetry SDK finds the agent's receivers. Pure.

Names and forms are those of the OpenTelemetry specification ("Environment Variable Specification" and "OTLP Exporter
Configuration"). A variable that the service sets itself is left as it is.
"""

from __future__ import annotations

from urllib.parse import quote

from syntra.model.spec import Deployment
from syntra.utils.frozen import frozen


@frozen
class OtlpPorts:
    """The ports of the OTLP receivers, which listen at the gateway of every project network."""

    grpc: int
    http: int


def telemetry_env(deployment: Deployment, gateway: str, ports: OtlpPorts | None) -> dict[str, str]:
    """The variables; none when the agent has no receivers (`ports` is None)."""
    if ports is None:
        return {}
    spec = deployment.spec
    host = f"[{gateway}]" if ":" in gateway else gateway
    http = f"http://{host}:{ports.http}"
    attributes = {
        "service.namespace": spec.project_name,
        "service.version": spec.image.tag or "",
        "syntra.service.id": spec.service_id,
        "syntra.deployment.id": deployment.deployment_id,
    }
    # SDKs differ in their default protocol; gRPC at the HTTP port would fail.
    protocol = spec.env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    found = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{host}:{ports.grpc}" if protocol == "grpc" else http,
        "OTEL_SERVICE_NAME": spec.service_name,
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(f"{key}={quote(value)}" for key, value in attributes.items() if value),
    }
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in spec.env:
        # The service sends elsewhere, in its own protocol.
        del found["OTEL_EXPORTER_OTLP_PROTOCOL"]
    return {
        "SYNTRA_OTLP_ENDPOINT": http,
        **{key: value for key, value in found.items() if key not in spec.env},
    }
