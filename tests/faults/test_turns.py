"""Whose turn it is: the download whose window ends first."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.fileserver import FileServer, Reply, client_of, movie, video
from veo_async import Event
from veo_async.download import Turns
from veo_async.events import DownloadStarted
from veo_async.settings import URL_LIFETIME
from veo_async.transfer import Windows

pytestmark = pytest.mark.anyio


async def test_the_nearest_end_goes_first_and_equals_in_order() -> None:
    turns, ran = Turns(1), []
    ends = [random.Random(5).randrange(10) for _ in range(50)]
    go = asyncio.Event()

    async def work(number: int, end: float) -> None:
        async with turns.turn(end):
            await go.wait()
            ran.append((end, number))

    async with asyncio.TaskGroup() as group:
        group.create_task(work(-1, 99))  # holds the only place
        await asyncio.sleep(0)
        for number, end in enumerate(ends):
            group.create_task(work(number, end))
        await asyncio.sleep(0)
        assert (turns.active, turns.waiting) == (1, 50)
        go.set()
    assert ran[1:] == sorted(ran[1:])
    assert (turns.active, turns.waiting) == (0, 0)


async def test_a_newcomer_does_not_overtake_one_whose_turn_it_is() -> None:
    turns, ran = Turns(1), []

    async def work(name: str, end: float) -> None:
        async with turns.turn(end):
            ran.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name, end in (("first", 9), ("second", 5), ("third", 1)):
            group.create_task(work(name, end))
    assert ran == ["first", "third", "second"]


@pytest.mark.parametrize("seed", range(20))
async def test_cancellations_lose_no_place(seed: int) -> None:
    dice = random.Random(seed)
    turns = Turns(3)
    peak = 0

    async def work() -> None:
        nonlocal peak
        async with turns.turn(dice.random()):
            peak = max(peak, turns.active)
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(work()))
        if dice.random() < 0.5:
            await asyncio.sleep(0)
        if dice.random() < 0.6:
            dice.choice(tasks).cancel()
    await asyncio.wait(tasks)
    assert peak == 3
    assert (turns.active, turns.waiting) == (0, 0)
    assert turns._queue == []


async def test_those_who_gave_up_are_forgotten() -> None:
    turns = Turns(1)
    async with turns.turn(0):
        tasks = [asyncio.create_task(turns._take(float(number))) for number in range(50)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert turns._queue == []


async def test_the_client_fetches_the_older_link_first(tmp_path: Path) -> None:
    """Windows count from the first time that a link was seen."""
    order = []

    def note(event: Event) -> None:
        if isinstance(event, DownloadStarted):
            order.append(event.path.name)

    host = FileServer(movie(20_000))
    names = [*"abcdef"]
    async with host.serving(), client_of(host, max_downloads=1, on_event=note) as veo:
        for name in names:
            async with veo.stream(video(f"{host.url}/{name}")):
                pass
        host.script = [Reply(early=True, end="hang")]
        blocked = asyncio.create_task(veo.download(video(host.link), tmp_path / "blocked"))
        while host.script:
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            for name in ["new", *reversed(names)]:
                group.create_task(veo.download(video(f"{host.url}/{name}"), tmp_path / name))
            while veo.statistics().downloads_waiting < 7:
                await asyncio.sleep(0)
            blocked.cancel()
        await asyncio.wait({blocked})
    assert order == ["blocked", *names, "new"]


async def test_a_link_that_waited_too_long_is_renewed_before_it_is_used(tmp_path: Path) -> None:
    windows = Windows()
    windows.note("a", 100.0)
    windows.note("a", 500.0)
    assert windows.deadline("a", 600.0) == 100.0 + URL_LIFETIME
    windows.renew("a", 700.0)
    assert windows.deadline("a", 700.0) == 700.0 + URL_LIFETIME
    windows.note("b", 701.0)
    windows.note("c", 702.0 + URL_LIFETIME)
    assert [*windows._received] == ["c"]
