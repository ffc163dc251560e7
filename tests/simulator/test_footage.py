"""Rendered clips: once each, kept while there is room."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from veo_async.simulator.footage import Clip, Projector
from veo_async.simulator.records import Footage

SIZE = 100_000


@pytest.fixture
async def projector() -> AsyncIterator[Projector]:
    made = Projector(room=2 * SIZE)
    made.open()
    yield made
    made.close()


def footage(seed: int, *, width: int = 64) -> Footage:
    return Footage(width=width, height=36, seconds=1.0, seed=seed, size=SIZE)


async def many(projector: Projector, wanted: Footage, count: int) -> list[Clip]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(projector.clip(wanted)) for _ in range(count)]
    return [task.result() for task in tasks]


@pytest.mark.anyio
async def test_a_clip_is_rendered_once_however_many_want_it(projector: Projector) -> None:
    clips = await many(projector, footage(1), 20)
    assert all(clip is clips[0] for clip in clips)
    assert await projector.clip(footage(1)) is clips[0]
    assert clips[0].etag == f'"{hashlib.sha256(clips[0].body).hexdigest()}"'


@pytest.mark.anyio
async def test_the_one_unused_longest_makes_room(projector: Projector) -> None:
    first, second = await projector.clip(footage(1)), await projector.clip(footage(2))
    assert await projector.clip(footage(1)) is first
    await projector.clip(footage(3))
    assert await projector.clip(footage(1)) is first
    again = await projector.clip(footage(2))
    assert again is not second
    assert again == second


@pytest.mark.anyio
async def test_a_waiter_that_leaves_does_not_spoil_it_for_others(projector: Projector) -> None:
    async with asyncio.TaskGroup() as group:
        impatient = group.create_task(projector.clip(footage(1)))
        patient = group.create_task(projector.clip(footage(1)))
        await asyncio.sleep(0)
        impatient.cancel()
    assert impatient.cancelled()
    assert len(patient.result().body) == SIZE


@pytest.mark.anyio
async def test_a_failed_rendering_is_an_error_and_is_not_kept(projector: Projector) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="width"):
            await projector.clip(footage(1, width=63))
