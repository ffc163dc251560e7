"""Callbacks that reach another host than the one that waits, through a real Redis."""

from collections.abc import Callable, Iterator

import anyio
import pytest

from tests.flows.batches import client_of, service
from tests.flows.receivers import on_aiohttp
from tests.limits.redis_server import RedisServer
from veo_async import (
    Callback,
    ConfigurationError,
    Inbox,
    PollPolicy,
    RedisInbox,
    WebhookError,
    WebhookReceiver,
)
from veo_async.protocol.callbacks import VERIFIER_LABEL, token_of
from veo_async.settings import ApiKey

pytestmark = pytest.mark.anyio

NEVER = PollPolicy(interval=300.0, first=300.0)
VERIFIER = ApiKey("a key").derived(VERIFIER_LABEL)
TOKEN = token_of(VERIFIER, b"n" * 16)


@pytest.fixture
def redis(tool: Callable[[str, str], str]) -> Iterator[RedisServer]:
    with RedisServer(tool("redis-server", "redis-server"), ("--appendonly", "yes")) as server:
        yield server


async def test_a_callback_to_another_host_wakes_the_one_that_waits(redis: RedisServer) -> None:
    there = WebhookReceiver(inbox=RedisInbox(redis.url, account="a"))
    here = WebhookReceiver(inbox=RedisInbox(redis.url, account="a"))
    async with on_aiohttp(there) as prefix, service() as sim:
        async with client_of(sim, webhooks=here, callback_url=prefix, poll=NEVER) as veo:
            with anyio.fail_after(20):
                while b":1" not in redis.say("PUBSUB", "NUMSUB", "veo_async:{a}:callbacks:news"):
                    await anyio.sleep(0.01)
                for number in range(3):
                    assert (await veo.generate(f"boat {number}")).url
        assert sim.ledger.requests["record-info"] == 3
        assert {entry.status for entry in sim.ledger.deliveries} <= {200}
    await there.aclose()


async def test_an_inbox_outlives_its_server(redis: RedisServer) -> None:
    one, other = (RedisInbox(redis.url, account="a") for _ in range(2))
    assert isinstance(one, Inbox)
    heard: list[Callback] = []
    one.join(VERIFIER, heard.append)
    try:
        with anyio.fail_after(20):
            while not await other.recognises(TOKEN):
                await anyio.sleep(0.02)
            while not heard:  # it begins to listen in its own time
                await other.put(Callback("task 0", TOKEN))
                await anyio.sleep(0.02)
        redis.kill()
        with pytest.raises(WebhookError) as refused:
            await other.put(Callback("task 1", TOKEN))
        assert refused.value.status == 503
        redis.start()
        with anyio.fail_after(20):
            while Callback("task 2", TOKEN) not in heard:
                await other.put(Callback("task 2", TOKEN))
                await anyio.sleep(0.02)
        assert (await one.task_ids(TOKEN))[-1] == "task 2"
        for number in range(20):
            await one.put(Callback(f"task {number}", TOKEN))
        assert await other.task_ids(TOKEN) == [f"task {number}" for number in range(12, 20)]
        assert not await other.recognises(token_of(b"another key", b"n" * 16))
    finally:
        await one.leave(VERIFIER, heard.append)
        await other.aclose()


async def test_callbacks_that_come_at_once_wait_for_the_same_look(redis: RedisServer) -> None:
    worker, early, front = (RedisInbox(redis.url, account="a") for _ in range(3))
    worker.join(VERIFIER, print)
    found: list[bool] = []

    async def recognise(number: int) -> None:
        found.append(await front.recognises(token_of(VERIFIER, bytes([number]) * 16)))

    try:
        with anyio.fail_after(20):
            while not await early.recognises(TOKEN):
                await anyio.sleep(0.02)
            async with anyio.create_task_group() as all_:
                for number in range(10):
                    all_.start_soon(recognise, number)
        assert found == [True] * 10
    finally:
        await worker.leave(VERIFIER, print)
        await early.aclose()
        await front.aclose()


async def test_keys_that_were_never_read_are_not_taken_for_none(redis: RedisServer) -> None:
    redis.kill()
    inbox = RedisInbox(redis.url, account="a")
    for _ in range(3):
        with pytest.raises(WebhookError) as refused:
            await inbox.recognises(TOKEN)
        assert refused.value.status == 503
    await inbox.aclose()


async def test_keys_are_told_again_to_a_server_that_was_away(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis.kill()
    one, other = (RedisInbox(redis.url, account="a") for _ in range(2))
    verifiers = [VERIFIER, b"b" * 32, b"c" * 32]
    for verifier in verifiers:
        one.join(verifier, print)
    try:
        with anyio.fail_after(20):
            while "does not answer" not in caplog.text:
                await anyio.sleep(0.01)
            with pytest.raises(WebhookError):
                await one.put(Callback("a", TOKEN))  # it is not kept waiting by those keys
            redis.start()
            while not await other.recognises(token_of(b"c" * 32, b"n" * 16)):
                await anyio.sleep(0.02)
            redis.say("FLUSHALL")
            redis.say("CLIENT", "KILL", "TYPE", "pubsub")
            while b":3" not in redis.say("ZCARD", "veo_async:{a}:callbacks:keys"):
                await anyio.sleep(0.02)
    except WebhookError:
        pytest.fail("a server that is back was not reached")
    finally:
        for verifier in verifiers:
            await one.leave(verifier, print)
        await other.aclose()


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://u:password@host/", "redis://[/"])
def test_what_is_no_server_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RedisInbox(url, account="a")
    assert "password@" not in f"{refused.value!r}"
