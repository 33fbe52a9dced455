"""The kinds of objects that the agent uses, and their paths in the API. Pure."""

from __future__ import annotations

from urllib.parse import quote

from syntra.model.fields import Json
from syntra.utils.frozen import frozen


@frozen
class Kind:
    """One kind of objects. `plural` is its name in paths."""

    api_version: str
    kind: str
    plural: str
    is_namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of a collection, or of the object `name`. Without a namespace, it is of all namespaces."""
        group = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if self.is_namespaced and namespace is not None else ""
        rest = "".join(f"/{quote(part, safe='')}" for part in (name, subresource) if part is not None)
        return f"{group}{within}/{self.plural}{rest}"


NAMESPACE = Kind(api_version="v1", kind="Namespace", plural="namespaces", is_namespaced=False)
POD = Kind(api_version="v1", kind="Pod", plural="pods")
SERVICE = Kind(api_version="v1", kind="Service", plural="services")
SECRET = Kind(api_version="v1", kind="Secret", plural="secrets")
CLAIM = Kind(api_version="v1", kind="PersistentVolumeClaim", plural="persistentvolumeclaims")
EVENT = Kind(api_version="v1", kind="Event", plural="events")
SERVICE_ACCOUNT = Kind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts")
DEPLOYMENT = Kind(api_version="apps/v1", kind="Deployment", plural="deployments")
REPLICA_SET = Kind(api_version="apps/v1", kind="ReplicaSet", plural="replicasets")
ENDPOINT_SLICE = Kind(api_version="discovery.k8s.io/v1", kind="EndpointSlice", plural="endpointslices")
INGRESS = Kind(api_version="networking.k8s.io/v1", kind="Ingress", plural="ingresses")
AUTOSCALER = Kind(api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", plural="horizontalpodautoscalers")
LEASE = Kind(api_version="coordination.k8s.io/v1", kind="Lease", plural="leases")
ROLE = Kind(api_version="rbac.authorization.k8s.io/v1", kind="Role", plural="roles")
ROLE_BINDING = Kind(api_version="rbac.authorization.k8s.io/v1", kind="RoleBinding", plural="rolebindings")
CLUSTER_ROLE = Kind(
    api_version="rbac.authorization.k8s.io/v1", kind="ClusterRole", plural="clusterroles", is_namespaced=False
)
CLUSTER_ROLE_BINDING = Kind(
    api_version="rbac.authorization.k8s.io/v1",
    kind="ClusterRoleBinding",
    plural="clusterrolebindings",
    is_namespaced=False,
)
INGRESS_ROUTE = Kind(api_version="traefik.io/v1alpha1", kind="IngressRoute", plural="ingressroutes")
MIDDLEWARE = Kind(api_version="traefik.io/v1alpha1", kind="Middleware", plural="middlewares")
TRAEFIK_SERVICE = Kind(api_version="traefik.io/v1alpha1", kind="TraefikService", plural="traefikservices")
HTTP_ROUTE = Kind(api_version="gateway.networking.k8s.io/v1", kind="HTTPRoute", plural="httproutes")
POD_METRICS = Kind(api_version="metrics.k8s.io/v1beta1", kind="PodMetrics", plural="pods")

KINDS = (
    NAMESPACE,
    POD,
    SERVICE,
    SECRET,
    CLAIM,
    SERVICE_ACCOUNT,
    DEPLOYMENT,
    INGRESS,
    AUTOSCALER,
    LEASE,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    INGRESS_ROUTE,
    MIDDLEWARE,
    TRAEFIK_SERVICE,
    HTTP_ROUTE,
)
"""The kinds that the agent applies."""

KIND_BY_NAME = {kind.kind: kind for kind in KINDS}

_BY_NAME = {(kind.api_version, kind.kind): kind for kind in KINDS}


def kind_of(obj: dict[str, Json]) -> Kind:
    """The kind of an object that the agent has rendered."""
    return _BY_NAME[str(obj["apiVersion"]), str(obj["kind"])]
