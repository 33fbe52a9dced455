"""A service manager that records calls, for faults of the real one at a chosen call."""

from __future__ import annotations

from syntra.install.errors import InstallError


class RecordedManager:
    """Remembers what it was asked for. The call named `fails` raises; `interrupts` raises KeyboardInterrupt instead."""

    def __init__(self, *, fails: str = "", interrupts: str = "", active: bool = False, enabled: bool = False) -> None:
        self.calls: list[str] = []
        self.active = active
        self.enabled = enabled
        self._fails = fails
        self._interrupts = interrupts

    def is_enabled(self) -> bool:
        return self.enabled

    def is_active(self) -> bool:
        return self.active

    def reload(self) -> None:
        self._call("reload")

    def enable(self) -> None:
        self._call("enable")
        self.enabled = True

    def disable(self) -> None:
        self._call("disable")
        self.enabled = False

    def start(self) -> None:
        self._call("start")
        self.active = True

    def restart(self) -> None:
        self._call("restart")
        self.active = True

    def stop(self) -> None:
        self._call("stop")
        self.active = False

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.calls.count(name) > 1:
            return
        if name == self._fails:
            raise InstallError(f"cannot {name}: as the test wants; see the test")
        if name == self._interrupts:
            raise KeyboardInterrupt
