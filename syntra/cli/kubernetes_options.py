"""The options of `install` and `uninstall` for a cluster."""

from __future__ import annotations

import argparse
import re

from syntra import __version__
from syntra.cli.options import path
from syntra.install.cluster_objects import DEFAULT_NAMESPACE, NAME
from syntra.model.errors import InvalidField
from syntra.model.image import make_image, split_image
from syntra.runtime.kubernetes.names import is_dns_label

_SIZE = re.compile(r"(?=.*[1-9])\d{1,15}(\.\d{1,3})?([KMGT]i|[kMGT])?", re.ASCII)
"""The quantities of Kubernetes (resource.Quantity) that are sizes of volumes."""


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
        type=_image,
        default=f"{NAME}:{__version__}",
        metavar="IMAGE",
        help="an image with the agent as `syntra-agent` on its PATH (default %(default)s)",
    )
    group.add_argument(
        "--volume-size",
        type=_size,
        default="1Gi",
        metavar="SIZE",
        help="size of the volume with the agent's data (default 1Gi)",
    )
    group.add_argument("--storage-class", default="", metavar="NAME", help="its class (default the cluster's)")
    group.add_argument(
        "--no-volume", action="store_true", help="no volume: data that was not sent yet is lost with the pod"
    )


def _image(given: str) -> str:
    try:
        make_image(lambda part: part, split_image(given))
    except InvalidField:
        example = "registry.example.com/syntra-agent:1.4.2"
        raise argparse.ArgumentTypeError(f"{given[:100]!r} is not an image; give one such as {example}") from None
    return given


def _size(given: str) -> str:
    if not _SIZE.fullmatch(given):
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is not a size; give one such as 1Gi")
    return given


def _namespace(given: str) -> str:
    if not is_dns_label(given):
        raise argparse.ArgumentTypeError(f"{given[:63]!r} is not a name of a namespace; use a-z, 0-9 and -")
    return given
