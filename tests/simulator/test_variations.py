"""What the live service is known to say in more than one way: each of them can be chosen."""

import json
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.simulator.asking import (
    EXTEND,
    JOB,
    RECORD,
    UPGRADE,
    UPGRADE_4K,
    ask,
    create,
    fetched,
    made,
    record,
    refused,
)
from veo_async.simulator import Simulator
from veo_async.simulator.records import Dialect
from veo_async.simulator.service import Service
from veo_async.simulator.settings import Settings

START = datetime(2025, 6, 6, 10, 25, tzinfo=UTC)
HOOK = "https://client.example/h"


@contextmanager
def live(**options: Any) -> Iterator[Simulator]:
    small: dict[str, Any] = {"clip": (64, 36), "video_bytes": 0}
    with Simulator(
        dialect="live",
        time_scale=0,
        generation_seconds=60,
        upgrade_seconds=60,
        upgrade_4k_seconds=60,
        epoch=START,
        **{**small, **options},
    ) as sim:
        yield sim


# -- record-info (live document 2.4) -------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "start", "end"),
    [
        ("millis", 1749205500000, 1749205560000),
        ("text", "2025-06-06 10:25:00", "2025-06-06 10:26:00"),
        ("iso", "2025-06-06T10:25:00Z", "2025-06-06T10:26:00Z"),
    ],
)
def test_times(times: Any, start: object, end: object) -> None:
    with live(times=times) as sim:
        task_id = create(sim)
        running = record(sim, task_id)
        assert (running["createTime"], running["completeTime"]) == (start, None)
        sim.advance(60)
        done = record(sim, task_id)
        assert (done["createTime"], done["completeTime"]) == (start, end)


def test_links_as_text_at_data_level() -> None:
    with live(result_urls="text") as sim:
        task_id = create(sim, resolution="1080p")
        assert {"response", "resultUrls"}.isdisjoint(record(sim, task_id))
        sim.advance(60)
        done = record(sim, task_id)
        assert "response" not in done
        for name in ("resultUrls", "originUrls"):
            assert isinstance(done[name], str)
            (url,) = json.loads(done[name])
            assert fetched(url)[0] == "video/mp4"
        film = record(sim, made(sim, EXTEND, taskId=made(sim)))
        assert len(json.loads(film["fullResultUrls"])) == 1
        failed = record(sim, made(sim, prompt="[fail]"))
        assert "resultUrls" not in failed


@pytest.mark.parametrize(
    ("choice", "fields", "shown"),
    [
        ("null", {}, None),
        ("null", {"aspect_ratio": "9:16"}, None),
        ("null", {"resolution": "1080p"}, 1),
        ("absent", {}, 0),
        ("absent", {"resolution": "1080p"}, 1),
        ("array", {}, None),
        ("array", {"aspect_ratio": "9:16"}, 1),
        ("array", {"resolution": "4k"}, 1),
    ],
)
def test_originals(choice: Any, fields: dict[str, Any], shown: int | None) -> None:
    with live(origin_urls=choice) as sim:
        response = record(sim, made(sim, **fields))["response"]
        assert ("fullResultUrls" in response) is (choice != "absent")
        if shown == 0:
            assert "originUrls" not in response
        elif shown is None:
            assert response["originUrls"] is None
        else:
            (origin,) = response["originUrls"]
            (url,) = response["resultUrls"]
            assert fetched(origin)[1] != fetched(url)[1]


def test_an_unknown_task_can_be_a_success_with_no_data() -> None:
    with live(unknown_task="null") as sim:
        for path in (RECORD, JOB):
            status, body = ask(sim, f"{path}?taskId=x")
            assert (status, body) == (200, {"code": 200, "msg": "success", "data": None})
        assert refused(ask(sim, f"{UPGRADE}?taskId=x")) == (422, "Record does not exist")
        assert refused(ask(sim, RECORD))[0] == 400


@pytest.mark.parametrize(
    ("choice", "record_info", "conversion"),
    [
        ("422", "Record not found for taskId: {task_id} x", "Record does not exist"),
        ("record is null", "record is null", "record is null"),
    ],
)
def test_an_unknown_task_is_a_422_in_recorded_or_in_documented_words(
    choice: Any, record_info: str, conversion: str
) -> None:
    with live(unknown_task=choice) as sim:
        task_id = "{task_id} x"
        query = urllib.parse.urlencode({"taskId": task_id})
        assert refused(ask(sim, f"{RECORD}?{query}")) == (422, record_info)
        assert refused(ask(sim, f"{JOB}?{query}")) == (422, "recordInfo is null")
        assert refused(ask(sim, f"{UPGRADE}?{query}")) == (422, conversion)
        assert refused(ask(sim, UPGRADE_4K, {"taskId": task_id})) == (422, conversion)
        known = create(sim)
        sim.add_fault("record-info:unknown:times=1")
        assert refused(ask(sim, f"{RECORD}?taskId={known}")) == (
            422,
            record_info.replace(task_id, known),
        )


@pytest.mark.parametrize(
    ("code", "words"), [(400, "is processing"), (422, "generate"), (500, "Server exception")]
)
def test_converting_has_several_codes(code: Any, words: str) -> None:
    with live(converting_code=code) as sim:
        task_id = made(sim)
        found = refused(ask(sim, f"{UPGRADE}?taskId={task_id}"))
        assert (found[0], words in found[1]) == (code, True)
    with live(converting_code=code, error_status="http") as sim:
        assert ask(sim, f"{UPGRADE}?taskId={made(sim)}")[0] == code


@pytest.mark.parametrize(
    ("marker", "code"), [("[policy]", 400), ("[person]", 422), ("[error]", 500), ("[fail]", 501)]
)
def test_a_failure_in_the_envelope(marker: str, code: int) -> None:
    with live(failure_in="envelope") as sim:
        assert refused(ask(sim, f"{RECORD}?taskId={made(sim, prompt=marker)}"))[0] == code


@pytest.mark.parametrize("path", [f"{RECORD}?taskId=x", f"{UPGRADE}?taskId=x", EXTEND, UPGRADE_4K])
def test_errors_can_be_http_errors_in_every_call(path: str) -> None:
    with live(error_status="http") as sim:
        fields = {"taskId": "x", "prompt": "x"} if "?" not in path else None
        status, body = ask(sim, path, fields)
        assert status == body["code"]
        assert status in {404, 422}


def test_the_4k_answers_keep_their_data_as_http_errors() -> None:
    with live(error_status="http") as sim:
        task_id = made(sim)
        assert ask(sim, UPGRADE_4K, {"taskId": task_id})[0] == 200
        sim.advance(60)
        status, body = ask(sim, UPGRADE_4K, {"taskId": task_id})
        assert (status, len(body["data"]["resultUrls"])) == (422, 1)


def test_a_limit_can_say_how_long_to_wait() -> None:
    with live(retry_after=7, create_rate=(1, 10.0)) as sim:
        base = made(sim)
        create(sim)
        for path in ("/api/v1/veo/generate", EXTEND):
            status, body = ask(sim, path, {"prompt": "x", "taskId": base})
            assert (status, body["msg"]) == (429, "Rate limit exceeded")


# -- the fallback model (live document 2.2, 2.8) -------------------------------------------------


def test_the_fallback_model_makes_1080p_that_is_not_converted() -> None:
    with live(clip=None) as sim:
        task_id = made(sim, enableFallback=True)
        done = record(sim, task_id)
        assert done["fallbackFlag"] is True
        assert json.loads(done["paramJson"])["enableFallback"] is True
        assert done["response"]["resolution"] == "1080p"
        code, words = refused(ask(sim, f"{UPGRADE}?taskId={task_id}"))
        assert (code, "fallback" in words) == (422, True)
        assert sim.ledger.spent == 60
        upright = record(sim, made(sim, enableFallback=True, aspect_ratio="9:16"))
        assert upright["fallbackFlag"] is False
        assert upright["response"]["resolution"] == "720p"


# -- callbacks (live document 2.8) ---------------------------------------------------------------


def called_back(fields: dict[str, Any], *, kind: str = "generate", **options: Any) -> Any:
    """Return the body of the callback of a task that is over."""
    service = Service(
        Settings(
            dialect=Dialect.LIVE,
            epoch=START,
            generation_seconds=60,
            upgrade_4k_seconds=60,
            **options,
        )
    )
    service.storage.base_url = "http://files.test"

    def sent(more: dict[str, Any]) -> bytes:
        return json.dumps({"prompt": "a boat", **fields, **more}).encode()

    hook = {"callBackUrl": HOOK}
    reply = service.generate(sent(hook if kind == "generate" else {}), 0)
    base = {"taskId": reply.task_id}
    if kind == "extend":
        reply = service.extend(json.dumps({"prompt": "x", **base, **hook}).encode(), 60)
    elif kind == "4k":
        reply = service.upgrade_4k(json.dumps({**base, **hook}).encode(), 60)
    (due,) = service.take_due(120)
    assert (due.url, due.task_id) == (HOOK, reply.task_id)
    return due.body


@pytest.mark.parametrize(
    ("copy", "prompt_json", "has_credits"),
    [
        ("D2", None, False),
        ("D3", dict, False),
        ("D4", str, False),
        ("D6", str, True),
        ("schema", str, False),
    ],
)
def test_a_generations_callback_in_every_copy(
    copy: Any, prompt_json: type | None, has_credits: bool
) -> None:
    body = called_back({"resolution": "1080p"}, callbacks=copy)
    data = body["data"]
    assert (body["code"], body["msg"]) == (200, "Veo3.1 video generated successfully.")
    assert data["fallbackFlag"] is False
    assert data["info"]["resolution"] == "1080p"
    assert data.get("creditsConsumed") == (65 if has_credits else None)
    if prompt_json is None:
        assert "promptJson" not in data
    else:
        given = data["promptJson"]
        assert isinstance(given, prompt_json)
        echo = json.loads(given) if isinstance(given, str) else given
        assert (echo["prompt"], echo["callBackUrl"]) == ("a boat", HOOK)
    for name in ("resultUrls", "originUrls"):
        if copy == "schema":
            assert re.fullmatch(r"\[http://files\.test/v/[^\"\]]+\]", data["info"][name])
        else:
            assert len(data["info"][name]) == 1


def test_its_links_can_be_json_text() -> None:
    info = called_back({}, result_urls="text")["data"]["info"]
    assert len(json.loads(info["resultUrls"])) == 1
    assert info["originUrls"] is None


def test_an_extensions_callback() -> None:
    body = called_back({}, kind="extend")
    assert (body["code"], body["msg"]) == (200, "Veo3.1 video extension successful.")
    assert len(body["data"]["info"]["resultUrls"]) == 1
    assert body["data"]["creditsConsumed"] == 60


def test_a_fallbacks_callback() -> None:
    body = called_back({"enableFallback": True})
    assert body["msg"] == "Veo3.1 video generated successfully (using fallback model)."
    assert (body["data"]["fallbackFlag"], body["data"]["info"]["resolution"]) == (True, "1080p")


@pytest.mark.parametrize(
    ("marker", "code"), [("[policy]", 400), ("[rejected]", 422), ("[error]", 500), ("[fail]", 501)]
)
def test_a_failures_callback(marker: str, code: int) -> None:
    body = called_back({"prompt": marker})
    assert (body["code"], set(body["data"])) == (code, {"taskId", "fallbackFlag"})


def test_the_4k_callback_in_every_copy() -> None:
    for copy in ("D3", "D4", "D6"):
        body = called_back({}, kind="4k", callbacks=copy)
        assert (body["code"], body["msg"]) == (200, "4K Video generated successfully.")
        info = body["data"]["info"]
        assert [len(info[name]) for name in ("resultUrls", "imageUrls")] == [1, 1]
        assert body["data"].get("creditsConsumed") == (120 if copy == "D6" else None)
    data = called_back({}, kind="4k", callbacks="schema")["data"]
    assert set(data) == {"task_id", "result_urls", "media_ids", "image_urls"}


@pytest.mark.parametrize(("copy", "has_id"), [("D6", True), ("schema", False)])
def test_the_4k_callback_of_a_video_without_4k(copy: str, has_id: bool) -> None:
    body = called_back({"prompt": "[no4k]"}, kind="4k", callbacks=copy)
    assert (body["code"], body["msg"]) == (
        500,
        "The 4K version of this video is unavailable. Please try a different video.",
    )
    assert (list(body["data"]) == ["taskId"]) if has_id else body["data"] is None


# -- choices that make no sense ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dialect", "latin"),
        ("times", "unix"),
        ("result_urls", "array"),
        ("origin_urls", "none"),
        ("unknown_task", 422),
        ("extension_urls", "both"),
        ("callbacks", "D1"),
        ("error_status", 200),
        ("failure_in", "callback"),
        ("converting_code", 501),
        ("record_fields", "both"),
        ("upgrade_4k_seconds", (600, 300)),
        ("upgrade_4k_seconds", -1),
        ("webhook_key", ""),
    ],
)
def test_a_choice_there_is_not_is_refused(name: str, value: Any) -> None:
    wanted = "latin" if name == "dialect" else name
    with pytest.raises(ValueError, match=wanted):
        Simulator(**{name: value})
