"""What a plan shows of a cluster's objects."""

from __future__ import annotations

from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.preview import MASK, MOST_CHARS, changes, masked, object_name


def config(**spec: object) -> Object:
    metadata: Object = {"name": "web", "namespace": "shop", "resourceVersion": str(len(spec)), "managedFields": []}
    return {"kind": "Deployment", "metadata": metadata, "spec": dict(spec), "status": {"replicas": len(spec)}}


def test_an_object_that_is_new_is_created_and_the_same_one_has_no_changes() -> None:
    assert changes(None, config(replicas=1)) == ["created"]
    assert changes(config(replicas=1), config(replicas=1)) == []


def test_each_change_has_its_path_and_both_values() -> None:
    live = config(replicas=1, ports=[{"port": 80}], gone=True)
    wanted = config(replicas=2, ports=[{"port": 81}], added={"a": 1})
    assert changes(live, wanted) == [
        'spec.added added: {"a": 1}',
        "spec.gone removed",
        "spec.ports[0].port: 80 → 81",
        "spec.replicas: 1 → 2",
    ]


def test_a_list_of_another_length_is_one_change_and_a_long_value_is_cut() -> None:
    [change] = changes(config(command=["a" * 100]), config(command=["a" * 100, "b"]))
    assert change.startswith('spec.command: ["aaa') and "…" in change
    assert len(change) < 2 * MOST_CHARS + 20


def test_secrets_are_compared_and_never_shown() -> None:
    live: Object = {"kind": "Secret", "metadata": {"name": "env"}, "data": {"TOKEN": "aHVudGVyMg==", "SAME": "eA=="}}
    wanted: Object = {"kind": "Secret", "metadata": {"name": "env"}, "data": {"TOKEN": "b3RoZXI=", "SAME": "eA=="}}
    assert changes(live, wanted) == ["data.TOKEN changed"]
    assert masked(wanted)["data"] == {"TOKEN": MASK, "SAME": MASK}
    assert wanted["data"] == {"TOKEN": "b3RoZXI=", "SAME": "eA=="}, "the object itself is applied later"
    assert masked(config(replicas=1)) == config(replicas=1)


def test_an_object_is_named_as_kubectl_does() -> None:
    assert object_name(config()) == "Deployment shop/web"
    assert object_name({"kind": "Namespace", "metadata": {"name": "shop"}}) == "Namespace shop"
