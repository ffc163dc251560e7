"""Images that a request names by their paths: looked at before anything is spent, then uploaded."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.flows.batches import broken, charges, client_of, jobs, paid_once, ran, running, service
from tests.flows.uploads import Hanging, UploadHost, cutting, image, is_open, refusing
from veo_async import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    ServerError,
    SubmitsPaused,
    TransportError,
    ValidationError,
    VeoClient,
    VideoRequest,
)
from veo_async.images import Kept, check_images
from veo_async.protocol.jobs import JobState
from veo_async.settings import MAX_IMAGE_BYTES, UPLOAD_LIFETIME

pytestmark = pytest.mark.anyio

LIVE = {"dialect": "live"}


async def sent_images(veo: VeoClient, task_id: str) -> list[str]:
    """Return the image URLs that the service was asked with, as its record says."""
    record = await veo.status(task_id)
    echo = json.loads(str(record.raw["paramJson"]))
    images: list[str] = echo["imageUrls"]
    return images


def names(host: UploadHost, urls: Iterable[str]) -> list[int]:
    """Return which uploads URLs stand for, by their order."""
    kept = [arrived.fields["fileName"] for arrived in host.arrived]
    return [kept.index(url.rpartition("/")[2]) for url in urls]


def waiting(veo: VeoClient) -> int:
    """Return how many requests wait for an image."""
    runtime = veo._engine.runtime
    assert runtime is not None
    return sum(work.waiting for work in runtime.images._works.values())


# --- one request


async def test_paths_are_uploaded_and_the_frames_keep_their_order(
    world: Callable[..., Any], tmp_path: Path
) -> None:
    first, last = image(tmp_path / "first.png"), image(tmp_path / "last.webp")
    async with UploadHost().serving() as host, world(LIVE, upload_url=host.url) as here:
        task = await here.veo.submit("a tide comes in", image_urls=[first, str(last)])
        urls = await sent_images(here.veo, task.id)
        assert names(host, urls) == [0, 1]
        assert [arrived.content_type for arrived in host.arrived] == ["image/png", "image/webp"]
        await task


async def test_urls_stay_where_they_are_between_paths(
    world: Callable[..., Any], tmp_path: Path
) -> None:
    link = "https://a.example/middle.png"
    given = [image(tmp_path / "a.jpg", mark=1), link, image(tmp_path / "b.jpg", mark=2)]
    async with UploadHost().serving() as host, world(LIVE, upload_url=host.url) as here:
        task = await here.veo.submit("three references", image_urls=given)
        urls = await sent_images(here.veo, task.id)
        assert urls[1] == link
        assert names(host, [urls[0], urls[2]]) == [0, 1]


async def test_a_request_without_paths_uploads_nothing(world: Callable[..., Any]) -> None:
    async with UploadHost().serving() as host, world(LIVE, upload_url=host.url) as here:
        await here.veo.submit("x", image_urls=["https://a.example/a.png"])
        await here.veo.submit("y")
    assert host.requests == 0


async def test_against_the_simulator_the_service_finds_what_was_uploaded(
    world: Callable[..., Any], tmp_path: Path
) -> None:
    async with world(LIVE) as here:
        path = image(tmp_path / "frame.png")
        video = await here.veo.generate("from a picture of ours", image_urls=[path])
        saved = await here.veo.download(video, tmp_path / "out.mp4")
    assert saved.size > 0


async def test_a_relative_path_stands_in_the_current_folder(
    world: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        image(tmp_path / name / "x.png", mark=len(name))
    async with UploadHost().serving() as host, world(LIVE, upload_url=host.url) as here:
        for name in ("one", "two"):
            monkeypatch.chdir(tmp_path / name)
            await here.veo.submit(name, image_urls=["x.png"])
    assert len(host.arrived) == 2


# --- what is no image


def _heic(path: Path) -> None:
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def _gif(path: Path) -> None:
    path.write_bytes(b"GIF89a\x40\0\x30\0")


def _nothing(path: Path) -> None:
    path.touch()


def _too_large(path: Path) -> None:
    image(path, size=MAX_IMAGE_BYTES + 1)


def _folder(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _missing(_path: Path) -> None:
    pass


BAD: list[tuple[Callable[[Path], None], str]] = [
    (_gif, "is a GIF; give a JPEG, PNG or WebP"),
    (_heic, "is a HEIC; give a JPEG, PNG or WebP"),
    (_nothing, "is empty"),
    (_too_large, "has 10485761 bytes, and the service takes 10485760"),
    (_folder, "is a folder"),
    (_dangling, "is not there"),
    (_pipe, "is no regular file"),
    (_missing, "is not there"),
]


@pytest.mark.parametrize(("make", "words"), BAD)
async def test_what_is_no_image_is_refused_before_anything_is_sent_or_spent(
    make: Callable[[Path], None], words: str, world: Callable[..., Any], tmp_path: Path
) -> None:
    good, bad = image(tmp_path / "good.png"), tmp_path / "bad.png"
    make(bad)
    async with (
        UploadHost().serving() as host,
        world(LIVE, upload_url=host.url, max_tasks=1, max_credits=400) as here,
    ):
        await here.veo.submit("this one takes the only slot")
        for call in (here.veo.submit, here.veo.generate):
            with (
                anyio.fail_after(20),
                pytest.raises(InvalidRequestError, match=f"bad.png', which {words}") as caught,
            ):
                await call("x", image_urls=[good, bad])
            assert caught.value.field == "image_urls"
        with pytest.raises(InvalidRequestError, match=words):
            check_images([str(good), "https://a.example/x.png", str(bad)])
        assert len(here.sim.ledger.posts) == 1
        assert host.requests == 0
        # What was not spent is still there: twice 70, and 250 would not fit beside them.
        await asyncio.wait_for(here.veo.submit("y", model="veo3"), 20)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "a.webp", "A.PNG"])
@pytest.mark.parametrize("size", [1000, MAX_IMAGE_BYTES])
async def test_images_up_to_ten_megabytes_are_taken(
    name: str, size: int, world: Callable[..., Any], tmp_path: Path
) -> None:
    path = image(tmp_path / name, size=size)
    link = tmp_path / "link.png"
    link.symlink_to(path)
    check_images([str(path), str(link)])
    async with UploadHost().serving() as host, world(LIVE, upload_url=host.url) as here:
        await here.veo.submit("x", image_urls=[path, link])
    assert {arrived.size for arrived in host.arrived} == {size}


@pytest.mark.parametrize("path", [Path("frame"), Path("a\nb.png"), Path("frame.gif")])
def test_a_path_that_could_not_be_told_from_other_text_is_refused(path: Path) -> None:
    """A journal keeps its text, and has to know it again."""
    with pytest.raises(InvalidRequestError, match=r"the path of a \.jpg"):
        VideoRequest("x", image_urls=[path])


def test_a_request_with_paths_can_be_changed_and_compared(tmp_path: Path) -> None:
    request = VideoRequest("x", image_urls=[tmp_path / "a.png"])
    assert request.image_urls == (str(tmp_path / "a.png"),)
    assert request.evolve(seed=12345).evolve(seed=None) == request


# --- one file, many requests


async def test_a_file_of_many_requests_is_uploaded_once(
    world: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    path = image(tmp_path / "x.png")
    hanging = Hanging()
    async with UploadHost(script=[hanging]).serving() as host, world(upload_url=host.url) as here:
        work = [
            asyncio.ensure_future(here.veo.submit(f"{number}", image_urls=[path, path]))
            for number in range(5)
        ]
        await hanging.begun.wait()
        await until(lambda: waiting(here.veo) == 5)
        assert host.requests == 1
        hanging.go_on.set()  # which refuses it for good
        for each in work:
            with pytest.raises(ValidationError):
                await each
        assert not here.sim.ledger.posts
        # What failed is not remembered, and what is there is.
        await here.veo.submit("a", image_urls=[path])
        await here.veo.submit("b", image_urls=[path])
        assert host.requests == 2
        assert len(here.sim.ledger.posts) == 2


async def test_a_file_that_changed_is_uploaded_again(
    world: Callable[..., Any], tmp_path: Path
) -> None:
    path = image(tmp_path / "x.png")
    async with UploadHost().serving() as host, world(upload_url=host.url) as here:
        await here.veo.submit("a", image_urls=[path])
        image(path, mark=1)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        await here.veo.submit("b", image_urls=[path])
    assert len({arrived.digest for arrived in host.arrived}) == 2


async def test_whoever_leaves_does_not_take_the_upload_of_others_along(
    world: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    path = image(tmp_path / "x.png", size=1_000_000)
    held = asyncio.Event()
    began = asyncio.Event()

    async def hold(_size: int) -> None:
        began.set()
        await held.wait()

    host = UploadHost(on_piece=hold)
    async with host.serving(), world(upload_url=host.url) as here:
        leaving = asyncio.ensure_future(here.veo.submit("leaves", image_urls=[path]))
        await began.wait()
        staying = asyncio.ensure_future(here.veo.submit("stays", image_urls=[path]))
        await until(lambda: waiting(here.veo) == 2)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        held.set()
        await staying
        assert host.requests == 1
        assert [post.prompt for post in here.sim.ledger.posts] == ["stays"]


async def test_when_all_have_left_the_upload_ends_and_nothing_is_paid(
    world: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    path = image(tmp_path / "x.png", size=MAX_IMAGE_BYTES)
    hanging = Hanging()
    host = UploadHost(script=[hanging])
    async with host.serving(), world(upload_url=host.url, max_credits=70) as here:
        work = asyncio.ensure_future(here.veo.submit("x", image_urls=[path]))
        await hanging.begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        hanging.go_on.set()
        await until(lambda: hanging.is_cut)
        assert not here.sim.ledger.posts
        await here.veo.submit("y", image_urls=[path])  # within the budget, which is whole again


async def test_uploading_holds_no_slot(world: Callable[..., Any], tmp_path: Path) -> None:
    hanging = Hanging()
    async with (
        UploadHost(script=[hanging]).serving() as host,
        world(upload_url=host.url, max_tasks=1) as here,
    ):
        slow = asyncio.ensure_future(
            here.veo.submit("slow", image_urls=[image(tmp_path / "x.png")])
        )
        await hanging.begun.wait()
        assert here.veo.statistics().slots_in_use == 0
        await here.veo.submit("quick")
        hanging.go_on.set()
        with pytest.raises(ValidationError):
            await slow


def test_an_upload_is_good_for_half_of_its_day_by_every_clock() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    kept = Kept("https://a.example/x.png", 1000.0, noon)

    def after(loop_seconds: float, seconds: float) -> bool:
        return kept.is_fresh(1000.0 + loop_seconds, noon + timedelta(seconds=seconds))

    assert after(0, 0)
    assert after(UPLOAD_LIFETIME - 1, UPLOAD_LIFETIME - 1)
    assert not after(UPLOAD_LIFETIME, 0)
    assert not after(60, UPLOAD_LIFETIME), "the machine slept meanwhile"
    assert not after(60, -1), "the clock was set back, and says nothing"
    assert UPLOAD_LIFETIME <= 12 * 3600


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([refusing(401)], AuthenticationError),
        ([refusing(404)], NotFoundError),
        ([refusing(500)] * 9, ServerError),
        ([cutting(1)] * 9, TransportError),
    ],
)
async def test_an_upload_that_fails_pays_nothing(
    script: list[Any], kind: type[Exception], world: Callable[..., Any], tmp_path: Path
) -> None:
    path = image(tmp_path / "x.png")
    async with (
        UploadHost(script=script).serving() as host,
        world(upload_url=host.url, max_credits=70) as here,
    ):
        with pytest.raises(kind):
            await here.veo.submit("x", image_urls=[path])
        host.script.clear()
        assert not here.sim.ledger.posts
        await here.veo.submit("x", image_urls=[path])


# --- batches


async def test_a_bad_image_is_one_rejected_row_and_can_be_mended(tmp_path: Path) -> None:
    good, bad = image(tmp_path / "good.png"), tmp_path / "bad.png"
    _gif(bad)
    rows = [{"prompt": name, "image_urls": [tmp_path / f"{name}.png"]} for name in ("bad", "good")]
    folder = tmp_path / "videos"
    async with UploadHost().serving() as host, service() as sim:
        client = {"upload_url": host.url}
        done = await ran(sim, rows, folder, client=client)
        assert done.outcomes == {"rejected": 1, "downloaded": 1}
        assert "is a GIF" in str(done.of("bad").error)
        assert isinstance(done.of("bad").error, InvalidRequestError)
        assert {str(job.state) for job in jobs(folder).values()} == {"rejected", "stored"}
        again = await ran(sim, rows, folder, client=client)
        assert again.outcomes == {"rejected": 1, "skipped": 1}
        image(bad, mark=1)
        good.unlink()  # its row is done
        mended = await ran(sim, rows, folder, client=client)
        assert mended.outcomes == {"downloaded": 1, "skipped": 1}
        assert len(host.arrived) == 2
        paid_once(sim, ["bad", "good"])


async def test_the_journal_keeps_the_path_and_the_wire_gets_the_url(tmp_path: Path) -> None:
    path = image(tmp_path / "frame.png")
    async with UploadHost().serving() as host, service(dialect="live") as sim:
        done = await ran(
            sim,
            [VideoRequest("x", image_urls=[path])],
            tmp_path / "videos",
            client={"upload_url": host.url},
        )
        (item,) = done
        assert item.request is not None
        assert item.request.image_urls == (str(path),)
        assert item.task_id is not None
        async with client_of(sim) as veo:
            assert names(host, await sent_images(veo, item.task_id)) == [0]
    (job,) = jobs(tmp_path / "videos").values()
    assert job.request == VideoRequest("x", image_urls=[path])


async def test_a_batch_waits_out_an_upload_host_that_is_away(tmp_path: Path) -> None:
    path = image(tmp_path / "x.png")
    host = UploadHost(script=[cutting(1)] * 6)
    async with host.serving(), service() as sim:
        rows = ["first", {"prompt": "second", "image_urls": [path]}]
        done = await ran(sim, rows, tmp_path / "videos", client={"upload_url": host.url})
        assert done.outcomes == {"downloaded": 2}
        assert done.run.count(SubmitsPaused)
        paid_once(sim, ["first", "second"])


@pytest.mark.parametrize(("status", "outcome"), [(400, Outcome.REJECTED), (500, Outcome.FAILED)])
async def test_an_upload_that_is_refused_is_one_row_and_costs_nothing(
    status: int, outcome: Outcome, tmp_path: Path
) -> None:
    path = image(tmp_path / "x.png")
    host = UploadHost(script=[refusing(status)] * 99)
    async with host.serving(), service() as sim:
        rows = [{"prompt": "with", "image_urls": [path]}, "without"]
        client = {"upload_url": host.url}
        done = await ran(sim, rows, tmp_path / "videos", client=client, max_credits=140)
        assert done.of("with").outcome is outcome
        assert done.of("without").outcome is Outcome.DOWNLOADED
        assert done.run.batch.report.credits_spent == charges(tmp_path / "videos").total == 70
        host.script.clear()
        again = await ran(sim, rows, tmp_path / "videos", client=client, max_credits=140)
        assert again.outcomes == {"downloaded": 1, "skipped": 1}
        paid_once(sim, ["with", "without"])


async def test_a_key_that_the_upload_host_refuses_ends_the_batch(tmp_path: Path) -> None:
    path = image(tmp_path / "x.png")
    host = UploadHost(script=[refusing(401)])
    async with host.serving(), service() as sim:
        rows = ["first", {"prompt": "second", "image_urls": [path]}, "third"]
        client = {"upload_url": host.url}
        await broken(sim, rows, tmp_path / "videos", AuthenticationError, client=client)
        done = await ran(sim, rows, tmp_path / "videos", client=client)
        assert len(done.items) == 3
        paid_once(sim, ["first", "second", "third"])


async def test_a_batch_that_is_stopped_while_it_uploads_pays_nothing(tmp_path: Path) -> None:
    path = image(tmp_path / "x.png")
    hanging = Hanging()
    async with UploadHost(script=[hanging]).serving() as host, service() as sim:
        rows = [{"prompt": "x", "image_urls": [path]}]
        client = {"upload_url": host.url}
        async with running(sim, rows, tmp_path / "videos", client=client) as run:
            await hanging.begun.wait()
            run.batch.stop()
            items = [item async for item in run.batch]
        assert [item.outcome for item in items] == [Outcome.UNPAID]
        hanging.go_on.set()
        done = await ran(sim, rows, tmp_path / "videos", client=client)
        assert done.outcomes == {"downloaded": 1}
        paid_once(sim, ["x"])


def _gone(path: Path) -> None:
    path.unlink(missing_ok=True)


def _another(path: Path) -> None:
    image(path, size=2000, mark=7)


@pytest.mark.parametrize(
    ("change", "words"), [(_gone, "is not there"), (_another, "changed while it was read")]
)
async def test_a_file_that_goes_bad_after_it_was_looked_at_is_one_rejected_row(
    change: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    """It goes bad while the other image of its row is uploaded."""
    path = image(tmp_path / "x.png")

    async def once(_size: int) -> None:
        change(path)

    host = UploadHost(on_piece=once)
    other = image(tmp_path / "other.png")
    async with host.serving(), service() as sim:
        rows = [
            {"prompt": "one", "image_urls": [other, path]},
            {"prompt": "two", "image_urls": [other]},
        ]
        client = {"upload_url": host.url}
        done = await ran(sim, rows, tmp_path / "videos", client=client, max_credits=140)
        assert done.of("one").outcome is Outcome.REJECTED
        assert words in str(done.of("one").error)
        assert done.of("two").outcome is Outcome.DOWNLOADED
        image(path, mark=1)
        host.on_piece = None
        again = await ran(sim, rows, tmp_path / "videos", client=client, max_credits=140)
        assert again.outcomes == {"downloaded": 1, "skipped": 1}
        paid_once(sim, ["one", "two"])


# --- jobs of queues


async def _job(veo: VeoClient, key: str, path: Path, folder: Path) -> Any:
    return await veo.run_job(key, "a boat", image_urls=[path], directory=folder)


async def test_a_job_with_a_bad_image_pays_nothing_and_can_be_mended(tmp_path: Path) -> None:
    path, folder = tmp_path / "x.png", tmp_path / "videos"
    _gif(path)
    async with UploadHost().serving() as host, service() as sim:
        async with client_of(sim, upload_url=host.url) as veo:
            with pytest.raises(InvalidRequestError, match="is a GIF") as caught:
                await _job(veo, "job-1", path, folder)
            assert caught.value.field == "image_urls"
            assert not sim.ledger.posts
            assert host.requests == 0
            image(path)
            done = await _job(veo, "job-1", path, folder)
            assert done.path is not None
            path.unlink()
            assert (await _job(veo, "job-1", path, folder)).path == done.path
        paid_once(sim, ["a boat"])


async def test_a_job_that_was_submitted_needs_its_image_no_more(
    tmp_path: Path, until: Callable[..., Any]
) -> None:
    path, folder = image(tmp_path / "x.png"), tmp_path / "videos"
    async with UploadHost().serving() as host, service(generation_seconds=1000) as sim:
        async with client_of(sim, upload_url=host.url) as veo:
            work = asyncio.ensure_future(_job(veo, "job-1", path, folder))
            await until(
                lambda: any(job.state is JobState.SUBMITTED for job in _jobs_of(folder).values())
            )
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
        path.unlink()
        async with client_of(sim, upload_url=host.url) as veo:
            assert (await _job(veo, "job-1", path, folder)).path is not None
        assert host.requests == 1
        paid_once(sim, ["a boat"])


def _jobs_of(folder: Path) -> dict[str, Any]:
    return jobs(folder) if (folder / "veo-journal.db").exists() else {}


async def test_a_film_uploads_its_image_for_the_first_step_only(tmp_path: Path) -> None:
    path = image(tmp_path / "x.png")
    async with (
        UploadHost().serving() as host,
        service(dialect="live") as sim,
        client_of(sim, upload_url=host.url) as veo,
    ):
        await veo.generate("a boat", image_urls=[path], extend_to=["it sails", "it lands"])
        assert [post.kind for post in sim.ledger.posts] == ["generate", "extend", "extend"]
    assert host.requests == 1


@pytest.mark.parametrize("start", [0, 1])
async def test_wherever_a_caller_leaves_nothing_stays_open_or_half_paid(
    start: int, world: Callable[..., Any], tmp_path: Path
) -> None:
    roomy = {"max_tasks": 99, "create_rate": None}
    async with (
        UploadHost().serving() as host,
        world(roomy, upload_url=host.url, max_tasks=99, pace=None) as here,
    ):
        veo = here.veo
        for turns in range(start, 90, 2):
            path = image(tmp_path / f"{turns}.png", size=300_000)
            work = asyncio.ensure_future(veo.submit(f"{turns}", image_urls=[path]))
            for _ in range(turns):
                await asyncio.sleep(0.0002 if turns > 40 else 0)
            work.cancel()
            await asyncio.wait({work})
            assert not is_open(path)
            assert waiting(veo) == 0
        await veo.submit("the last one", image_urls=[path])
        with anyio.fail_after(20):  # a paid request whose caller left is still answered
            while len(here.sim.ledger) * 70 != veo._engine.settings.budget.committed:
                await asyncio.sleep(0.01)
        assert len({post.prompt for post in here.sim.ledger.posts}) == len(here.sim.ledger.posts)
