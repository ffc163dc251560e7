"""Links of results that do not expire: those of the live service."""

import re
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.simulator.asking import (
    CREATE,
    EXTEND,
    GENERATE,
    JOB,
    UPGRADE,
    UPGRADE_4K,
    ask,
    data,
    fetched,
    made,
    record,
    refused,
)
from veo_async.simulator import Simulator

DOWNLOAD_URL = "/api/v1/common/download-url"
DAY = 24 * 3600.0


@contextmanager
def serving(dialect: Any = "live", **options: Any) -> Iterator[Simulator]:
    small: dict[str, Any] = {"clip": (64, 36), "video_bytes": 0}
    with Simulator(
        dialect=dialect,
        time_scale=0,
        generation_seconds=60,
        upgrade_seconds=60,
        upgrade_4k_seconds=60,
        **{**small, **options},
    ) as sim:
        yield sim


def link(sim: Simulator, task_id: str) -> str:
    (url,) = record(sim, task_id)["response"]["resultUrls"]
    return str(url)


def status(url: str) -> int:
    try:
        return 200 if fetched(url) else 0
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def temporary(sim: Simulator, url: str) -> str:
    return str(data(ask(sim, DOWNLOAD_URL, {"url": url})))


def test_every_link_is_plain_and_the_same_at_every_call_for_fourteen_days() -> None:
    with serving() as sim:
        base = made(sim, resolution="1080p")
        film = made(sim, EXTEND, taskId=made(sim))
        assert ask(sim, UPGRADE_4K, {"taskId": base})[1]["code"] == 200
        ask(sim, f"{UPGRADE}?taskId={base}")
        sim.advance(60)

        def links() -> list[str]:
            shown = [record(sim, task_id)["response"] for task_id in (base, film)]
            larger = ask(sim, UPGRADE_4K, {"taskId": base})[1]["data"]
            return [
                *(url for one in shown for name in one if name.endswith("Urls")
                  for url in one[name] or ()),
                *larger["resultUrls"],
                *larger["imageUrls"],
                data(ask(sim, f"{UPGRADE}?taskId={base}"))["resultUrl"],
            ]  # fmt: skip

        first = links()
        assert len(set(first)) == len(first) == 7
        assert all(re.fullmatch(rf"{sim.files_url}/[vp]/[0-9a-z_]+\.(mp4|jpg)", u) for u in first)
        sim.advance(13.9 * DAY)
        assert links() == first
        assert {status(url) for url in first} == {200}
        sim.advance(DAY)
        assert {status(url) for url in first} == {404}


def test_the_newer_form_has_them_too() -> None:
    with serving("jobs") as sim:
        body = {"model": "veo-3-1", "input": {"prompt": "a boat"}}
        task_id = data(ask(sim, CREATE, body))["taskId"]
        sim.advance(60)
        (url,) = data(ask(sim, f"{JOB}?taskId={task_id}"))["response"]["resultUrls"]
        sim.advance(DAY)
        assert "?" not in url
        assert status(url) == 200


def test_a_temporary_link_lives_twenty_minutes_beside_it() -> None:
    with serving() as sim:
        url = link(sim, made(sim))
        short = temporary(sim, url)
        assert short.startswith(f"{url}?")
        assert fetched(short) == fetched(url)
        sim.advance(1199)
        assert status(short) == 200
        sim.advance(2)
        assert (status(short), status(url)) == (403, 200)
        assert status(temporary(sim, short)) == 200


def test_how_long_a_temporary_link_lives_can_be_set() -> None:
    with serving(url_seconds=5) as sim:
        short = temporary(sim, link(sim, made(sim)))
        sim.advance(6)
        assert status(short) == 403


def test_a_forged_link_is_no_plain_one() -> None:
    with serving() as sim:
        short = temporary(sim, link(sim, made(sim)))
        assert status(short[:-1] + ("0" if short[-1] != "0" else "1")) == 403
        assert status(short.replace("serial=1", "")) == 403


def test_one_that_is_dead_is_repeated_and_replaced_by_a_temporary_one() -> None:
    with serving() as sim:
        task_id = made(sim)
        url = link(sim, task_id)
        short = temporary(sim, url)
        sim.add_fault("video:expire:times=1")
        assert [status(url), status(url), status(short)] == [403, 403, 403]
        assert link(sim, task_id) == url
        assert status(temporary(sim, url)) == 200


@pytest.mark.parametrize("dialect", ["live", "jobs", "spec"])
@pytest.mark.parametrize("expires", [True, False, None])
def test_whether_links_of_results_expire_can_be_chosen(dialect: Any, expires: Any) -> None:
    with serving(dialect, result_urls_expire=expires) as sim:
        if dialect == "jobs":
            answer = ask(sim, CREATE, {"model": "veo-3-1", "input": {"prompt": "a boat"}})
        else:
            answer = ask(sim, GENERATE, {"prompt": "a boat"})
        task_id = data(answer)["taskId"]
        sim.advance(60)
        if dialect == "jobs":
            (url,) = data(ask(sim, f"{JOB}?taskId={task_id}"))["response"]["resultUrls"]
        elif dialect == "live":
            url = link(sim, task_id)
        else:
            url = record(sim, task_id)["videoUrl"]
        sim.advance(1201)
        wanted = dialect == "spec" if expires is None else expires
        assert ("?" in url, status(url)) == (wanted, 403 if wanted else 200)


def test_a_still_is_an_image_as_long_as_its_link_is_good() -> None:
    with serving() as sim:
        base = made(sim)
        ask(sim, UPGRADE_4K, {"taskId": base})
        sim.advance(60)
        (still,) = ask(sim, UPGRADE_4K, {"taskId": base})[1]["data"]["imageUrls"]
        assert record(sim, made(sim, imageUrls=[still]))["successFlag"] == 1
        sim.add_fault("video:expire:times=1")
        assert status(still) == 403
        assert record(sim, made(sim, imageUrls=[still]))["errorCode"] == 400
        assert refused(ask(sim, DOWNLOAD_URL, {"url": f"{still}x"})) == (422, "url is wrong")
