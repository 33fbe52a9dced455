"""The list of parts of an artifact, as CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json/)."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

from build.facts import requirements
from build.program import native_libraries
from build.sources import PINS
from build.targets import Target


def component(name: str, version: str, purl: str, hashes: list[str]) -> dict[str, Any]:
    """One part; `purl` is its package URL, which vulnerability scanners look up."""
    part: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if hashes:
        part["hashes"] = [{"alg": "SHA-256", "content": value} for value in hashes]
    return part


def components(target: Target, wheels: dict[str, str]) -> list[dict[str, Any]]:
    """Python packages, then the native parts, each with the sums of what it was made from.

    `wheels` are the sums of the target's wheels, by file name.
    """
    parts = []
    for name, version in sorted(requirements().items(), key=lambda item: item[0].lower()):
        start = f"{name.replace('-', '_').replace('.', '_').lower()}-{version}-"
        sums = [value for file, value in wheels.items() if file.lower().startswith(start)]
        if name == "protobuf" and target.libc == "musl":
            # Its parser is compiled from the source distribution.
            sums.append(PINS["upb"]["sha256"])
        parts.append(component(name, version, f"pkg:pypi/{name.lower().replace('_', '-')}@{version}", sums))
    for name in native_libraries(target):
        pin = PINS["source"].get(name) or PINS["binary"][name]
        package = pin.get("package", name)
        sums = list(pin["files"].values()) if "files" in pin else [pin[target.arch]]
        version = pin["version"]
        arch = "source" if "files" in pin else target.debian
        purl = f"pkg:deb/debian/{package}@{quote(version, safe='')}?arch={arch}"
        parts.append(component(name, version, purl, sums))
    return parts


def tools() -> list[dict[str, Any]]:
    """What the artifact was made with. Parts of them are inside: the C library's start code, the launcher's decoder."""
    return [
        {"type": "application", "name": name, "version": version, "purl": f"pkg:pypi/{name.lower()}@{version}"}
        for name, version in PINS["tools"].items()
    ]


def document(target: Target, version: str, date: str, artifact: str, sha256: str, wheels: dict[str, str]) -> str:
    """The whole document; the same for the same artifact, so its serial number comes from the artifact's sum."""
    parts = components(target, wheels)
    subject = f"pkg:generic/syntra-agent@{version}?file_name={artifact}"
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{subject}#{sha256}')}",
        "version": 1,
        "metadata": {
            "timestamp": date,
            "tools": {"components": tools()},
            "component": {
                "type": "application",
                "bom-ref": subject,
                "name": "syntra-agent",
                "version": version,
                "purl": subject,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            },
        },
        "components": parts,
        "dependencies": [{"ref": subject, "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    return json.dumps(bom, indent=1) + "\n"
