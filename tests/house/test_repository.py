"""The repository keeps its own rules; the rules themselves are in `rules`, with their tests in `test_rules`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import syntra
from tests.house import rules

ROOT = Path(__file__).resolve().parents[2]

PURE = (
    "syntra/model/*.py",
    "syntra/runtime/containers/planner.py",
    "syntra/utils/http1.py",
    "syntra/runtime/docker/frames.py",
    "syntra/runtime/docker/jsonlines.py",
    "syntra/runtime/docker/pull.py",
    "syntra/runtime/docker/stats.py",
    "syntra/runtime/docker/body.py",
    "syntra/runtime/docker/proxy_body.py",
    "syntra/agent/proxy/decision.py",
    "syntra/agent/update/judgement.py",
    "syntra/agent/update/schedule.py",
    "syntra/update/version.py",
    "syntra/update/fields.py",
    "syntra/update/keys.py",
    "syntra/update/manifest.py",
    "syntra/update/decide.py",
    "syntra/update/state.py",
    "syntra/update/trial.py",
    "syntra/runtime/docker/exits.py",
    "syntra/connection/session.py",
    "syntra/connection/codec.py",
    "syntra/connection/retry.py",
    "syntra/connection/messages.py",
    "syntra/connection/enrolment.py",
    "syntra/connection/dialect/*.py",
    "syntra/networking/certificates.py",
    "syntra/networking/routes.py",
    "syntra/networking/traefik.py",
    "syntra/networking/traefik_labels.py",
    "syntra/networking/traefik_static.py",
    "syntra/networking/prometheus_text.py",
    "syntra/networking/socket_table.py",
    "syntra/networking/dns/zone.py",
    "syntra/networking/dns/limits.py",
    "syntra/networking/dns/given.py",
    "syntra/networking/dns/resolv_conf.py",
    "syntra/agent/traffic/endpoints.py",
    "syntra/runtime/containers/steps.py",
    "syntra/runtime/containers/routing.py",
    "syntra/runtime/detect.py",
    "syntra/runtime/kubernetes/autoscaler.py",
    "syntra/runtime/kubernetes/exits.py",
    "syntra/runtime/kubernetes/garbage.py",
    "syntra/runtime/kubernetes/http_route.py",
    "syntra/runtime/kubernetes/ingress.py",
    "syntra/runtime/kubernetes/rights.py",
    "syntra/runtime/kubernetes/ingress_route.py",
    "syntra/runtime/kubernetes/metadata.py",
    "syntra/runtime/kubernetes/names.py",
    "syntra/runtime/kubernetes/objects.py",
    "syntra/runtime/kubernetes/lines.py",
    "syntra/runtime/kubernetes/observed.py",
    "syntra/runtime/kubernetes/planner.py",
    "syntra/runtime/kubernetes/pod_events.py",
    "syntra/runtime/kubernetes/pod_template.py",
    "syntra/runtime/kubernetes/pod_trouble.py",
    "syntra/runtime/kubernetes/pods.py",
    "syntra/runtime/kubernetes/preview.py",
    "syntra/runtime/kubernetes/probes.py",
    "syntra/runtime/kubernetes/release_pod.py",
    "syntra/runtime/kubernetes/revisions.py",
    "syntra/runtime/kubernetes/refusals.py",
    "syntra/runtime/kubernetes/render.py",
    "syntra/runtime/kubernetes/render_context.py",
    "syntra/runtime/kubernetes/resources.py",
    "syntra/runtime/kubernetes/secrets.py",
    "syntra/runtime/kubernetes/services.py",
    "syntra/runtime/kubernetes/steps.py",
    "syntra/runtime/kubernetes/units.py",
    "syntra/runtime/kubernetes/verdict.py",
    "syntra/runtime/kubernetes/volumes.py",
    "syntra/health/episodes.py",
    "syntra/health/restarts.py",
    "syntra/health/restore_failures.py",
    "syntra/health/crash_loops.py",
    "syntra/health/checks.py",
    "syntra/health/verdict.py",
    "syntra/telemetry/shipping/destination.py",
    "syntra/telemetry/shipping/pacing.py",
    "syntra/telemetry/shipping/answers.py",
    "syntra/telemetry/shipping/headers.py",
    "syntra/telemetry/shipping/endpoint.py",
    "syntra/telemetry/attributes.py",
    "syntra/telemetry/collect/prometheus/lines.py",
    "syntra/telemetry/collect/prometheus/exposition.py",
    "syntra/telemetry/collect/prometheus/metrics.py",
    "syntra/telemetry/collect/prometheus/units.py",
    "syntra/telemetry/collect/prometheus/pieces.py",
    "syntra/telemetry/collect/prometheus/layout.py",
    "syntra/telemetry/collect/prometheus/otlp.py",
    "syntra/telemetry/collect/prometheus/stale.py",
    "syntra/telemetry/collect/prometheus/pages.py",
    "syntra/telemetry/collect/prometheus/resources.py",
    "syntra/telemetry/collect/prometheus/own_series.py",
    "syntra/telemetry/collect/prometheus/answer.py",
    "syntra/telemetry/collect/prometheus/target.py",
    "syntra/telemetry/otlp/json_*.py",
    "syntra/telemetry/otlp/http2/*.py",
    "syntra/telemetry/otlp/grpc_call.py",
    "syntra/telemetry/processing/errors.py",
    "syntra/telemetry/processing/stack_traces.py",
    "syntra/telemetry/shipping/contract*.py",
    "syntra/telemetry/shipping/frame_limits.py",
    "syntra/telemetry/shipping/hub.py",
    "syntra/telemetry/shipping/tail.py",
    "syntra/install/actions.py",
    "syntra/install/first_configuration.py",
    "syntra/install/observed.py",
    "syntra/install/openrc_script.py",
    "syntra/install/plan.py",
    "syntra/install/removal.py",
    "syntra/install/systemd_unit.py",
)
"""Modules that compute only: what they need to know about the world, the time and chance arrives as arguments."""

PLAIN_PROSE = ("syntra",)
"""Packages whose docstrings and comments use plain words too; a package is added once its words are mended."""


def product_modules() -> list[Path]:
    return sorted((ROOT / "syntra").rglob("*.py"))


def python_files() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".py"]


def repository_files() -> list[Path]:
    """What git knows or would add; without git, everything but hidden folders and build results."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
        paths = [ROOT / name for name in names]
    else:
        kept = (path for path in ROOT.iterdir() if path.name == ".ci" or not path.name.startswith("."))
        paths = [path for top in kept if top.name != "dist" for path in ([top] if top.is_file() else top.rglob("*"))]
    return sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


def findings(paths: Iterable[Path], rule: Callable[[str], list[str]]) -> list[str]:
    """Every finding of `rule` as `file:line: what`, ready to click on."""
    return [
        f"{path.relative_to(ROOT).as_posix()}:{finding}"
        for path in paths
        for finding in rule(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("pattern", PURE)
def test_a_pure_module_does_no_input_or_output(pattern: str) -> None:
    paths = sorted(ROOT.glob(pattern))
    assert paths, f"{pattern} is in the table of pure modules and does not exist"
    assert findings(paths, rules.impurities) == []


def test_only_the_command_line_prints() -> None:
    paths = [path for path in product_modules() if (ROOT / "syntra/cli") not in path.parents]
    assert findings(paths, rules.terminal_output) == []


def test_every_task_belongs_to_a_task_group() -> None:
    assert findings(product_modules(), rules.unowned_tasks) == []


def test_cancellation_is_never_swallowed() -> None:
    assert findings(product_modules(), rules.swallowed_cancellations) == []


def test_broad_excepts_say_why() -> None:
    assert findings(product_modules(), rules.unexplained_broad_excepts) == []


def test_modules_are_named_described_and_short() -> None:
    found = []
    for path in product_modules():
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}:{finding}" for finding in rules.shape(name, path.read_text(encoding="utf-8"))]
    assert found == []


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in product_modules()}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_ignores_carry_a_code() -> None:
    assert findings(python_files(), rules.codeless_ignores) == []


def test_the_repository_speaks_of_the_product_alone() -> None:
    found = []
    for path in repository_files():
        body = path.read_bytes()
        if b"\0" not in body:
            name = path.relative_to(ROOT).as_posix()
            found += [f"{name}:{finding}" for finding in rules.places(body.decode("utf-8"))]
    assert found == []


def test_messages_and_help_use_plain_words() -> None:
    assert findings(product_modules(), rules.hard_messages) == []


@pytest.mark.parametrize("package", PLAIN_PROSE)
def test_docstrings_and_comments_use_plain_words(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"{package} is in the list of packages and does not exist"
    assert findings(paths, rules.hard_prose) == []


def test_documents_use_plain_words() -> None:
    paths = [path for path in repository_files() if path.suffix in {".md", ".toml", ".yml"}]
    assert findings(paths, rules.hard_words) == []


def test_the_changelog_and_the_package_agree_on_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert rules.changelog_disagreements(changelog, syntra.__version__) == []
