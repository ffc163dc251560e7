"""The state machine alone: no sockets, time is an argument."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from veo_async.simulator.records import Dialect, Reply
from veo_async.simulator.service import Service
from veo_async.simulator.settings import Settings

EPOCH = datetime(2025, 11, 15, 10, 30, tzinfo=UTC)
DAY = 24 * 3600.0
FAST = "veo3_fast"


def service(dialect: str = "spec", **options: Any) -> Service:
    made = Service(Settings(dialect=Dialect(dialect), **{"epoch": EPOCH, **options}))
    made.storage.base_url = "http://files.test"
    return made


def post(target: Service, now: float = 0.0, **fields: Any) -> Reply:
    return target.generate(json.dumps({"prompt": "a boat", **fields}).encode(), now)


def task(target: Service, now: float = 0.0, **fields: Any) -> dict[str, str]:
    reply = post(target, now, **fields)
    assert reply.code == 200, reply
    task_id = reply.task_id
    assert task_id is not None
    return {"taskId": task_id}


def data(reply: Reply) -> Any:
    assert (reply.http, reply.code) == (200, 200), reply
    return reply.body["data"]


IMAGES = ["https://example.com/start.jpg", "http://example.com:8080/end.png?x=1"]

RIGHT: list[tuple[str, dict[str, object]]] = [
    ("both", {}),
    ("both", {"prompt": "x"}),
    ("both", {"prompt": "x" * 1000}),
    ("both", {"prompt": "\N{PAPERCLIP}\N{ROCKET}" * 500}),
    ("both", {"prompt": "\ud800 alone"}),
    ("both", {"model": "veo3"}),
    ("both", {"model": "veo3_fast"}),
    ("both", {"model": None}),
    ("both", {"generationType": "TEXT_2_VIDEO"}),
    ("both", {"generationType": "TEXT_2_VIDEO", "imageUrls": []}),
    ("both", {"imageUrls": IMAGES[:1]}),
    ("both", {"imageUrls": IMAGES, "generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO"}),
    ("both", {"imageUrls": IMAGES[:1], "generationType": "REFERENCE_2_VIDEO"}),
    ("both", {"aspectRatio": "16:9"}),
    ("both", {"aspectRatio": "9:16"}),
    ("both", {"aspectRatio": "Auto"}),
    ("both", {"seed": 10000}),
    ("both", {"seed": 99999}),
    ("both", {"callBackUrl": "https://webhook.your-domain.com/veo"}),
    ("both", {"callBackUrl": "http://127.0.0.1:9/hook/abc"}),
    ("both", {"enableTranslation": False}),
    ("both", {"watermark": ""}),
    ("both", {"watermark": "mine"}),
    ("both", {"somethingElse": {"deep": [1]}}),
    ("spec", {"aspect_ratio": "1:1", "seeds": "no", "resolution": 4, "duration": "x"}),
    ("live", {"model": "veo3_lite"}),
    ("live", {"aspect_ratio": "9:16", "aspectRatio": "wrong"}),
    ("live", {"seeds": 10000, "seed": "wrong"}),
    ("live", {"resolution": "4k", "duration": 4}),
    ("live", {"resolution": "1080p", "duration": 6}),
    ("live", {"enableFallback": True}),
    ("live", {"imageUrls": [*IMAGES, IMAGES[0]], "generationType": "REFERENCE_2_VIDEO"}),
]

WRONG: list[tuple[str, str, dict[str, object]]] = [
    ("both", "prompt", {"prompt": None}),
    ("both", "prompt", {"prompt": ""}),
    ("both", "prompt", {"prompt": " \n"}),
    ("both", "prompt", {"prompt": "x" * 1001}),
    ("both", "prompt", {"prompt": ["a"]}),
    ("both", "prompt", {"prompt": 7}),
    ("both", "model", {"model": "veo2"}),
    ("both", "model", {"model": "VEO3"}),
    ("both", "model", {"model": ""}),
    ("both", "model", {"model": 3}),
    ("both", "generationType", {"generationType": "TEXT"}),
    ("both", "generationType", {"generationType": True}),
    ("both", "imageUrls", {"generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO"}),
    ("both", "imageUrls", {"generationType": "REFERENCE_2_VIDEO"}),
    ("both", "imageUrls", {"imageUrls": IMAGES[:1], "generationType": "TEXT_2_VIDEO"}),
    ("both", "imageUrls", {"imageUrls": [*IMAGES, IMAGES[0]]}),
    ("both", "imageUrls", {"imageUrls": IMAGES * 2, "generationType": "REFERENCE_2_VIDEO"}),
    ("both", "imageUrls", {"imageUrls": IMAGES[0]}),
    ("both", "imageUrls", {"imageUrls": [1]}),
    ("both", "imageUrls", {"imageUrls": ["ftp://example.com/a.png"]}),
    ("both", "imageUrls", {"imageUrls": ["/a.png"]}),
    ("both", "imageUrls", {"imageUrls": ["https://"]}),
    ("both", "imageUrls", {"imageUrls": ["https://[::1"]}),
    ("both", "imageUrls", {"imageUrls": ["https://example.com:port/a.png"]}),
    ("both", "imageUrls", {"imageUrls": ["https://example.com/a b.png"]}),
    ("spec", "aspectRatio", {"aspectRatio": "1:1"}),
    ("spec", "aspectRatio", {"aspectRatio": "auto"}),
    ("live", "Ratio error", {"aspectRatio": "1:1"}),
    ("live", "Ratio error", {"aspectRatio": "auto"}),
    ("both", "aspectRatio", {"aspectRatio": 1.77}),
    ("both", "seed", {"seed": 9999}),
    ("both", "seed", {"seed": 100000}),
    ("both", "seed", {"seed": "12345"}),
    ("both", "seed", {"seed": 12345.0}),
    ("both", "seed", {"seed": True}),
    ("spec", "callBackUrl", {"callBackUrl": "webhook.your-domain.com/veo"}),
    ("spec", "callBackUrl", {"callBackUrl": ""}),
    ("both", "callBackUrl", {"callBackUrl": 1}),
    ("both", "enableTranslation", {"enableTranslation": "true"}),
    ("both", "enableTranslation", {"enableTranslation": 1}),
    ("both", "watermark", {"watermark": 1}),
    ("spec", "model", {"model": "veo3_lite"}),
    ("spec", "imageUrls", {"imageUrls": [*IMAGES, ""], "generationType": "REFERENCE_2_VIDEO"}),
    ("live", "Ratio error", {"aspect_ratio": "1:1", "aspectRatio": "16:9"}),
    ("live", "seeds", {"seeds": 1, "seed": 12345}),
    ("live", "resolution", {"resolution": "4K"}),
    ("live", "resolution", {"resolution": 720}),
    ("live", "duration", {"duration": 5}),
    ("live", "duration", {"duration": "8"}),
    ("live", "enableFallback", {"enableFallback": "no"}),
    (
        "live",
        "model",
        {"model": "veo3", "imageUrls": IMAGES, "generationType": "REFERENCE_2_VIDEO"},
    ),
    (
        "live",
        "Invalid duration. Veo 3.1 reference-to-video currently only supports 8-second generation.",
        {"duration": 4, "imageUrls": IMAGES, "generationType": "REFERENCE_2_VIDEO"},
    ),
    ("live", "seeds", {"seeds": "12345"}),
    ("live", "waterMark", {"waterMark": 1}),
]


def each(dialects: str) -> list[str]:
    return ["spec", "live"] if dialects == "both" else [dialects]


@pytest.mark.parametrize(
    ("dialect", "fields"), [(one, fields) for many, fields in RIGHT for one in each(many)]
)
def test_a_right_request_makes_a_task(dialect: str, fields: dict[str, Any]) -> None:
    target = service(dialect)
    assert post(target, **fields).code == 200
    assert len(target.charges) == 1


@pytest.mark.parametrize(
    ("dialect", "name", "fields"),
    [(one, name, fields) for many, name, fields in WRONG for one in each(many)],
)
def test_a_wrong_request_is_a_422_that_names_the_field(
    dialect: str, name: str, fields: dict[str, Any]
) -> None:
    target = service(dialect)
    reply = post(target, **fields)
    assert reply.code == 422
    assert re.match(rf"{re.escape(name)}( |$)", str(reply.body["msg"]))
    assert reply.body["data"] is None
    assert target.charges == ()
    assert target.balance == 10_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"prompt"',
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"prompt": NaN}',
        b"[" * 100_000,
        b'{"seed": ' + b"1" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("dialect", ["spec", "live"])
def test_what_is_not_a_json_object_is_a_400(dialect: str, body: bytes) -> None:
    reply = service(dialect).generate(body, 0.0)
    assert (reply.code, reply.body["data"]) == (400, None)


def test_a_prompt_limit_can_be_changed_and_lifted() -> None:
    assert post(service(prompt_limit=5), prompt="123456").code == 422
    assert post(service(prompt_limit=None), prompt="x" * 100_000).code == 200


@pytest.mark.parametrize(
    ("dialect", "header", "passes"),
    [
        ("spec", "Bearer sim-key-0123456789abcdef", True),
        ("live", "bearer  sim-key-0123456789abcdef", True),
        ("spec", None, False),
        ("live", None, False),
        ("spec", "", False),
        ("spec", "Bearer", False),
        ("spec", "Bearer wrong", False),
        ("spec", "Bearer sim-key-0123456789abcdeF", False),
        ("spec", "Basic sim-key-0123456789abcdef", False),
        ("spec", "sim-key-0123456789abcdef", False),
        ("spec", "Bearer \u00fcber", False),
    ],
)
def test_only_the_right_key_passes(dialect: str, header: str | None, passes: bool) -> None:
    refused = service(dialect).authorize(header)
    assert (refused is None) is passes
    assert refused is None or refused.code == 401


@pytest.mark.parametrize(
    ("dialect", "fields", "price"),
    [
        ("spec", {}, 70),
        ("spec", {"model": "veo3_fast"}, 70),
        ("spec", {"model": "veo3"}, 80),
        ("live", {"model": "veo3_lite"}, 30),
        ("live", {"model": "veo3_lite", "resolution": "1080p"}, 35),
        ("live", {"model": "veo3_lite", "resolution": "4k"}, 150),
        ("live", {}, 60),
        ("live", {"duration": 4}, 60),
        ("live", {"resolution": "1080p"}, 65),
        ("live", {"resolution": "4k"}, 180),
        ("live", {"model": "veo3"}, 250),
        ("live", {"model": "veo3", "resolution": "1080p"}, 255),
        ("live", {"model": "veo3", "resolution": "4k"}, 370),
    ],
)
def test_prices(dialect: str, fields: dict[str, Any], price: int) -> None:
    target = service(dialect)
    made = task(target, 3.0, **fields)
    (charge,) = target.charges
    assert (charge.task_id, charge.kind, charge.credits) == (made["taskId"], "generate", price)
    assert (charge.prompt, charge.model, charge.at) == ("a boat", fields.get("model", FAST), 3.0)
    assert target.balance == 10_000 - price


@pytest.mark.parametrize("dialect", ["spec", "live"])
def test_too_few_credits_are_a_402_and_cost_nothing(dialect: str) -> None:
    price = {"spec": 70, "live": 60}[dialect]
    exact = service(dialect, credits=price)
    assert post(exact).code == 200
    assert post(exact).code == 402
    assert post(service(dialect, credits=price - 0.25)).code == 402
    assert len(exact.charges) == 1


def test_money_is_decimal() -> None:
    target = service("live", credits=5916.25)
    post(target)
    assert target.balance == Decimal("5856.25")
    assert data(target.credit(0.0)) == 5856.25


@pytest.mark.parametrize("dialect", ["spec", "live"])
def test_the_eleventh_task_is_refused_until_one_ends(dialect: str) -> None:
    target = service(dialect, generation_seconds=60)
    replies = [post(target, 1.0) for _ in range(11)]
    assert [reply.code for reply in replies] == [200] * 10 + [429]
    assert replies[10].http == 429
    assert (target.running, target.peak_running) == (10, 10)
    assert post(target, 60.9).code == 429
    assert post(target, 61.0).code == 200
    assert target.peak_running == 10


@pytest.mark.parametrize("dialect", ["spec", "live"])
def test_the_twenty_first_create_in_ten_seconds_is_refused(dialect: str) -> None:
    target = service(dialect, max_tasks=1000)
    codes = [post(target, index * 0.1).code for index in range(30)]
    assert codes == [200] * 20 + [429] * 10
    assert post(target, 9.99).code == 429
    assert post(target, 10.0).code == 200  # the one at 0.0 is ten seconds old; the refused ten
    assert post(target, 10.05).code == 429  # were dropped and do not count
    assert len(target.charges) == 21
    unlimited = service(dialect, max_tasks=1000, create_rate=None)
    assert {post(unlimited).code for _ in range(100)} == {200}


def test_retry_after_is_absent_unless_asked_for() -> None:
    assert post(service(create_rate=(0, 10.0))).retry_after is None
    assert post(service(create_rate=(0, 10.0), retry_after=7)).retry_after == 7


def test_ids_and_durations_come_from_the_seed() -> None:
    def run(seed: int) -> list[object]:
        target = service(seed=seed)
        return [(task(target), target.next_finish()) for _ in range(5)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert len({str(made) for made in run(1)}) == 5


@pytest.mark.parametrize(
    ("model", "low", "high"), [("veo3_lite", 30, 50), ("veo3_fast", 60, 90), ("veo3", 120, 240)]
)
def test_generations_take_as_long_as_they_do(model: str, low: float, high: float) -> None:
    for seed in range(200):
        target = service("live", seed=seed)
        task(target, model=model)
        finish = target.next_finish()
        assert finish is not None
        assert low <= finish < high


@pytest.mark.parametrize(("given", "low", "high"), [(5, 5, 5), ((2.0, 3.0), 2, 3), (0, 0, 0)])
def test_generation_seconds_can_be_set(
    given: float | tuple[float, float], low: float, high: float
) -> None:
    target = service(generation_seconds=given)
    task(target, 100.0)
    finish = target.next_finish()
    assert finish is not None
    assert low <= finish - 100 <= high


def test_a_task_generates_and_then_succeeds_for_fourteen_days() -> None:
    target = service(generation_seconds=60)
    query = task(target, 10.0)
    assert data(target.record_info(query, 69.9))["status"] == 0
    assert target.running == 1
    assert data(target.record_info(query, 70.0))["status"] == 1
    assert target.running == 0
    assert data(target.record_info(query, 9 + 14 * DAY))["status"] == 1
    assert target.record_info(query, 10 + 14 * DAY).code == 404


def test_the_live_record_says_that_it_is_too_old() -> None:
    target = service("live")
    reply = target.record_info(task(target), 14 * DAY)
    assert (reply.code, reply.http) == (422, 200)
    assert reply.body["msg"] == "Temporarily supports records within 14 days."


FAILURES = [
    ("[fail]", 3, 501, "Generation failed."),
    ("[early]", 2, 501, "Generation failed before it started."),
    ("[error]", 3, 500, "Internal Error, Please try again later."),
    ("[timeout]", 3, 500, "Internal Error - Timeout"),
    ("[policy]", 3, 400, "Your prompt was flagged by Website as violating content policies."),
    ("[language]", 3, 400, "Only English prompts are supported at this time."),
    ("[image]", 3, 400, "Failed to fetch the image."),
    ("[unsafe]", 3, 400, "public error unsafe image upload."),
    ("[audio]", 3, 400, "The Google model was unable to generate audio for this request."),
    ("[person]", 3, 422, "failed"),
    ("[rejected]", 3, 422, "Your request was rejected by Flow("),
]


@pytest.mark.parametrize(("marker", "flag", "code", "text"), FAILURES)
def test_a_marked_prompt_fails_and_is_not_charged(
    marker: str, flag: int, code: int, text: str
) -> None:
    live = service("live", generation_seconds=60)
    query = task(live, prompt=f"a boat {marker}")
    assert live.balance == 9_940
    assert data(live.record_info(query, 59))["successFlag"] == 0
    record = data(live.record_info(query, 60))
    assert (record["successFlag"], record["errorCode"]) == (flag, code)
    assert record["errorMessage"].startswith(text)
    assert live.balance == 10_000
    assert [charge.refunded for charge in live.charges] == [True]

    spec = service(generation_seconds=60)
    query = task(spec, prompt=f"a boat {marker}")
    record = data(spec.record_info(query, 60))
    assert (record["status"], record["videoUrl"]) == (2, None)
    assert spec.balance == 10_000


def test_a_failure_can_be_in_the_envelope() -> None:
    target = service("live", failure_in="envelope", generation_seconds=1)
    reply = target.record_info(task(target, prompt="[policy]"), 1)
    assert (reply.http, reply.code, reply.body["data"]) == (200, 400, None)
    assert str(reply.body["msg"]).startswith("Your prompt was flagged")


def test_a_stuck_task_never_ends() -> None:
    target = service()
    query = task(target, prompt="[stuck]")
    assert target.next_finish() is None
    assert data(target.record_info(query, 13 * DAY))["status"] == 0
    assert target.running == 1


@pytest.mark.parametrize(
    ("dialect", "pending", "price"),
    [("spec", (400, 400), 20), ("live", (200, 400), 5)],
)
def test_the_1080p_conversion_is_charged_once(
    dialect: str, pending: tuple[int, int], price: int
) -> None:
    target = service(dialect, generation_seconds=60, upgrade_seconds=90)
    query = task(target)
    before = target.balance
    first = target.upgrade(query, 60)
    assert (first.http, first.code) == pending
    assert [target.upgrade(query, now).code for now in (61, 100, 149.9)] == [400, 400, 400]
    ready = data(target.upgrade(query, 150))
    url = ready["videoUrl" if dialect == "spec" else "resultUrl"]
    assert url.startswith("http://files.test/")
    assert before - target.balance == price
    assert [charge.kind for charge in target.charges] == ["generate", "1080p"]
    record = data(target.record_info(query, 150))
    assert url not in json.dumps(record)


@pytest.mark.parametrize(
    ("dialect", "running", "failed", "text"),
    [
        ("spec", 400, 422, "Processing"),
        ("live", 422, 422, "record status is not success"),
    ],
)
def test_only_a_finished_video_is_converted(
    dialect: str, running: int, failed: int, text: str
) -> None:
    target = service(dialect, generation_seconds=60)
    query, failing = task(target), task(target, prompt="[fail]")
    reply = target.upgrade(query, 30)
    assert reply.code == running
    assert str(reply.body["msg"]).startswith(text)
    assert target.upgrade(failing, 60).code == failed
    assert {charge.kind for charge in target.charges} == {"generate"}


def test_an_upgrade_can_be_too_dear() -> None:
    target = service(credits=89, generation_seconds=1)
    query = task(target)
    assert target.upgrade(query, 1).code == 402
    assert len(target.charges) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_conversion_takes_one_to_two_minutes(seed: int) -> None:
    target = service(seed=seed, generation_seconds=1)
    query = task(target)
    codes = [target.upgrade(query, now).code for now in (1, 60.9, 121)]
    assert codes == [400, 400, 200]


def test_the_live_conversion_has_an_index_and_another_code() -> None:
    target = service("live", generation_seconds=1, converting_code=422)
    query = task(target)
    assert target.upgrade({**query, "index": "1"}, 1).code == 422
    assert target.upgrade({**query, "index": "x"}, 1).code == 422
    assert len(target.charges) == 1
    reply = target.upgrade({**query, "index": "0"}, 1)
    assert (reply.code, len(target.charges)) == (422, 2)
    assert "generate" in str(reply.body["msg"])


@pytest.mark.parametrize(
    ("dialect", "query", "http", "code", "text"),
    [
        ("spec", {"taskId": "veo_task_0"}, 404, 404, "Task not found"),
        ("spec", {"taskId": ""}, 422, 422, "taskId is required"),
        ("spec", {}, 422, 422, "taskId is required"),
        ("live", {"taskId": "veo_task_0"}, 200, 422, None),
        ("live", {}, 200, 400, "taskId parameter is required"),
    ],
)
def test_an_unknown_task(
    dialect: str, query: dict[str, str], http: int, code: int, text: str | None
) -> None:
    target = service(dialect)
    for reply, words in (
        (target.record_info(query, 0), "Record not found for taskId: veo_task_0"),
        (target.upgrade(query, 0), "Record does not exist"),
    ):
        assert (reply.http, reply.code, reply.body["msg"]) == (http, code, text or words)


def test_the_spec_can_say_400_while_a_task_runs() -> None:
    target = service(running_as="code", generation_seconds=60)
    query = task(target)
    reply = target.record_info(query, 1)
    assert (reply.http, reply.code, reply.body["data"]) == (400, 400, None)
    assert data(target.record_info(query, 60))["status"] == 1


@pytest.mark.parametrize("code", [401, 402, 422])
def test_live_errors_can_be_http_errors(code: int) -> None:
    for where, http in (("body", 200), ("http", code)):
        target = service("live", error_status=where, credits=1)
        replies = [target.authorize(None), post(target), post(target, model="x")]
        (reply,) = (reply for reply in replies if reply is not None and reply.code == code)
        assert reply.http == http


def test_webhooks_fall_due_once_when_a_task_ends() -> None:
    target = service(generation_seconds=60)
    task(target, callBackUrl="http://127.0.0.1/a")
    task(target)
    task(target, prompt="[fail]", callBackUrl="http://127.0.0.1/b")
    assert target.take_due(59) == []
    due = target.take_due(60)
    assert [(callback.url, callback.body["status"]) for callback in due] == [
        ("http://127.0.0.1/a", 1),
        ("http://127.0.0.1/b", 2),
    ]
    assert target.take_due(1000) == []


def test_idle_slots_count_between_creates_only() -> None:
    target = service(max_tasks=2, generation_seconds=10)
    task(target, 100)  # nothing before the first create counts
    task(target, 105)  # 5 s of one free slot
    task(target, 120)  # 5 s of one (110-115), 5 s of two (115-120)
    target.settle(1000)  # nothing after the last one
    assert target.idle_slot_seconds == pytest.approx(5 + 5 + 10)


def test_a_full_account_has_no_idle_slots() -> None:
    target = service(max_tasks=1, generation_seconds=10)
    for turn in range(5):
        task(target, turn * 10.0)
    assert target.idle_slot_seconds == 0


def test_download_urls_are_for_files_of_the_service() -> None:
    target = service("live", generation_seconds=60)
    query = task(target)
    (url,) = data(target.record_info(query, 60))["response"]["resultUrls"]

    def ask(given: object, now: float) -> Reply:
        return target.download_url(json.dumps({"url": given}).encode(), now)

    fresh = data(ask(url, 5000))
    assert fresh != url
    assert fresh.partition("?")[0] == url.partition("?")[0]
    assert data(ask(url.partition("?")[0], 5000)).startswith(url.partition("?")[0])
    for foreign in ("https://example.com/a.mp4", "http://files.test/v/x.mp4", "", None, 7):
        reply = ask(foreign, 5000)
        assert (reply.http, reply.code, reply.body["msg"]) == (200, 422, "url is wrong")
    assert ask(url, 60 + 14 * DAY).code == 422
    assert target.download_url(b"[]", 0).code == 400


@pytest.mark.parametrize(
    "options",
    [
        {"dialect": "other"},
        {"max_tasks": 0},
        {"api_key": ""},
        {"credits": -1},
        {"generation_seconds": (3, 2)},
        {"upgrade_seconds": -1},
        {"running_as": "x"},
        {"error_status": "x"},
        {"failure_in": "x"},
        {"converting_code": 501},
        {"url_seconds": 0},
        {"prompt_limit": -1},
        {"clip": (63, 36)},
        {"clip": (0, 36)},
        {"epoch": datetime(2025, 1, 1)},  # noqa: DTZ001
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Settings(**options)


def test_a_hundred_thousand_tasks_are_no_effort() -> None:
    target = service(max_tasks=10, generation_seconds=1, create_rate=None, credits=1e9)
    for turn in range(10_000):
        for _ in range(10):
            target.generate(b'{"prompt": "x"}', float(turn))
    assert len(target.charges) == 100_000
    assert target.peak_running == 10
