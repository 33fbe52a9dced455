"""Machine-like roots of Debian 12, with systemd or OpenRC: built once, booted for each use and thrown away after it.

They share the host's network, so a control plane, a registry and a release server on loopback are reachable from them,
and the host's engine through its socket. What is written to them is kept in memory only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.engine import SOCKET, missing, wait_until

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syntra-tests"
BUILD_SECS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a root contains and how it is started. Raise the number in `name` with every change of `packages`."""

    name: str
    packages: str
    start: tuple[str, ...]
    """The last arguments of systemd-nspawn."""
    is_ready: str
    """A line of shell that succeeds once the machine is up."""


SYSTEMD = Recipe(
    name="systemd-root-1",
    packages="systemd,systemd-sysv,dbus,curl,ca-certificates,openssl,iptables",
    start=("--boot",),
    is_ready="case $(systemctl is-system-running) in running | degraded) ;; *) exit 1 ;; esac",
)
_OPENRC_STATE = "mkdir -p /run/openrc && touch /run/openrc/softlevel && rc-status >/dev/null 2>&1"
OPENRC = Recipe(
    name="openrc-root-1",
    packages="openrc,curl,ca-certificates,openssl",
    # Instead of a boot: a runlevel counts as reached, and rc-status makes OpenRC's directories of states.
    start=("--as-pid2", "sh", "-c", f"{_OPENRC_STATE}; touch /run/is-up; exec sleep infinity"),
    is_ready="test -e /run/is-up",
)


def machine_root(recipe: Recipe) -> Path:
    """The root's directory; the first call builds it. Skips, or fails in CI, where that is not possible."""
    for program in ("debootstrap", "systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed (debootstrap, systemd-container, util-linux)")
    if os.geteuid() != 0:
        missing("only root can build and boot a machine's root")
    _CACHE.mkdir(parents=True, exist_ok=True)
    root = _CACHE / recipe.name
    with (_CACHE / "machine-roots.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            _build(recipe, root)
    return root


def _build(recipe: Recipe, root: Path) -> None:
    unfinished = root.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    ended = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={recipe.packages}", "bookworm", unfinished, *_mirror()],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECS,
    )
    if ended.returncode != 0:
        missing(f"debootstrap ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-500:]}")
    unfinished.rename(root)


def _mirror() -> list[str]:
    """The mirror that apt uses for this release; without one, debootstrap's own default."""
    ended = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Suite: bookworm", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return ended.stdout.split()[:1]


class Machine:
    """A booted root; a context manager. Commands run inside through `run`."""

    def __init__(
        self, recipe: Recipe = SYSTEMD, *, bind: Mapping[Path, str] | None = None, engine: bool = False
    ) -> None:
        """`bind`: host directories to show inside, read-only. `engine`: the host's engine at its usual socket."""
        self._recipe = recipe
        self._binds = [f"--bind-ro={outside}:{inside}" for outside, inside in (bind or {}).items()]
        if engine:
            self._binds.append(f"--bind={SOCKET}:/run/docker.sock")
        self._process: subprocess.Popen[bytes] | None = None
        self._console: IO[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        root = machine_root(self._recipe)
        self._console = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--directory", root, "--register=no", "--keep-unit"),
                *("--volatile=overlay", "--console=pipe", "--link-journal=no", "--resolv-conf=off", *self._binds),
                *self._recipe.start,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(self._has_init, "systemd-nspawn starts an init", 30)
            wait_until(self._is_booted, "the machine is up", 60)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None and self._console is not None
        if self._init:
            # The end of an init ends every process of its namespace.
            try:
                os.kill(self._init, signal.SIGKILL)
            except ProcessLookupError:
                self._init = 0
        else:
            process.kill()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait(30)
            self._console.close()

    def run(
        self,
        *command: str,
        check: bool = True,
        timeout: float = 120.0,
        input: str = "",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, with the environment of a login shell."""
        ended = subprocess.run(
            [*self._enter(), "env", "--chdir=/", "-i", *_environment(env or {}), *command],
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
        )
        if check:
            assert ended.returncode == 0, f"{command} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
        return ended

    def sh(
        self, script: str, *, check: bool = True, timeout: float = 120.0, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a line of shell inside; its output, both streams."""
        return self.run("sh", "-c", f"exec 2>&1; {script}", check=check, timeout=timeout, env=env).stdout

    def service(self, name: str) -> str:
        """A property of the agent's service, as systemd shows it."""
        return self.run("systemctl", "show", f"--property={name}", "--value", "syntra-agent").stdout.strip()

    def journal(self) -> str:
        """What the agent's service has written."""
        return self.run("journalctl", "--unit=syntra-agent", "--output=cat", "--no-pager").stdout

    def host_pid(self, pid: int) -> int:
        """The number by which the host knows a process inside."""
        namespace = os.readlink(f"/proc/{self._init}/ns/pid")
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                if os.readlink(status.parent / "ns/pid") != namespace:
                    continue
                line = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:"))
            except (OSError, StopIteration):
                continue
            if line.split()[-1] == str(pid):
                return int(status.parent.name)
        raise AssertionError(f"there is no process {pid} inside")

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._init), "--all"]

    def _has_init(self) -> bool:
        process = self._process
        assert process is not None and self._console is not None
        if process.poll() is not None:
            self._console.seek(0)
            output = self._console.read().decode(errors="replace")
            raise AssertionError(f"systemd-nspawn ended with {process.returncode}: {output[-1000:]}")
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            try:
                is_inside = os.readlink(f"/proc/{child}/ns/pid") != os.readlink("/proc/self/ns/pid")
            except OSError:
                continue
            if is_inside:
                self._init = int(child)
        return bool(self._init)

    def _is_booted(self) -> bool:
        return self.run("sh", "-c", self._recipe.is_ready, check=False, timeout=20).returncode == 0


def _environment(more: Mapping[str, str]) -> list[str]:
    usual = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path("/", "root")),
        "LANG": "C.UTF-8",
    }
    return [f"{name}={value}" for name, value in {**usual, **more}.items()]


def wait_stable(machine: Machine, seconds: float = 1.0) -> None:
    """Wait until the main process of the agent's service stays the same."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = machine.service("MainPID")
        time.sleep(seconds)
        if before != "0" and machine.service("MainPID") == before:
            return
    raise AssertionError("the service does not stay up")
