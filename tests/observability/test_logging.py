"""The log: few facts at INFO, one line per request at DEBUG, and nothing that is secret."""

import asyncio
import logging
import re

import pytest

from tests.faults.fileserver import FileServer, Reply, client_of, video
from veo_async import NotFoundError, SubmitUncertainError, VeoError
from veo_async.events import RequestFinished, SubmitQueued

pytestmark = pytest.mark.anyio


@pytest.fixture
def everything(caplog):
    """Log all there is, the libraries below included."""
    caplog.set_level(logging.NOTSET)
    for name in ("veo_async", "aiohttp", "asyncio"):
        caplog.set_level(logging.NOTSET, name)
    return caplog


def ours(caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET) -> list[logging.LogRecord]:
    records = [record for record in caplog.records if record.name.startswith("veo_async")]
    return [record for record in records if record.levelno >= level]


def levels(caplog: pytest.LogCaptureFixture, request_id: str) -> list[str]:
    """Return the levels of the lines that bear a request's name."""
    found = [record for record in ours(caplog) if getattr(record, "request_id", "") == request_id]
    return [record.levelname for record in found]


def test_every_logger_is_a_child_of_the_packages_own():
    names = [name for name in logging.root.manager.loggerDict if "veo_async" in name]
    assert names
    assert all(name == "veo_async" or name.startswith("veo_async.") for name in names)


async def test_a_good_day_has_three_lines_at_info(world, caplog, tmp_path):
    caplog.set_level(logging.INFO, "veo_async")
    async with world() as w:
        task = await w.veo.submit("a prompt")
        await w.veo.download(await task, tmp_path / "x.mp4")
    lines = [record.getMessage() for record in ours(caplog, logging.INFO)]
    assert len(lines) == 3
    assert all(task.id in line for line in lines)
    assert all(record.task_id == task.id for record in ours(caplog, logging.INFO))


async def test_each_request_has_a_line_with_its_name_at_debug(world, everything):
    async with world() as w:
        await w.veo.generate("a prompt")
    names = [event.request_id for event in w.events if isinstance(event, RequestFinished)]
    logged = [record for record in ours(everything) if record.name == "veo_async.api"]
    assert [record.request_id for record in logged] == names
    assert all(record.request_id in record.getMessage() for record in logged)


async def test_the_lines_of_one_failed_call_share_its_name(world, everything):
    faults = ["record-info:status=503:times=1:after=1"]
    async with world(sim={"faults": faults, "generation_seconds": 50}) as w:
        with pytest.raises(NotFoundError) as caught:
            await w.veo.status("nobody")
        task = await w.veo.submit("a prompt")
        await task
    of_error = [
        r for r in ours(everything) if getattr(r, "request_id", "") == caught.value.request_id
    ]
    assert len(of_error) == 1
    retried = [r for r in ours(everything) if " again in " in r.getMessage()]
    failed = retried[0].request_id
    assert {r.levelname for r in ours(everything) if getattr(r, "request_id", "") == failed} == {
        "DEBUG",
        "INFO",
    }


SECRETS = re.compile(r"signature=|expires=|[?&]serial=|\?taskId|X-Webhook-Signature")


async def test_no_line_shows_the_key_a_callback_token_or_a_query(world, everything, tmp_path):
    """Not even where everything that can fails, and an observer with it."""
    faults = [
        "record-info:status=503:times=1",
        "record-info:reset_before:times=1",
        "generate:lose_answer:match=lost",
        "generate:status=422:match=refused",
        "video:redirect={files}/videos/nothing.mp4?signature=secret:times=1",
        "video:cut_at=1000:times=1",
    ]

    def broken(event: object) -> None:
        raise RuntimeError(f"the observer is broken by {type(event).__name__}")

    asyncio.get_running_loop().set_debug(True)
    events: list[object] = []
    async with world(
        sim={"faults": faults, "video_bytes": 100_000},
        on_event=[broken, events.append],
        callback_url="http://127.0.0.1:9/hooks",
    ) as w:
        key, sim = w.sim.api_key, w.sim
        for prompt in ("lost", "refused", "[fail]", "good"):
            try:
                video = await w.veo.generate(prompt)
                await w.veo.download(video, tmp_path / "x.mp4")
            except VeoError:
                logging.getLogger("app").exception("it failed")
        hang = asyncio.create_task(w.veo.submit("left"))
        await asyncio.sleep(0)
        hang.cancel()
        await asyncio.wait({hang})
        asyncio.get_running_loop().set_debug(False)
        text = everything.text + repr(w.veo) + repr(w.veo.tasks)
        text += "".join(repr(vars(record)) for record in ours(everything))
    tokens = {event.key for event in events if isinstance(event, SubmitQueued)}
    assert len(tokens) == 5
    assert "Traceback" in text
    assert "lost" in text
    assert sim.ledger.requests["generate"] >= 4
    assert key not in text
    for token in tokens:
        assert token not in text
    found = SECRETS.search(text)
    assert found is None, text[max(found.start() - 200, 0) : found.end() + 100]


async def test_the_text_of_an_uncertain_submit_names_its_request(world, caplog):
    async with world(sim={"faults": ["generate:lose_answer"]}) as w:
        with pytest.raises(SubmitUncertainError) as caught:
            await w.veo.submit("a prompt")
    (warning,) = ours(caplog, logging.WARNING)
    assert warning.request_id == caught.value.request_id
    assert caught.value.key.startswith(warning.key)
    assert len(warning.key) < len(caught.value.key)


async def test_an_error_of_the_wire_shows_no_query_of_a_link(caplog, tmp_path):
    """With a link's signature anybody gets the video."""
    caplog.set_level(logging.NOTSET)
    nonsense = Reply(raw=b"HTTP/1.1 two hundred\r\n\r\n")
    async with FileServer(b"", then=nonsense).serving() as host, client_of(host) as veo:
        link = f"{host.link}?signature=word-of-the-link"
        with pytest.raises(VeoError) as caught:
            await veo.download(video(link), tmp_path / "x.mp4")
    assert "400" in str(caught.value)
    assert "word-of-the-link" not in str(caught.value) + caplog.text


async def test_a_link_that_is_none_is_shown_without_its_query(tmp_path):
    async with FileServer(b"").serving() as host, client_of(host) as veo:
        with pytest.raises(VeoError) as caught:
            await veo.download(video("ftp://host/x?signature=word"), tmp_path / "x.mp4")
    assert "ftp://host/x" in str(caught.value)
    assert "word" not in str(caught.value)
