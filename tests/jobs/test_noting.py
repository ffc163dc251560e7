"""Leaving a paid request while it is written down that it leaves, however often that is said."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from veo_async import VideoRequest
from veo_async.database import JOURNAL_NAME
from veo_async.entries import Entry, Orders
from veo_async.jobs import Job, request_text
from veo_async.journal import FilePlace, SharedJournal
from veo_async.journal_file import JournalFile
from veo_async.noting import Notes
from veo_async.outputs import Naming
from veo_async.prices import DEARER
from veo_async.protocol.jobs import JobState

pytestmark = pytest.mark.anyio
REQUEST = VideoRequest("a boat")
Share = Callable[[], Awaitable[SharedJournal]]


class NeverStopped:
    """Lets everything leave."""

    is_stopped: bool = False

    def stop(self) -> None:
        """Do nothing."""


def entry_of(job: Job) -> Entry:
    return Entry(job=job, request=REQUEST, source=REQUEST, price=70)


def notes_in(journal: SharedJournal, folder: Path) -> Notes:
    orders = Orders(
        folder=folder,
        naming=Naming(),
        prices=DEARER,
        retries=0,
        resubmits_uncertain=False,
        window=1200.0,
        callback_url=None,
    )
    return Notes(journal, orders, NeverStopped())


@pytest.fixture
async def share(tmp_path: Path) -> AsyncIterator[Share]:
    """Open a journal once more; all of them are closed in the end."""
    opened: list[SharedJournal] = []

    async def one_more() -> SharedJournal:
        place = FilePlace(tmp_path / JOURNAL_NAME)
        opened.append(await SharedJournal.share(place, tmp_path, mark="simulated"))
        return opened[-1]

    yield one_more
    for journal in opened:
        await journal.aclose()


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_what_was_left_before_it_was_sent_is_not_uncertain(
    share: Share, tmp_path: Path, times: int
):
    """A client that is closed cancels its submits, and so may whoever waits for one."""
    journal, onlooker = await share(), await share()
    await journal.claim("a")
    entry = entry_of(Job(key="a", position=1, request_text=request_text(REQUEST)))
    leaving = asyncio.ensure_future(notes_in(journal, tmp_path).intend(entry, "token"))
    await asyncio.sleep(0)
    leaving.cancel()
    may_go_on = threading.Event()
    later = asyncio.ensure_future(journal.do(lambda _: may_go_on.wait(20)))
    with anyio.fail_after(20):
        while await onlooker.do(JournalFile.find, "a") is None:
            pass
        for _ in range(times - 1):
            for _ in range(20):
                await asyncio.sleep(0)
            leaving.cancel()
        may_go_on.set()
        await later
        with pytest.raises(asyncio.CancelledError):
            await leaving
    job = await journal.do(JournalFile.find, "a")
    assert job is not None
    assert (job.state, job.attempts) == (JobState.NEW, ())
    assert entry.job == job


async def test_who_leaves_takes_nothing_back_of_what_another_worker_sends(
    share: Share, tmp_path: Path
):
    one, other = await share(), await share()
    entry = entry_of(Job(key="a", position=1, request_text=request_text(REQUEST)))
    await other.claim("a")
    sent = await other.do(
        JournalFile.intend, entry.job, token="other", credits_=70, name="a.mp4", now=1.0
    )
    leaving = asyncio.ensure_future(notes_in(one, tmp_path).intend(entry, "one"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await other.do(JournalFile.find, "a") == sent
    assert entry.job.state is JobState.NEW
