"""What every `TaskLimiter` has to do, as tests that its author runs: see `LimiterConformance`."""

# ruff: noqa: D102, PLR2004, S101, S311  # tests, whose names are their sentences

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from veo_async.limits import LimiterStatistics, TaskLimiter

__all__ = ["LimiterConformance"]

_DEADLINE = 60.0  # seconds, for what would otherwise hang


class LimiterConformance:
    """Tests of a limiter, for a subclass whose name pytest collects.

        class TestMyLimiter(LimiterConformance):
            @pytest.fixture
            def make_limiter(self, tmp_path):
                return lambda total: MyLimiter(tmp_path / "slots", total=total)

    Each test runs an event loop of its own, so that no plugin is needed. `aclose()` is awaited in
    the end where the limiter has one.
    """

    @pytest.fixture
    def make_limiter(self) -> Callable[[int], TaskLimiter]:
        """Return what makes a limiter of so many slots, all of them free. Override it."""
        raise NotImplementedError("override the fixture make_limiter")

    def _play(
        self,
        make_limiter: Callable[[int], TaskLimiter],
        total: int,
        scene: Callable[[TaskLimiter], Awaitable[None]],
    ) -> None:
        async def play() -> None:
            limiter = make_limiter(total)
            try:
                async with asyncio.timeout(_DEADLINE):
                    await scene(limiter)
            finally:
                close: Callable[[], Awaitable[None]] | None = getattr(limiter, "aclose", None)
                if close is not None:
                    await close()

        asyncio.run(play())

    def test_it_is_a_limiter(self, make_limiter: Callable[[int], TaskLimiter]) -> None:
        async def scene(limiter: TaskLimiter) -> None:
            await asyncio.sleep(0)
            assert isinstance(limiter, TaskLimiter)
            assert limiter.statistics() == LimiterStatistics(total=3, in_use=0, waiting=0)

        self._play(make_limiter, 3, scene)

    def test_slots_are_counted(self, make_limiter: Callable[[int], TaskLimiter]) -> None:
        async def scene(limiter: TaskLimiter) -> None:
            await limiter.reserve("a")
            await limiter.reserve("b")
            assert limiter.statistics() == LimiterStatistics(total=3, in_use=2, waiting=0)
            await limiter.occupy("b", 60)
            assert limiter.statistics().in_use == 2, "an occupied slot is the reserved one"
            await limiter.release("a")
            await limiter.release("b")
            assert limiter.statistics() == LimiterStatistics(total=3, in_use=0, waiting=0)

        self._play(make_limiter, 3, scene)

    def test_no_more_than_the_total_get_in(
        self, make_limiter: Callable[[int], TaskLimiter]
    ) -> None:
        inside: set[int] = set()
        peaks: list[int] = []

        async def hold(limiter: TaskLimiter, number: int) -> None:
            await limiter.reserve(str(number))
            inside.add(number)
            peaks.append(len(inside))
            await limiter.occupy(str(number), 60)
            await asyncio.sleep(0)
            inside.discard(number)
            await limiter.release(str(number))

        async def scene(limiter: TaskLimiter) -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(30):
                    group.create_task(hold(limiter, number))

        self._play(make_limiter, 3, scene)
        assert len(peaks) == 30
        assert max(peaks) <= 3

    def test_who_came_first_is_served_first(
        self, make_limiter: Callable[[int], TaskLimiter]
    ) -> None:
        order: list[int] = []

        async def hold(limiter: TaskLimiter, number: int) -> None:
            await limiter.reserve(str(number))
            order.append(number)
            await limiter.release(str(number))

        async def scene(limiter: TaskLimiter) -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(hold(limiter, number))

        self._play(make_limiter, 2, scene)
        assert order == sorted(order)

    def test_a_cancelled_wait_holds_nothing(
        self, make_limiter: Callable[[int], TaskLimiter]
    ) -> None:
        async def scene(limiter: TaskLimiter) -> None:
            await limiter.reserve("a")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await limiter.reserve("b")
            assert limiter.statistics().waiting == 0
            await limiter.release("a")
            await limiter.reserve("c")

        self._play(make_limiter, 1, scene)

    def test_cancellations_at_any_moment_leak_nothing(
        self, make_limiter: Callable[[int], TaskLimiter]
    ) -> None:
        dice = random.Random(1)

        async def hold(limiter: TaskLimiter, key: str) -> None:
            await limiter.reserve(key)
            try:
                await limiter.occupy(key, 60)
                await asyncio.sleep(0)
            finally:
                await limiter.release(key)

        async def scene(limiter: TaskLimiter) -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(200):
                    work = group.create_task(hold(limiter, str(number)))
                    await asyncio.sleep(dice.choice((0, 0, 0.001)))
                    if dice.random() < 0.7:
                        work.cancel()
            for number in range(3):  # all of them can be had again
                await limiter.reserve(f"again {number}")
            assert limiter.statistics().in_use == 3

        self._play(make_limiter, 3, scene)

    def test_an_occupied_slot_lapses_and_wakes_who_waits(
        self, make_limiter: Callable[[int], TaskLimiter]
    ) -> None:
        async def scene(limiter: TaskLimiter) -> None:
            await limiter.reserve("a")
            await limiter.occupy("a", 0.1)
            await limiter.reserve("b")
            await limiter.release("a")
            assert limiter.statistics().in_use == 1, "a late release frees nobody else's slot"

        self._play(make_limiter, 1, scene)

    def test_a_task_that_runs_is_counted_above_the_total(
        self, make_limiter: Callable[[int], TaskLimiter]
    ) -> None:
        async def scene(limiter: TaskLimiter) -> None:
            for key in "abc":
                await limiter.occupy(key, 60)
            assert limiter.statistics().in_use == 3
            await limiter.release("a")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await limiter.reserve("d")
            await limiter.release("b")
            await limiter.reserve("e")

        self._play(make_limiter, 2, scene)

    def test_a_key_that_holds_nothing_may_be_released(
        self, make_limiter: Callable[[int], TaskLimiter]
    ) -> None:
        async def scene(limiter: TaskLimiter) -> None:
            await limiter.release("nobody")
            await limiter.reserve("a")
            await limiter.release("a")
            await limiter.release("a")
            await limiter.reserve("b")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await limiter.reserve("c")

        self._play(make_limiter, 1, scene)
