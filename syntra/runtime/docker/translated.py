"""Errors of the client become the executor's two kinds: the engine is away, or it refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from syntra.model.ids import ContainerId
from syntra.runtime.docker.errors import (
    Conflict,
    DockerError,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    ExecTimeout,
    NotFound,
    PullFailed,
    StreamBroken,
)
from syntra.runtime.errors import RuntimeUnavailable, StepFailed


@contextmanager
def translated(code: str, container_id: ContainerId | None = None) -> Iterator[None]:
    """Turn the client's errors into the executor's."""
    try:
        yield
    except (EngineUnreachable, StreamBroken, EngineTimeout) as away:
        raise RuntimeUnavailable(str(away)) from away
    except NotFound as gone:
        missing = "CONTAINER_NOT_FOUND" if "container" in gone.message.lower() else code
        raise StepFailed(missing, str(gone), container_id=container_id) from gone
    except Conflict as clash:
        down = "CONTAINER_NOT_RUNNING" if code == "EXEC_FAILED" else code
        raise StepFailed(down, str(clash), container_id=container_id) from clash
    except (PullFailed, ExecTimeout) as failed:
        raise StepFailed(failed.code, str(failed), container_id=container_id) from failed
    except (EngineError, DockerError) as refused:
        raise StepFailed(code, str(refused), container_id=container_id) from refused
