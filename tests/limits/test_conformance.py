"""The published tests of limiters, over the limiters of this package."""

import secrets

import pytest

from veo_async import FileLimiter, LocalLimiter, RedisLimiter
from veo_async.testing import LimiterConformance


class TestLocalLimiter(LimiterConformance):
    @pytest.fixture
    def make_limiter(self):
        return LocalLimiter


class TestFileLimiter(LimiterConformance):
    @pytest.fixture
    def make_limiter(self, tmp_path):
        return lambda total: FileLimiter(tmp_path / "slots", total=total)


class TestRedisLimiter(LimiterConformance):
    @pytest.fixture
    def make_limiter(self, shared_redis):
        account = secrets.token_hex(4)
        return lambda total: RedisLimiter(shared_redis.url, account=account, total=total, lease=0.5)
