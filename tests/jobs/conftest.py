"""What the tests of queued jobs share."""

import itertools
from collections.abc import Iterator

import pytest

from tests.flows.conftest import until
from tests.jobs import postgres_server

__all__ = ["until"]

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[postgres_server.Server]:
    with postgres_server.running() as one:
        yield one


@pytest.fixture
def dsn(server: postgres_server.Server) -> str:
    """Return the DSN of an empty database."""
    return server.database(f"test_{next(_NUMBERS)}")
