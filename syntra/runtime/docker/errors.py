"""Errors of the Engine API client.

    DockerError
      BadEndpoint            the configured engine address is invalid
      EngineUnreachable      cannot connect, or the connection was lost before a response
      EngineTimeout          the engine did not answer in time
      EngineUnsupported      the API versions of engine and client do not overlap
      EngineProtocolError    the engine's bytes violate the API
      StreamBroken           the connection dropped in the middle of a body
      EngineError            the engine answered with an error status
        BadParameter  400
        NotFound      404
        Conflict      409
      PullFailed             an image could not be pulled, with the kind of failure
      ExecTimeout            a command exceeded its deadline; includes the output so far

Constructors take data; `str()` builds the sentence. The engine's text is cut to 512 bytes and 5 lines, and loses the
query strings and user names of URLs, which may contain credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from syntra.model.ids import ContainerId
from syntra.runtime.docker.explanations import Explanation, explained, shortened
from syntra.runtime.errors import NETWORK_GONE, ExecTimedOut, RuntimeUnavailable, StepFailed
from syntra.utils.errors import AgentError

MAX_MESSAGE_BYTES = 512
MAX_MESSAGE_LINES = 5

_URL_QUERY = re.compile(r"(https?://[^\s\"'?]+)\?[^\s\"']*")
# What a start (404) and a restart (500) say of a container whose network was removed.
_NETWORK_GONE = re.compile(r"\bnetwork \S+ not found")
_URL_USER = re.compile(r"(https?://)[^\s\"'/@]+@")


def clip(text: str) -> str:
    """Remote text, cut to 512 bytes and 5 lines, without URL queries and credentials."""
    text = _URL_USER.sub(r"\1", _URL_QUERY.sub(r"\1?…", text))
    lines = [line.rstrip() for line in text.strip().splitlines()[:MAX_MESSAGE_LINES]]
    return "\n".join(lines).encode("utf-8", "replace")[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore")


class DockerError(AgentError):
    """A call of the engine failed, or could not be made."""

    code = "DOCKER_ERROR"


class BadEndpoint(DockerError):
    """The engine address in the configuration or environment is invalid."""

    code = "ENGINE_ENDPOINT_INVALID"

    def __init__(self, value: str, reason: str, next_step: str) -> None:
        super().__init__(f"cannot use engine address {value!r}: {reason}; {next_step}")


class EngineUnreachable(DockerError):
    """No response arrived. `sent`: whether the engine may have received and performed the request."""

    code = "ENGINE_UNREACHABLE"

    def __init__(self, address: str, reason: str, *, sent: bool = False) -> None:
        self.address = address
        self.reason = reason
        self.sent = sent
        super().__init__(f"cannot reach the engine at {address}: {reason}; {_reach_step(reason)}")


def _reach_step(reason: str) -> str:
    if "ermission denied" in reason:
        return "run the agent as root or add its user to the docker group"
    return "check that the engine is running (systemctl status docker)"


class EngineTimeout(DockerError):
    """The engine accepted the connection but did not answer in time."""

    code = "ENGINE_TIMEOUT"

    def __init__(self, action: str, seconds: float) -> None:
        self.action = action
        self.seconds = seconds
        super().__init__(f"cannot {action}: no answer from the engine within {seconds:g} s; check the engine's load")


class EngineUnsupported(DockerError):
    """The engine supports no API version that this client supports."""

    code = "ENGINE_UNSUPPORTED"


class EngineProtocolError(DockerError):
    """The engine, or another server at its address, sent bytes that violate the API."""

    code = "ENGINE_PROTOCOL"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"cannot read {what}: {reason}; check that the address is a container engine's")


class StreamBroken(DockerError):
    """The connection ended inside a body: the data read so far is incomplete."""

    code = "STREAM_BROKEN"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"cannot finish reading {what}: {reason}; read it again")


class EngineError(DockerError):
    """The engine answered `method path` with an error `status`; `message` is its text, cut."""

    code = "ENGINE_ERROR"

    def __init__(self, status: int, message: str, *, method: str, path: str) -> None:
        self.status = status
        self.message = clip(message)
        self.method = method
        self.path = path
        super().__init__(f"cannot {method} {path}: the engine says {status} {self.message}")


class BadParameter(EngineError):
    """400: the request is wrong, or the container's command cannot be started."""

    code = "BAD_PARAMETER"


class NotFound(EngineError):
    """404: no such container, image, network, volume or exec."""

    code = "NOT_FOUND"


class Conflict(EngineError):
    """409: a name is taken, or the object is in a state that does not allow the call."""

    code = "CONFLICT"


_BY_STATUS: dict[int, type[EngineError]] = {400: BadParameter, 404: NotFound, 409: Conflict}


# What Docker answers with 409, and Podman with 500 and these words of its own.
_PODMAN_CONFLICT = re.compile(
    r"(?:that name is already in use|(?:network|volume) already exists|container state improper)\s*$"
)


def engine_error(status: int, message: str, *, method: str, path: str) -> EngineError:
    """The error class for `status`."""
    if status == 500 and _PODMAN_CONFLICT.search(message):
        return Conflict(409, message, method=method, path=path)
    return _BY_STATUS.get(status, EngineError)(status, message, method=method, path=path)


class PullFailure(Enum):
    """Why a pull failed; decides what to do next."""

    UNREACHABLE = "unreachable"
    """The registry did not answer: retry later, or use a local image."""
    UNAUTHORIZED = "unauthorized"
    """Credentials are missing, wrong or expired: get new ones."""
    DENIED = "denied"
    """The registry knows who asks and refuses; it says the same of a repository that does not exist."""
    RATE_LIMITED = "rate_limited"
    """Too many pulls from here: retry later, or use a local image."""
    PLATFORM = "platform"
    """The image was not built for this server's platform."""
    NOT_FOUND = "not_found"
    """No such repository, tag or digest: retrying does not help."""
    STALLED = "stalled"
    """Nothing happened for the inactivity time."""
    OTHER = "other"
    """Anything else, such as a damaged layer or a full disk."""


_PULL_STEPS = {
    PullFailure.UNREACHABLE: "check the server's connection to the registry",
    PullFailure.UNAUTHORIZED: "check the image's name and give fresh registry credentials",
    PullFailure.DENIED: "check that the repository exists and give credentials that may pull it",
    PullFailure.RATE_LIMITED: (
        "the registry limits how often this server may pull: wait until it allows it again, or give credentials, which "
        "mostly raise the limit"
    ),
    PullFailure.PLATFORM: "build the image for this server's platform (docker buildx build --platform) and push it",
    PullFailure.NOT_FOUND: "check the image's name, tag or digest",
    PullFailure.STALLED: "check the server's bandwidth to the registry and try again",
    PullFailure.OTHER: "see the engine's message",
}


class PullFailed(DockerError):
    """The image was not pulled; an older local copy, if any, is unchanged."""

    code = "PULL_FAILED"

    def __init__(self, image: str, reason: PullFailure, message: str) -> None:
        self.image = image
        self.reason = reason
        self.message = clip(message)
        super().__init__(f"cannot pull {image}: {self.message}; {_PULL_STEPS[reason]}")


class ExecTimeout(DockerError):
    """A command exceeded its deadline. `ended`: whether its processes are known to have ended."""

    code = "EXEC_TIMEOUT"

    def __init__(self, container: str, seconds: float, *, stdout: bytes, stderr: bytes, truncated: bool, ended: bool):
        self.container = container
        self.seconds = seconds
        self.stdout = stdout
        self.stderr = stderr
        self.truncated = truncated
        self.ended = ended
        step = "give it more time" if ended else "its processes may still run inside the container; restart it"
        super().__init__(f"cannot finish the command in {container[:12]}: it ran longer than {seconds:g} s; {step}")


# What was being done, by the code of the failure.
_DOING = {
    "CREATE_FAILED": "create the container",
    "START_FAILED": "start the container",
    "STOP_FAILED": "stop the container",
    "RESTART_FAILED": "restart the container",
    "RENAME_FAILED": "keep the failed container",
    "REMOVE_FAILED": "remove the container",
    "RELEASE_FAILED": "run the release command",
    "NETWORK_FAILED": "make the network",
    "VOLUME_FAILED": "make the volume",
}


def refused(
    code: str, error: EngineError, container_id: ContainerId | None, meaning: Explanation | None = None
) -> StepFailed:
    """The executor's error for an engine's refusal: what it means, with the engine's own text as a detail."""
    meaning = meaning or explained(error.message)
    doing = _DOING.get(code)
    if doing is None:
        return StepFailed(code, shortened(str(error)), container_id=container_id)
    text = shortened(error.message)
    reason = str(meaning) if meaning is not None else f"the engine says {error.status} {text}"
    details = f"{error.status} {text}" if meaning is not None else ""
    code = NETWORK_GONE if _lacks_network(code, error) else code
    return StepFailed(code, f"cannot {doing}: {reason}", container_id=container_id, details=details)


def _lacks_network(code: str, error: EngineError) -> bool:
    is_start = code in ("START_FAILED", "RESTART_FAILED")
    return is_start and _NETWORK_GONE.search(error.message) is not None


@contextmanager
def translated(code: str, container_id: ContainerId | None = None) -> Iterator[None]:
    """Translate the client's errors to the executor's."""
    try:
        yield
    except (EngineUnreachable, StreamBroken, EngineTimeout) as away:
        raise RuntimeUnavailable(str(away)) from away
    except NotFound as gone:
        if "container" not in gone.message.lower() or _lacks_network(code, gone):
            raise refused(code, gone, container_id) from gone
        raise StepFailed("CONTAINER_NOT_FOUND", shortened(str(gone)), container_id=container_id) from gone
    except Conflict as clash:
        if code != "EXEC_FAILED":
            raise refused(code, clash, container_id) from clash
        raise StepFailed("CONTAINER_NOT_RUNNING", shortened(str(clash)), container_id=container_id) from clash
    except ExecTimeout as late:
        raise ExecTimedOut(
            str(late), container_id=container_id, stdout=late.stdout, stderr=late.stderr, truncated=late.truncated
        ) from late
    except PullFailed as failed:
        raise StepFailed(failed.code, str(failed), container_id=container_id) from failed
    except EngineError as error:
        raise refused(code, error, container_id) from error
    except DockerError as failed:
        raise StepFailed(code, str(failed), container_id=container_id) from failed
