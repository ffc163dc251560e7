"""Callbacks over loopback, from the simulator and from those who forge them."""

import contextlib
import random
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import attrs
import fastapi
import pytest

from tests.flows.batches import broken, client_of, jobs, paid_once, ran, service, videos
from tests.flows.receivers import enveloped, flat, on_aiohttp, on_uvicorn, post
from veo_async import (
    AuthenticationError,
    Callback,
    CallbackReceived,
    PollPolicy,
    SubmitUncertainError,
    TaskSubmitted,
    Timeouts,
    VeoClient,
    WebhookReceiver,
)
from veo_async.events import Event
from veo_async.hearing import Verdict
from veo_async.jobs import JobState
from veo_async.protocol.callbacks import sign
from veo_async.simulator import Simulator
from veo_async.simulator.records import Endpoint

pytestmark = pytest.mark.anyio

KEY = "webhook-hmac-key"
NEVER = PollPolicy(interval=300.0, first=300.0)  # longer than any test: only a callback can wake
PROMPT = "a paper boat"


@attrs.frozen
class Stage:
    """A service that calls back, a receiver on a server, and a client of both."""

    sim: Simulator
    veo: VeoClient
    receiver: WebhookReceiver
    prefix: str
    events: list[Event]

    @property
    def asked(self) -> int:
        """How often the service was asked for a task."""
        return self.sim.ledger.requests[Endpoint.RECORD_INFO]

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)


@asynccontextmanager
async def stage(
    sim: dict[str, Any] | None = None,
    *,
    receiver: WebhookReceiver | None = None,
    server: str = "aiohttp",
    **settings: Any,
) -> AsyncGenerator[Stage]:
    events: list[Event] = []
    simulator = service(**(sim or {}))
    made = WebhookReceiver() if receiver is None else receiver
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(simulator)
        if server == "uvicorn":
            prefix = stack.enter_context(on_uvicorn(made))
        else:
            prefix = await stack.enter_async_context(on_aiohttp(made))
        usual = {
            "webhooks": made,
            "callback_url": prefix,
            "poll": NEVER,
            "on_event": events.append,
        }
        veo = await stack.enter_async_context(client_of(simulator, **(usual | settings)))
        yield Stage(simulator, veo, made, prefix, events)


async def delivered(sim: Simulator, status: int) -> None:
    """Wait until the service has got its answer to a callback, which may be after the waiter."""
    with anyio.fail_after(20):
        while not sim.ledger.deliveries:
            await anyio.sleep(0.005)
    assert {entry.status for entry in sim.ledger.deliveries} == {status}


@pytest.mark.parametrize("server", ["aiohttp", "uvicorn"])
@pytest.mark.parametrize("dialect", ["spec", "live"])
@pytest.mark.parametrize("secrets", [None, KEY, ("the next one", KEY)], ids=str)
async def test_a_callback_wakes_whoever_waits(server: str, dialect: str, secrets: Any) -> None:
    sim = {"dialect": dialect, "webhook_key": KEY if secrets else None}
    async with stage(sim, receiver=WebhookReceiver(secrets), server=server) as on:
        with anyio.fail_after(20):
            video = await on.veo.generate(PROMPT)
        assert video.url.startswith(on.sim.files_url), "the record's link, whoever calls"
        assert on.asked == 1
        assert on.count(CallbackReceived) == 1
        await delivered(on.sim, 200)


async def test_lost_callbacks_cost_no_video() -> None:
    async with stage({"faults": ["webhook:drop"]}, poll=PollPolicy(interval=0.05, first=0.1)) as on:
        tasks = [await on.veo.submit(f"boat {number}") for number in range(10)]
        with anyio.fail_after(20):
            for task in tasks:
                assert (await task).url
        assert on.count(CallbackReceived) == 0


async def test_a_callback_that_is_signed_by_somebody_else_wakes_nobody() -> None:
    sim = {"webhook_key": KEY, "faults": ["webhook:bad_signature"]}
    async with stage(
        sim, receiver=WebhookReceiver(KEY), poll=PollPolicy(interval=0.05, first=0.1)
    ) as on:
        with anyio.fail_after(20):
            await on.veo.generate(PROMPT)
        await delivered(on.sim, 401)
        assert on.count(CallbackReceived) == 0


async def test_a_task_is_asked_for_once_however_often_it_is_called_back() -> None:
    async with stage({"generation_seconds": 10**6}) as on, aiohttp.ClientSession() as session:
        task = await on.veo.submit(PROMPT)
        (submitted,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        url = f"{on.prefix}/{submitted.key}"
        for _ in range(50):
            assert await post(session, url, flat(task.id)) == 200
        with anyio.fail_after(20):
            while on.asked < 1:
                await anyio.sleep(0.01)
        assert await post(session, url, enveloped(task.id)) == 200
        await on.veo.status(task)  # a round trip, in which another question would have left
        assert on.asked == 2
        assert task in on.veo.tasks
        assert not task.done


async def test_a_callback_url_of_ones_own_is_known_while_its_task_is_watched() -> None:
    async with stage({"faults": ["webhook:drop"]}) as on, aiohttp.ClientSession() as session:
        own = f"{on.prefix}/order-17"
        with anyio.fail_after(20):
            task = await on.veo.submit(PROMPT, callback_url=own)
            assert await post(session, own, flat("somebody-elses-task")) == 404
            assert await post(session, f"{on.prefix}/order-18", flat(task.id)) == 404
            assert on.asked == 0
            while on.sim.ledger.running:
                await anyio.sleep(0.01)
            assert await post(session, own, flat(task.id)) == 200
            assert (await task).url
        assert on.asked == 1


FORGERS = random.Random(5)


def forgeries(on: Stage, task_id: str, token: str) -> list[tuple[str, bytes, dict[str, str]]]:
    """Return requests that must change nothing: path, body and headers."""
    now = int(datetime.now(UTC).timestamp())
    right = sign(task_id, now, KEY)
    guess = FORGERS.randbytes(32).hex()
    found: list[tuple[str, bytes, dict[str, str]]] = [
        (token, flat(task_id), {}),
        (token, flat(task_id), sign(task_id, now, "guess")),
        (token, flat(task_id), sign(task_id, now - 301, KEY)),
        (token, flat(task_id), sign(task_id, now + 310, KEY)),
        (token, flat(task_id), right | {"x-webhook-timestamp": f"{now}.0"}),
        (token, flat(task_id), right | {"x-webhook-timestamp": "٣"}),
        (token, flat(task_id), right | {"x-webhook-signature": "ÿÿ"}),
        (token, flat(task_id), right | {"x-webhook-signature": ""}),
        (token, flat("other"), right),
        (token, flat("other"), sign("other", now, KEY)),
        (guess, flat(task_id), right),
        (guess[:64], flat("other"), sign("other", now, KEY)),
        (token[:-1] + ("0" if token[-1] != "0" else "1"), flat(task_id), right),
        (token[:32], flat(task_id), right),
        ("", flat(task_id), right),
        ("%F0%9F%90%99", flat(task_id), right),
        (token, b'{"taskId": "%s", "data": {"taskId": "other"}}' % task_id.encode(), right),
        (token, b"[" * 60_000, right),
        (token, b'{"a":' * 10_000, right),
        (token, b"\xff\xfe" + flat(task_id), right),
        (token, b'{"taskId": NaN}', right),
        (token, b'{"n": ' + b"9" * 5000 + b', "taskId": "%s"}' % task_id.encode(), right),
        (token, b'{"taskId": "%s", "pad": "' % task_id.encode() + b" " * 66_000 + b'"}', right),
        (token, b"", right),
        (token, flat(task_id), right | {"Content-Type": "text/plain"}),
    ]
    return found


@pytest.mark.parametrize("server", ["aiohttp", "uvicorn"])
async def test_forged_callbacks_change_nothing_and_ask_nothing(server: str) -> None:
    async with (
        stage({"generation_seconds": 10**6}, receiver=WebhookReceiver(KEY), server=server) as on,
        aiohttp.ClientSession() as session,
    ):
        task = await on.veo.submit(PROMPT)
        (submitted,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        before = len(on.events)
        statuses: set[int] = set()
        for _ in range(40):
            for path, body, headers in forgeries(on, task.id, submitted.key):
                statuses.add(await post(session, f"{on.prefix}/{path}", body, headers))
        assert statuses == {400, 401, 404, 413, 415}
        assert (on.asked, len(on.events)) == (0, before)
        assert on.veo.statistics().slots_in_use == 1
        assert not task.done


async def test_a_replayed_callback_is_answered_and_does_nothing() -> None:
    async with (
        stage({"generation_seconds": 10**6}, receiver=WebhookReceiver(KEY)) as on,
        aiohttp.ClientSession() as session,
    ):
        task = await on.veo.submit(PROMPT)
        (submitted,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        headers = sign(task.id, int(datetime.now(UTC).timestamp()), KEY)
        url = f"{on.prefix}/{submitted.key}"
        for _ in range(20):
            assert await post(session, url, flat(task.id), headers) == 200
        assert on.count(CallbackReceived) == 1
        assert await post(session, f"{on.prefix}/elsewhere", flat(task.id), headers) == 200


START = "POST /hooks/x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


async def answer_of(prefix: str, *parts: str | bytes) -> str:
    """Send parts of a request as they are, and return the beginning of the answer."""
    host, port = prefix.removeprefix("http://").removesuffix("/hooks").split(":")
    with anyio.fail_after(20):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            for part in parts:
                await stream.send(part.encode() if isinstance(part, str) else part)
            return (await stream.receive()).decode()


@pytest.mark.parametrize("server", ["aiohttp", "uvicorn"])
async def test_large_and_other_requests_are_refused(server: str) -> None:
    async with stage(server=server) as on:
        got = await answer_of(on.prefix, "GET /hooks/x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert got.startswith("HTTP/1.1 405")
        assert "allow: post" in got.lower()
        large = await answer_of(on.prefix, START, "Content-Length: 1000000000\r\n\r\n")
        assert large.startswith("HTTP/1.1 413")
        chunks = b"".join(b"4000\r\n" + b" " * 0x4000 + b"\r\n" for _ in range(5))
        large = await answer_of(on.prefix, START, "Transfer-Encoding: chunked\r\n\r\n", chunks)
        assert large.startswith("HTTP/1.1 413")
        assert on.asked == 0


async def test_slow_requests_are_given_up() -> None:
    receiver = WebhookReceiver()
    answers: list[str] = []

    async def dawdle(prefix: str) -> None:
        answers.append(await answer_of(prefix, START, 'Content-Length: 20\r\n\r\n{"taskId"'))

    with on_uvicorn(receiver) as asgi:
        async with on_aiohttp(receiver) as aiohttp_, anyio.create_task_group() as both:
            both.start_soon(dawdle, asgi)
            both.start_soon(dawdle, aiohttp_)
    assert [answer[:12] for answer in answers] == ["HTTP/1.1 408"] * 2


async def test_it_may_be_mounted_in_another_application() -> None:
    receiver = WebhookReceiver()
    application = fastapi.FastAPI()
    application.mount("/inside/hooks", receiver)
    with on_uvicorn(application) as prefix:
        inside = prefix.replace("/hooks", "/inside/hooks")
        async with stage(receiver=receiver, callback_url=inside) as on:
            with anyio.fail_after(20):
                await on.veo.generate(PROMPT)
            await delivered(on.sim, 200)
            assert on.asked == 1


async def test_a_worker_that_does_not_wait_recognises_the_tokens_of_its_account() -> None:
    twins, strangers = WebhookReceiver(), WebhookReceiver()
    async with (
        stage({"generation_seconds": 10**6}) as on,
        VeoClient(on.sim.api_key, webhooks=twins),
        VeoClient("another-key", webhooks=strangers),
        aiohttp.ClientSession() as session,
    ):
        task = await on.veo.submit(PROMPT)
        (submitted,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        for receiver, status in ((twins, 200), (strangers, 404)):
            async with on_aiohttp(receiver) as elsewhere:
                url = f"{elsewhere}/{submitted.key}"
                assert await post(session, url, flat(task.id)) == status
        assert on.asked == 0


# --- submits whose answer was lost


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_callback_reveals_the_task_of_a_lost_answer(dialect: str) -> None:
    sim = {"dialect": dialect, "faults": ["generate:lose_answer"], "generation_seconds": 500}
    async with stage(sim) as on:
        with pytest.raises(SubmitUncertainError) as lost:
            await on.veo.submit(PROMPT)
        assert on.veo.statistics().slots_in_use == 1
        with anyio.fail_after(20):
            while on.veo.statistics().slots_in_use:
                await anyio.sleep(0.01)
        (event,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        (charge,) = on.sim.ledger
        assert (event.key, event.task_id) == (lost.value.key, charge.task_id)
        assert on.asked == 1, "the answer that proved it is the one that ended it"


async def test_a_callback_may_overtake_the_loss_of_its_answer() -> None:
    sim = {"faults": ["generate:hang:processed=true"], "generation_seconds": 1}
    async with stage(sim, timeouts=Timeouts(response=1.0, close=2.0)) as on:
        with pytest.raises(SubmitUncertainError):
            await on.veo.submit(PROMPT)
        assert on.sim.ledger.deliveries, "it came first"
        with anyio.fail_after(20):
            while on.veo.statistics().slots_in_use:
                await anyio.sleep(0.01)
        assert on.count(TaskSubmitted) == 1


async def test_a_confirmation_that_fails_is_repeated() -> None:
    faults = ["generate:lose_answer", "record-info:status=503:times=1"]
    async with stage({"faults": faults}) as on:
        with pytest.raises(SubmitUncertainError):
            await on.veo.submit(PROMPT)
        with anyio.fail_after(20):
            while on.veo.statistics().slots_in_use:
                await anyio.sleep(0.01)
        assert (on.asked, on.count(TaskSubmitted)) == (2, 1)


async def test_a_task_that_was_attached_by_hand_gives_back_the_slot_of_its_submit() -> None:
    sim = {"faults": ["generate:lose_answer", "webhook:drop"], "generation_seconds": 10**6}
    async with (
        stage(sim, poll=PollPolicy(interval=0.02, first=0.0)) as on,
        aiohttp.ClientSession() as session,
    ):
        with pytest.raises(SubmitUncertainError) as lost:
            await on.veo.submit(PROMPT)
        (charge,) = on.sim.ledger
        by_hand = on.veo.task(charge.task_id)
        with anyio.fail_after(20):
            async with aclosing(by_hand.updates()) as updates:
                await anext(updates)
            assert on.veo.statistics().slots_in_use == 2, "one of them for the lost answer"
            url = f"{on.prefix}/{lost.value.key}"
            assert await post(session, url, flat(charge.task_id)) == 200
            while on.veo.statistics().slots_in_use > 1:
                await anyio.sleep(0.01)
        assert on.count(TaskSubmitted) == 1
        assert by_hand in on.veo.tasks


async def test_an_asgi_server_is_never_raised_at() -> None:
    class Broken:
        verifier = b""

        def judge(self, callback: Callback) -> Verdict:
            raise ZeroDivisionError

        def hear(self, callback: Callback) -> None:
            raise ZeroDivisionError

    receiver = WebhookReceiver()
    broken_client = Broken()
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def call(scope: dict[str, object], *messages: dict[str, object]) -> list[object]:
        waiting = iter(messages)

        async def receive() -> dict[str, object]:
            return next(waiting)

        sent.clear()
        await receiver(scope, receive, send)
        return [message.get("status", message["type"]) for message in sent]

    start, stop = ({"type": f"lifespan.{kind}"} for kind in ("startup", "shutdown"))
    lived = await call({"type": "lifespan"}, start, stop)
    assert lived == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert await call({"type": "websocket"}) == ["websocket.close"]
    assert await call({"type": "something new"}) == []
    headers = [(b"Content-Type", b"application/json")]
    http = {"type": "http", "method": "POST", "path": "/x", "headers": iter(headers)}
    body = {"type": "http.request", "body": flat("a")}
    assert await call(http, {"type": "http.disconnect"}) == []
    receiver.register(broken_client)
    http["headers"] = headers
    assert await call(http, {"type": "http.request", "more_body": True}, body) == [
        500,
        "http.response.body",
    ]
    await receiver.forget(broken_client)
    assert await call(http, body) == [404, "http.response.body"]


@pytest.mark.parametrize("named", ["unknown", "taken", "of another prompt"])
async def test_a_callback_that_names_another_task_reveals_nothing(named: str) -> None:
    faults = ["generate:lose_answer:times=1", "webhook:drop"]
    sim = {"dialect": "live", "faults": faults}
    async with stage(sim) as on, aiohttp.ClientSession() as session:
        with pytest.raises(SubmitUncertainError) as lost:
            await on.veo.submit(PROMPT)
        other = await on.veo.submit("another prompt", callback_url=f"{on.prefix}/own")
        stranger = client_of(on.sim)
        async with stranger:
            task = await stranger.submit("a third prompt")
        task_id = {"unknown": "0" * 32, "taken": other.id, "of another prompt": task.id}[named]
        answer = await post(session, f"{on.prefix}/{lost.value.key}", flat(task_id))
        assert answer == (404 if named == "taken" else 200)
        asked = 0 if named == "taken" else 1
        with anyio.fail_after(20):
            while on.asked < asked:
                await anyio.sleep(0.01)
        await on.veo.status(other)  # a round trip, in which it would have been taken
        assert (on.count(TaskSubmitted), on.veo.statistics().slots_in_use) == (1, 2)
        assert on.asked == asked + 1


@pytest.mark.parametrize("dialect", ["spec", "live"])
async def test_a_batch_settles_its_lost_answers_in_the_same_run(
    tmp_path: Path, dialect: str
) -> None:
    faults = ["generate:lose_answer:every=2"]
    prompts = ["a [fail] boat", *(f"boat {number}" for number in range(5))]
    async with stage({"dialect": dialect, "faults": faults}) as on:
        done = await ran(
            on.sim,
            prompts,
            tmp_path,
            client={"webhooks": on.receiver, "callback_url": on.prefix, "poll": NEVER},
        )
        assert done.outcomes == {"downloaded": 5, "failed": 1}
        assert len(videos(tmp_path)) == 5
        assert sum(charge.prompt in prompts for charge in on.sim.ledger) == 6
        assert on.sim.ledger.peak_running <= 10
        assert done.run.batch.report.credits_uncertain == 0


async def test_a_lost_answer_without_a_callback_comes_out_as_uncertain(tmp_path: Path) -> None:
    faults = ["generate:lose_answer:times=1", "webhook:drop"]
    async with stage({"faults": faults}) as on:
        timeouts = Timeouts(response=0.5, uncertain=0.5, close=2.0)
        done = await ran(
            on.sim,
            [PROMPT, "boat 2"],
            tmp_path,
            client={"webhooks": on.receiver, "callback_url": on.prefix, "timeouts": timeouts},
        )
        assert done.outcomes == {"uncertain": 1, "downloaded": 1}


async def test_a_batch_that_fails_waits_for_no_callback(tmp_path: Path) -> None:
    faults = ["generate:lose_answer:times=1", "generate:status=401:after=1", "webhook:drop"]
    async with stage({"faults": faults}) as on:
        client = {"webhooks": on.receiver, "callback_url": on.prefix}
        with anyio.fail_after(20):
            done, _ = await broken(
                on.sim, [PROMPT, "boat 2"], tmp_path, AuthenticationError, client=client
            )
        assert done.items == []
        assert next(iter(jobs(tmp_path).values())).state is JobState.UNKNOWN


async def test_the_next_run_settles_what_the_inbox_kept(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox.db"
    receiver = WebhookReceiver(inbox=inbox)
    async with stage({"faults": ["generate:lose_answer"]}, receiver=receiver) as on:
        timeouts = Timeouts(response=0.02, uncertain=0.02, close=2.0)
        client = {"callback_url": on.prefix, "timeouts": timeouts, "poll": NEVER}
        done = await ran(on.sim, [PROMPT], tmp_path / "videos", client=client)
        assert done.outcomes == {"uncertain": 1}
        await delivered(on.sim, 200)
        on.sim.clear_faults()
        settled = client | {"webhooks": receiver, "timeouts": Timeouts(uncertain=0.02)}
        again = await ran(on.sim, [PROMPT], tmp_path / "videos", client=settled)
        assert again.outcomes == {"downloaded": 1}
        paid_once(on.sim, [PROMPT])
        (job,) = jobs(tmp_path / "videos").values()
        assert job.state is JobState.STORED


async def test_what_the_inbox_kept_is_not_paid_again(tmp_path: Path) -> None:
    receiver = WebhookReceiver(inbox=tmp_path / "inbox.db")
    async with stage({"faults": ["generate:lose_answer"]}, receiver=receiver) as on:
        timeouts = Timeouts(response=0.02, uncertain=0.02, close=2.0)
        client = {"callback_url": on.prefix, "timeouts": timeouts, "poll": NEVER}
        await ran(on.sim, [PROMPT], tmp_path / "videos", client=client)
        await delivered(on.sim, 200)
        on.sim.clear_faults()
        again = await ran(
            on.sim,
            [PROMPT],
            tmp_path / "videos",
            client=client | {"webhooks": receiver},
            resubmit_uncertain=True,
        )
        assert again.outcomes == {"downloaded": 1}
        paid_once(on.sim, [PROMPT])


# --- the inbox


async def test_invented_tokens_for_a_task_that_was_attached_fill_no_inbox(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    receiver = WebhookReceiver(inbox=path)
    sim = {"generation_seconds": 10**6, "faults": ["webhook:drop"]}
    async with (
        stage(sim, receiver=receiver) as on,
        client_of(on.sim, webhooks=receiver, callback_url=on.prefix, poll=NEVER) as other,
        aiohttp.ClientSession() as session,
    ):
        task = await on.veo.submit(PROMPT)
        (submitted,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        async with client_of(on.sim) as stranger:
            foreign = await stranger.submit("another prompt")
        attached = other.task(foreign.id)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(attached.wait)
                while attached not in other.tasks:
                    await anyio.sleep(0.005)
                for number in range(20):
                    url = f"{on.prefix}/invented-{number}"
                    assert await post(session, url, flat(foreign.id)) == 200
                assert await post(session, f"{on.prefix}/{submitted.key}", flat(task.id)) == 200
                waiting.cancel_scope.cancel()
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as db:
            assert db.execute("SELECT token FROM callbacks").fetchall() == [(submitted.key,)]


async def test_an_inbox_that_cannot_keep_a_callback_has_it_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with stage({"generation_seconds": 10**6}, receiver=WebhookReceiver(inbox=path)) as on:
        task = await on.veo.submit(PROMPT)
        (submitted,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        url = f"{on.prefix}/{submitted.key}"
        async with aiohttp.ClientSession() as session:
            assert await post(session, url, flat(task.id)) == 200
            with contextlib.closing(sqlite3.connect(path)) as other:
                other.execute("DROP TABLE callbacks")
                other.commit()
            assert await post(session, url, flat(task.id)) == 503


async def test_a_file_that_is_no_inbox_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE precious (value)")
        other.commit()
    before = path.read_bytes()
    async with stage({"generation_seconds": 10**6}, receiver=WebhookReceiver(inbox=path)) as on:
        task = await on.veo.submit(PROMPT)
        (submitted,) = (event for event in on.events if isinstance(event, TaskSubmitted))
        async with aiohttp.ClientSession() as session:
            url = f"{on.prefix}/{submitted.key}"
            assert await post(session, url, flat(task.id)) == 503
    assert path.read_bytes() == before


async def test_only_the_owner_reads_an_inbox(short_path: Path) -> None:
    path = short_path / "inbox.db"
    async with stage(receiver=WebhookReceiver(inbox=path)) as on:
        with anyio.fail_after(20):
            await on.veo.generate(PROMPT)
        assert path.stat().st_mode & 0o077 == 0
        assert len([*(short_path / "inbox.db.members").iterdir()]) == 1
    assert not [*(short_path / "inbox.db.members").iterdir()]
