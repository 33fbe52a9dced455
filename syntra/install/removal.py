"""The plan of an uninstall. Pure.

Services keep running: their containers belong to the engine. Configuration, ids and journal stay unless `purge`, so
that a later install finds its services again.
"""

from __future__ import annotations

from collections.abc import Iterator

from syntra.install import places
from syntra.install.actions import Action, Disable, Plan, ReloadManager, RemoveFile, RemoveTree, Stop
from syntra.install.observed import Manager, Observed

_LOG = "/var/log/syntra-agent.log"
_KEPT = ("/etc/syntra", places.DATA)


def removal_plan(seen: Observed, *, purge: bool) -> Plan:
    """The actions in order; none when nothing is installed."""
    return Plan(actions=tuple(_actions(seen, purge=purge)), notes=tuple(_notes(seen, purge=purge)))


def _actions(seen: Observed, *, purge: bool) -> Iterator[Action]:
    service_file = places.UNIT if seen.manager is Manager.SYSTEMD else places.OPENRC_SCRIPT
    if service_file in seen.files:
        if seen.is_active:
            yield Stop()
        if seen.is_enabled:
            yield Disable()
        yield RemoveFile(path=service_file)
        if seen.manager is Manager.SYSTEMD:
            yield ReloadManager()
    if seen.links.get(places.COMMAND) == places.PROGRAM:
        yield RemoveFile(path=places.COMMAND)
    if purge:
        if _LOG in seen.files:
            yield RemoveFile(path=_LOG)
        yield from (RemoveTree(path=path) for path in _KEPT if path in seen.directories)
    # The program that runs now may be in one of these; it needs nothing of them any more.
    yield from (RemoveTree(path=path) for path in (places.CACHE, places.RUN, places.OPT) if path in seen.directories)
    yield from (RemoveTree(path=path) for path in seen.unpacked)


def _notes(seen: Observed, *, purge: bool) -> Iterator[str]:
    kept = [path for path in _KEPT if path in seen.directories]
    if kept and not purge:
        yield f"configuration, ids and journal stay in {' and '.join(kept)}; --purge removes them"
    if purge:
        yield "containers and volumes of services stay"
