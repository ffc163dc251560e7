"""A Redis server for a test, and one for all tests that leave it alone."""

from collections.abc import Callable, Iterator

import pytest

from tests.limits.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis(tool: Callable[[str, str], str]) -> Iterator[RedisServer]:
    """A server that nobody kills."""
    with RedisServer(tool("redis-server", "redis-server")) as server:
        yield server


@pytest.fixture
def redis_server(tool: Callable[[str, str], str]) -> Iterator[RedisServer]:
    """A server of a test's own."""
    with RedisServer(tool("redis-server", "redis-server")) as server:
        yield server
