"""The options of `install` and `uninstall` for a cluster."""

from __future__ import annotations

import argparse

from syntra import __version__
from syntra.cli.options import path
from syntra.install.cluster_objects import DEFAULT_NAMESPACE, NAME
from syntra.runtime.kubernetes.names import is_dns_label


def add_place(parser: argparse.ArgumentParser) -> None:
    """--kubernetes, --kubeconfig, --namespace."""
    group = parser.add_argument_group("Kubernetes")
    group.add_argument("--kubernetes", action="store_true", help="in a cluster instead of on this server")
    group.add_argument("--kubeconfig", type=path, metavar="FILE", help="the cluster (default $KUBECONFIG)")
    group.add_argument(
        "--namespace",
        type=_namespace,
        default=DEFAULT_NAMESPACE,
        metavar="NAME",
        help=f"where the agent runs (default {DEFAULT_NAMESPACE})",
    )


def add_kubernetes(parser: argparse.ArgumentParser) -> None:
    """The options of an install in a cluster."""
    add_place(parser)
    group = parser.add_argument_group("Kubernetes, install")
    group.add_argument("--print", action="store_true", help="print the objects as YAML, and change nothing")
    group.add_argument(
        "--image",
        default=f"{NAME}:{__version__}",
        metavar="IMAGE",
        help="an image with the agent as `syntra-agent` on its PATH (default %(default)s)",
    )
    group.add_argument(
        "--volume-size", default="1Gi", metavar="SIZE", help="size of the volume with the agent's data (default 1Gi)"
    )
    group.add_argument("--storage-class", default="", metavar="NAME", help="its class (default the cluster's)")
    group.add_argument(
        "--no-volume", action="store_true", help="no volume: data that was not sent yet is lost with the pod"
    )


def _namespace(given: str) -> str:
    if not is_dns_label(given):
        raise argparse.ArgumentTypeError(f"{given[:63]!r} is not a name of a namespace; use a-z, 0-9 and -")
    return given
