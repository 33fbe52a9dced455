"""Work inside another network namespace, in a thread of its own: what is opened there stays there."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # sched.h


def within(namespace: Path | None, work: Callable[[], T]) -> T:
    """The result of `work`, done inside the namespace that the file stands for; None is our own."""
    if namespace is None:
        return work()

    def enter_and_work() -> T:
        library = ctypes.CDLL(None, use_errno=True)
        with namespace.open() as handle:
            if library.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}: {os.strerror(ctypes.get_errno())}")
        return work()

    # The thread is in the other namespace for good, so it ends with its work.
    with ThreadPoolExecutor(1, thread_name_prefix="within") as pool:
        return pool.submit(enter_and_work).result()


def connected(namespace: Path | None, address: tuple[str, int], timeout: float) -> socket.socket:
    """A TCP connection that begins inside the namespace."""
    return within(namespace, lambda: socket.create_connection(address, timeout=timeout))
