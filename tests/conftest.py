"""What all tests share: the event loop, and programs that judge from outside."""

import os
import shutil
import socket
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """Return the path of a program; without it the test is skipped, or fails where all must be."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if path is None:
            reason = f"{name} is missing; install the Debian package {package}"
            if os.environ.get("VEO_ASYNC_TEST_TOOLS") == "required":
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def unused_tcp_port() -> int:
    """Return a port that was free a moment ago and that nobody listens on."""
    return free_port()
