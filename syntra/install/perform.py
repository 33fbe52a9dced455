"""Carries out a plan, and undoes what it has done when an action fails.

An uninstall is not undone: what is left after a failure is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import assert_never

from syntra.install.actions import (
    Action,
    Disable,
    Enable,
    InstallVersion,
    MakeDirectory,
    MakeLink,
    ReloadManager,
    RemoveFile,
    RemoveTree,
    Restart,
    Start,
    Stop,
    WriteFile,
)
from syntra.install.errors import InstallError
from syntra.install.places import below
from syntra.install.service_manager import ServiceManager
from syntra.update import layout
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError

Undo = Callable[[], None]


class Performer:
    """Performs actions on the machine whose root is `prefix`. `program` is the executable that is installed."""

    def __init__(self, manager: ServiceManager, *, program: Path, prefix: str = "/") -> None:
        self._manager = manager
        self._program = program
        self._prefix = prefix

    def install(self, actions: Sequence[Action]) -> None:
        """Perform all, or leave the machine as it was. Raises AgentError with what failed first.

        Also an interruption (Ctrl-C) undoes what was done.
        """
        undos: list[Undo] = []
        try:
            for action in actions:
                undos.append(self._perform(action))
        except BaseException as failed:
            problems = self._undo(undos, restart=any(isinstance(action, Restart) for action in actions))
            if problems and isinstance(failed, AgentError):
                raise InstallError(f"{failed}\nnot undone: {'; '.join(problems)}") from failed
            raise

    def uninstall(self, actions: Sequence[Action]) -> None:
        """Perform all. After a failure the rest stays, and another uninstall continues."""
        for action in actions:
            self._perform(action)

    def _undo(self, undos: Sequence[Undo], *, restart: bool) -> list[str]:
        problems = []
        # The unit as it was has to be read again, after the files are back.
        last: list[Undo] = [self._manager.reload, *([self._manager.restart] if restart else [])]
        for undo in [*reversed(undos), *last]:
            try:
                undo()
            except (AgentError, OSError) as problem:
                problems.append(str(problem))
        return problems

    def _perform(self, action: Action) -> Undo:
        try:
            return self._do(action)
        except OSError as refused:
            raise InstallError(
                f"cannot {action.says.partition(' (')[0]}: {refused.strerror or refused}; "
                "correct this and run the command again"
            ) from refused

    def _do(self, action: Action) -> Undo:
        match action:
            case MakeDirectory(path=path, mode=mode):
                return _make_directory(self._path(path), mode)
            case WriteFile(path=path, content=content, mode=mode):
                return _write_file(self._path(path), content, mode)
            case MakeLink(path=path, target=target):
                return _make_link(self._path(path), target)
            case InstallVersion(root=root, version=version):
                return _install_version(self._path(root), version, self._program)
            case ReloadManager():
                self._manager.reload()
                return _nothing
            case Enable():
                self._manager.enable()
                return self._manager.disable
            case Start():
                return self._start()
            case Restart():
                self._manager.restart()
                return _nothing
            case Stop():
                self._manager.stop()
                return _nothing
            case Disable():
                self._manager.disable()
                return _nothing
            case RemoveFile(path=path):
                self._path(path).unlink(missing_ok=True)
                return _nothing
            case RemoveTree(path=path):
                with suppress(FileNotFoundError):
                    shutil.rmtree(self._path(path))
                return _nothing
            case _:
                assert_never(action)

    def _start(self) -> Undo:
        try:
            self._manager.start()
        except BaseException:
            # The manager would try again and again.
            with suppress(AgentError):
                self._manager.stop()
            raise
        return self._manager.stop

    def _path(self, path: str) -> Path:
        return Path(below(self._prefix, path))


def _nothing() -> None:
    """Nothing to undo."""


def _make_directory(path: Path, mode: int) -> Undo:
    made = [missing for missing in [path, *path.parents] if not missing.exists()]
    before = None if made else path.stat().st_mode & 0o7777
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    path.chmod(mode)

    def undo() -> None:
        if before is not None:
            path.chmod(before)
        for directory in made:
            # The agent may have written into it; what it wrote is not worth keeping without the agent.
            if directory == path:
                shutil.rmtree(directory)
            else:
                directory.rmdir()

    return undo


def _write_file(path: Path, content: bytes, mode: int) -> Undo:
    before = (path.read_bytes(), path.stat().st_mode & 0o7777) if path.exists() else None
    made = [missing for missing in path.parents if not missing.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_file.write(path, content, mode)

    def undo() -> None:
        if before is not None:
            atomic_file.write(path, before[0], before[1])
            return
        path.unlink(missing_ok=True)
        for directory in made:
            directory.rmdir()

    return undo


def _make_link(path: Path, target: str) -> Undo:
    before = os.readlink(path) if path.is_symlink() else None
    made = [missing for missing in path.parents if not missing.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace_link(path, target)

    def undo() -> None:
        if before is not None:
            _replace_link(path, before)
            return
        path.unlink(missing_ok=True)
        for directory in made:
            directory.rmdir()

    return undo


def _replace_link(path: Path, target: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)


def _install_version(root: Path, version: str, program: Path) -> Undo:
    existed = root.exists()
    had_version = (root / layout.VERSIONS / version).exists()
    links = {name: layout.linked(root, name) for name in (layout.CURRENT, layout.PREVIOUS)}

    def undo() -> None:
        if not existed:
            shutil.rmtree(root, ignore_errors=True)
            return
        for name, before in links.items():
            if before is not None:
                layout.link(root, name, before)
            else:
                (root / name).unlink(missing_ok=True)
        if not had_version:
            shutil.rmtree(root / layout.VERSIONS / version, ignore_errors=True)

    try:
        layout.install_version(root, version, program)
    except BaseException:
        undo()
        raise
    return undo
