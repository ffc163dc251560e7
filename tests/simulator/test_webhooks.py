"""Webhooks, delivered to a receiver of the standard library."""

import json
import threading
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.simulator.asking import CREATE, JOB, UPGRADE_4K, ask, data, made
from tests.simulator.conftest import Receiver
from veo_async.simulator import Simulator
from veo_async.simulator.webhooks import is_loopback, sign


def create(sim: Simulator, url: str, prompt: str = "a boat") -> str:
    request = urllib.request.Request(
        sim.base_url + "/api/v1/veo/generate",
        data=json.dumps({"prompt": prompt, "callBackUrl": url}).encode(),
        headers={"Authorization": f"Bearer {sim.api_key}"},
    )
    with urllib.request.urlopen(request) as answer:
        task_id: str = json.load(answer)["data"]["taskId"]
    return task_id


def delivered(sim: Simulator, count: int) -> None:
    """Wait until the simulator has noted `count` deliveries."""
    done = threading.Event()
    for _ in range(2000):
        if len(sim.ledger.deliveries) >= count:
            return
        done.wait(0.01)
    raise AssertionError(sim.ledger.deliveries)


def test_the_spec_body_arrives_unsigned(receiver: Receiver) -> None:
    with Simulator(time_scale=0, generation_seconds=60) as sim:
        task_id = create(sim, receiver.url)
        sim.advance(60)
        receiver.wait(1)
        ((path, headers, body),) = receiver.came
        assert path == "/hook/token"
        assert headers["Content-Type"] == "application/json"
        assert "X-Webhook-Signature" not in headers
        assert set(body) == {"taskId", "status", "videoUrl", "duration", "completedAt"}
        assert (body["taskId"], body["status"]) == (task_id, 1)
        with urllib.request.urlopen(body["videoUrl"]) as answer:
            assert answer.status == 200
        assert sim.api_key not in json.dumps([headers, body])


@pytest.mark.parametrize(("prompt", "code"), [("x", 200), ("[policy]", 400)])
def test_the_live_body_arrives_signed(receiver: Receiver, prompt: str, code: int) -> None:
    with Simulator(
        dialect="live", time_scale=0, generation_seconds=60, webhook_key="secret"
    ) as sim:
        task_id = create(sim, receiver.url, prompt)
        sim.advance(60)
        receiver.wait(1)
    ((_, headers, body),) = receiver.came
    assert (body["code"], body["data"]["taskId"]) == (code, task_id)
    stamp = headers["X-Webhook-Timestamp"]
    assert headers["X-Webhook-Signature"] == sign(task_id, stamp, "secret")


@pytest.mark.parametrize(("prompt", "code"), [("x", 200), ("[no4k]", 500)])
def test_a_4k_conversion_calls_back(receiver: Receiver, prompt: str, code: int) -> None:
    with Simulator(
        dialect="live",
        time_scale=0,
        generation_seconds=60,
        upgrade_4k_seconds=60,
        webhook_key="secret",
    ) as sim:
        task_id = made(sim, prompt=prompt)
        assert ask(sim, UPGRADE_4K, {"taskId": task_id, "callBackUrl": receiver.url})[0] == 200
        sim.advance(60)
        receiver.wait(1)
    ((_, headers, body),) = receiver.came
    assert (body["code"], body["data"]["taskId"]) == (code, task_id)
    stamp = headers["X-Webhook-Timestamp"]
    assert headers["X-Webhook-Signature"] == sign(task_id, stamp, "secret")


@pytest.mark.parametrize("dialect", ["live", "jobs"])
@pytest.mark.parametrize("fields", ["recorded", "documented"])
@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("x", (200, "Playground task completed successfully.", "success", None)),
        ("[policy]", (501, "Playground task failed.", "fail", "400")),
    ],
)
def test_a_job_calls_back_with_its_record(
    receiver: Receiver, dialect: Any, fields: Any, prompt: str, said: tuple[Any, ...]
) -> None:
    with Simulator(
        dialect=dialect,
        time_scale=0,
        generation_seconds=60,
        webhook_key="secret",
        record_fields=fields,
    ) as sim:
        job = {"model": "veo-3-1", "callBackUrl": receiver.url, "input": {"prompt": prompt}}
        task_id = data(ask(sim, CREATE, job))["taskId"]
        sim.advance(60)
        receiver.wait(1)
        shown = data(ask(sim, f"{JOB}?taskId={task_id}"))
    ((_, headers, body),) = receiver.came
    came = body["data"]
    assert (body["code"], body["msg"], came["state"], came["failCode"] or None) == said
    assert came == {**shown, "resultJson": shown["resultJson"] or None}
    assert json.loads(came["param"])["callBackUrl"] == receiver.url
    stamp = headers["X-Webhook-Timestamp"]
    assert headers["X-Webhook-Signature"] == sign(task_id, stamp, "secret")


def test_the_signature_of_the_live_document() -> None:
    """Its test vector (2.9)."""
    found = sign("0123456789abcdef0123456789abcdef", "1769670760", "sim-hmac-key")
    assert found == "KkO3KG2sOUBD94qIG6Ayre3QPtLe9TOH1fKOs2kV7Mk="


@pytest.mark.parametrize(
    ("statuses", "attempts"),
    [([200], 1), ([500, 200], 2), ([404, 302, 204, 200], 4), ([500] * 9, 4)],
)
def test_it_is_repeated_until_a_200_four_times_at_most(
    receiver: Receiver, statuses: list[int], attempts: int
) -> None:
    receiver.statuses = list(statuses)
    with Simulator(time_scale=1000, generation_seconds=60) as sim:
        create(sim, receiver.url)
        delivered(sim, attempts)
        seen = [(entry.attempt, entry.status) for entry in sim.ledger.deliveries]
        times = [entry.at for entry in sim.ledger.deliveries]
        assert sim.ledger.requests["webhook"] == attempts
    assert seen == list(enumerate(statuses[:attempts], 1))
    assert all(later - sooner >= 30 for sooner, later in pairwise(times))


def test_a_dead_receiver_does_no_harm() -> None:
    with Simulator(time_scale=1000, generation_seconds=60) as sim:
        create(sim, "http://127.0.0.1:9/nobody")
        delivered(sim, 4)
        assert {entry.status for entry in sim.ledger.deliveries} == {None}


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1/x", True),
        ("http://127.9.9.9:8080/x", True),
        ("http://localhost/x", True),
        ("https://[::1]:1/x", True),
        ("https://webhook.your-domain.com/veo", False),
        ("http://10.0.0.1/x", False),
        ("http://169.254.169.254/x", False),
        ("http://localhost.example.com/x", False),
        ("http://127.0.0.1@example.com/x", False),
        ("http://0x7f000001/x", False),
    ],
)
def test_only_loopback_is_called(url: str, near: bool) -> None:
    assert is_loopback(url) is near


def test_a_far_receiver_is_never_called(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with Simulator(time_scale=0, generation_seconds=60) as sim:
        far = create(sim, "https://webhook.your-domain.com/veo")
        create(sim, receiver.url)
        sim.advance(60)
        receiver.wait(1)
    assert [entry.task_id for entry in sim.ledger.deliveries if entry.task_id == far] == []
    assert f"webhook of {far} not sent" in caplog.text


@pytest.mark.parametrize(
    ("fault", "count"), [("webhook:drop:times=1", 0), ("webhook:duplicate", 2)]
)
def test_lost_and_doubled_webhooks(receiver: Receiver, fault: str, count: int) -> None:
    with Simulator(time_scale=0, generation_seconds=60, faults=[fault]) as sim:
        task_id = create(sim, receiver.url)
        sim.advance(60)
        if count:
            receiver.wait(count)
        else:  # the next one is not dropped: by then the first would have been there
            task_id = create(sim, receiver.url)
            sim.advance(60)
            receiver.wait(1)
    assert {body["taskId"] for _, _, body in receiver.came} == {task_id}
    assert len(receiver.came) == max(count, 1)


def test_a_late_webhook(receiver: Receiver) -> None:
    with Simulator(time_scale=0, generation_seconds=60, faults=["webhook:delay=100"]) as sim:
        create(sim, receiver.url)
        sim.advance(60)
        _until(lambda: sim.ledger.running == 0)
        assert receiver.came == []
        for _ in range(200):  # the delay begins when the postman has seen the end of the task
            sim.advance(100)
            if receiver.came:
                break
            threading.Event().wait(0.01)
        receiver.wait(1)


def test_a_bad_signature(receiver: Receiver) -> None:
    with Simulator(
        time_scale=0, generation_seconds=60, webhook_key="k", faults=["webhook:bad_signature"]
    ) as sim:
        task_id = create(sim, receiver.url)
        sim.advance(60)
        receiver.wait(1)
    ((_, headers, _),) = receiver.came
    assert headers["X-Webhook-Signature"] != sign(task_id, headers["X-Webhook-Timestamp"], "k")


def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_so():
            return
        threading.Event().wait(0.01)
    raise AssertionError
