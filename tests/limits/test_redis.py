"""A server that is killed, hangs, and forgets; and what a limiter costs it."""

import asyncio
import contextlib
import gc
import logging
import re
import secrets
import traceback
from contextlib import AsyncExitStack
from typing import cast

import pytest
from redis.asyncio import Redis

from tests.limits.members import Member
from tests.limits.redis_server import RedisServer
from tests.limits.stopping import StoppingRedisLimiter
from veo_async import (
    ConfigurationError,
    Event,
    LimiterError,
    LimiterLost,
    LimiterRestored,
    PollPolicy,
    RedisLimiter,
    RetryPolicy,
    Timeouts,
    VeoClient,
)
from veo_async.limits import SlotLostError
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio

LEASE = 3.0


async def killed(server: RedisServer) -> None:
    server.kill()
    await asyncio.sleep(0.2)
    server.start()


async def forgetful(server: RedisServer) -> None:
    server.kill()
    await asyncio.sleep(0.2)
    server.empty()
    server.start()


async def frozen(server: RedisServer) -> None:
    server.freeze()
    await asyncio.sleep(3.2)  # longer than a lease, and than a command may take
    server.thaw()


async def emptied(server: RedisServer) -> None:
    server.say("FLUSHALL")


@pytest.mark.parametrize("blow", [killed, forgetful, frozen, emptied])
async def test_no_outage_lets_more_than_the_total_run(redis_server, blow):
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            Simulator(
                time_scale=1000,
                clip=(64, 36),
                video_bytes=0,
                create_rate=None,
                generation_seconds=1000,
                max_tasks=100,
                credits=10**6,
            )
        )
        members = [
            await stack.enter_async_context(Member("redis", redis_server.url, total=4, lease=LEASE))
            for _ in range(3)
        ]
        await asyncio.wait(
            [member.tell("open", sim.base_url, sim.api_key) for member in members]
            + [member.tell("churn", 5) for member in members]
        )
        async with asyncio.timeout(60):
            await more_done(members, 1)
            await blow(redis_server)
            await more_done(members, 2)
        for member in members:
            assert (await member.tell("count"))[1] == [], "nobody saw an error"
        await asyncio.wait([member.tell("close") for member in members])
    assert sim.ledger.peak_running == 4


async def more_done(members: list[Member], count: int) -> None:
    """Wait until each of them has made so many more videos."""
    counts = [await member.tell("count") for member in members]
    for member, (before, _) in zip(members, counts, strict=True):
        while (await member.tell("count"))[0] < before + count:
            await asyncio.sleep(0.05)


async def test_a_server_that_was_set_back_first_hears_what_members_hold(redis_server):
    us = RedisLimiter(redis_server.url, account="test", total=2, lease=4)
    async with asyncio.timeout(60), Member("redis", redis_server.url, total=2, lease=4) as other:
        await us.reserve("x")
        await us.release("x")
        redis_server.say("SAVE")
        for key in "12":
            await other.tell("reserve", key)
            await other.tell("occupy", key, 600)
        other.freeze()
        redis_server.kill()
        redis_server.start()
        waiting = asyncio.create_task(us.reserve("3"))
        while us.statistics().in_use != 0:  # as it was when it was saved
            await us.release("nobody")
            await asyncio.sleep(0.01)
        other.thaw()
        while us.statistics().in_use != 2:
            await us.release("nobody")
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await other.tell("release", "1")
        await waiting
        await other.tell("close")
        await us.aclose()


async def test_who_waits_goes_on_waiting_while_the_server_is_away(redis_server, caplog):
    caplog.set_level(logging.INFO, "veo_async")
    limiter = RedisLimiter(redis_server.url, account="a", total=2, lease=LEASE)
    await limiter.reserve("1")
    await limiter.occupy("1", 60)
    await limiter.reserve("2")
    redis_server.kill()
    unsure = asyncio.create_task(limiter.occupy("2", 60))
    late = asyncio.create_task(limiter.reserve("3"))
    async with asyncio.timeout(20):
        await limiter.release("1")  # is remembered
        while "cannot be reached" not in caplog.text:
            await asyncio.sleep(0.02)
        await limiter.release("nobody")
        with pytest.raises(SlotLostError):  # it is not certain that the slot is still there
            await unsure
        again = asyncio.create_task(limiter.reserve("2"))
        assert not late.done()
        redis_server.empty()
        redis_server.start()
        await again
        await limiter.occupy("2", 60)
        await late
    assert limiter.statistics().in_use == 2
    assert caplog.text.count("cannot be reached") == 1
    assert "can be used again" in caplog.text
    await limiter.aclose()


async def test_a_client_goes_on_with_its_tasks_while_the_server_is_away(
    redis_server, tmp_path, caplog
):
    limiter = RedisLimiter(redis_server.url, account="a", total=1, lease=LEASE)
    settings = {"time_scale": 1000, "clip": (64, 36), "video_bytes": 0, "max_tasks": 100}
    events: list[Event] = []
    async with (
        Simulator(generation_seconds=300, **settings) as sim,
        VeoClient(
            sim.api_key,
            base_url=sim.base_url,
            limiter=limiter,
            poll=PollPolicy(interval=0.05, first=0.05),
            timeouts=Timeouts(close=2.0),
            on_event=events.append,
        ) as veo,
        asyncio.timeout(60),
    ):
        task = await veo.submit("a prompt")
        redis_server.kill()
        await veo.download(task, tmp_path / "a.mp4")
        late = asyncio.create_task(veo.submit("another"))
        while "cannot be reached" not in caplog.text:
            await asyncio.sleep(0.02)
        assert not late.done()
        assert len(sim.ledger) == 1
        redis_server.start()
        await late
        assert sim.ledger.peak_running == 1
    told = [type(event) for event in events if isinstance(event, LimiterLost | LimiterRestored)]
    assert told == [LimiterLost, LimiterRestored]


async def test_a_submit_waits_through_an_outage_that_begins_after_its_reservation(
    redis_server, caplog
):
    limiter = StoppingRedisLimiter(redis_server.url, account="a", total=1, lease=LEASE)
    settings = {"time_scale": 1000, "clip": (64, 36), "video_bytes": 0, "max_tasks": 100}
    async with (
        Simulator(generation_seconds=300, **settings) as sim,
        VeoClient(
            sim.api_key,
            base_url=sim.base_url,
            limiter=limiter,
            retry=RetryPolicy(attempts=2, base=0.01),
            timeouts=Timeouts(response=0.7, close=2.0),
        ) as veo,
        asyncio.timeout(60),
    ):
        submit = asyncio.create_task(veo.submit("a prompt"))
        await limiter.stopped.wait()
        redis_server.kill()
        limiter.may_go_on.set()
        await asyncio.wait({submit}, timeout=2.5)  # more than two attempts take
        assert not submit.done()
        assert "cannot be reached" in caplog.text
        redis_server.start()
        await submit
        assert len(sim.ledger) == 1


async def test_five_thousand_who_wait_are_one_who_asks(redis_server):
    async with Redis.from_url(redis_server.url) as server:
        holder = RedisLimiter(redis_server.url, account="a", total=1, lease=3)
        limiter = RedisLimiter(redis_server.url, account="a", total=1, lease=3)
        await holder.reserve("held")
        waits = [asyncio.create_task(limiter.reserve(str(number))) for number in range(5000)]
        await asyncio.sleep(0.5)
        assert limiter.statistics().waiting == 5000
        before = await commands(server)
        await asyncio.sleep(1)
        asked = await commands(server) - before
        # A lease of 3 s instead of 30: ten times as many as usual. The holder's are among them.
        assert asked / 10 <= 1
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        await holder.release("held")
        await holder.reserve("again")
        await limiter.aclose()
        await holder.aclose()


async def commands(server: Redis) -> int:
    stats = await server.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "ping"))


async def test_an_application_s_own_client_is_used_and_left_open(redis_server):
    for decodes in (False, True):
        async with Redis.from_url(redis_server.url, decode_responses=decodes) as client:
            one = RedisLimiter(client, account="a", total=1, lease=1)
            two = RedisLimiter(client, account="a", total=1, lease=1)
            await one.reserve("1")
            waiting = asyncio.create_task(two.reserve("2"))
            await asyncio.sleep(0.1)
            await one.release("1")
            await waiting
            await one.aclose()
            await two.aclose()
            assert await client.ping()


async def test_a_closed_limiter_leaves_no_connection_and_no_task(redis_server):
    async with Redis.from_url(redis_server.url) as server:
        tasks = asyncio.all_tasks()
        limiter = RedisLimiter(redis_server.url, account="a", lease=1)
        await limiter.reserve("1")
        await limiter.aclose()
        await limiter.aclose()
        assert asyncio.all_tasks() == tasks
        async with asyncio.timeout(20):
            while len(await server.client_list()) > 1:
                await asyncio.sleep(0.02)
        await limiter.reserve("2")  # and can be opened again
        assert limiter.statistics().in_use == 1
        await limiter.aclose()
    gc.collect()


async def test_a_wrong_password_is_an_error_and_is_never_shown(redis_server, caplog):
    caplog.set_level(logging.DEBUG)
    redis_server.say("CONFIG", "SET", "requirepass", "right")
    secret = secrets.token_hex(8)
    url = redis_server.url.replace("://", f"://:{secret}@")
    limiter = RedisLimiter(url, account="a")
    with pytest.raises(LimiterError, match="password") as caught:
        await limiter.reserve("1")
    trace = caught.value.__traceback__.tb_next  # without this test's own frame
    shown = traceback.TracebackException(
        type(caught.value), caught.value, trace, capture_locals=True
    )
    assert secret not in "".join(shown.format())
    assert secret not in repr(limiter) + caplog.text
    assert caught.value.__context__ is None
    await limiter.aclose()


@pytest.mark.parametrize("url", ["http://host", "localhost:6379", "", "redis://:pw@host:port/0"])
def test_what_is_no_url_of_a_server_is_refused_and_not_shown(url):
    with pytest.raises(ConfigurationError, match="url_or_client") as caught:
        RedisLimiter(url, account="a")
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("setting", [{"account": "a{b}"}, {"total": 0}, {"lease": 0}])
def test_a_refused_setting_shows_no_password(setting):
    secret = secrets.token_hex(8)
    with pytest.raises(ConfigurationError) as caught:
        RedisLimiter(f"redis://:{secret}@localhost", **({"account": "a"} | setting))
    trace = caught.value.__traceback__.tb_next  # without this test's own frame
    shown = "".join(
        traceback.TracebackException(
            type(caught.value), caught.value, trace, capture_locals=True
        ).format()
    )
    assert secret not in shown
    assert "self = <RedisLimiter account=None" in shown, "what is half made can be shown"


@pytest.mark.parametrize("account", ["", "a{b", "x" * 201])
def test_an_account_needs_a_name(account):
    with pytest.raises(ConfigurationError, match="account"):
        RedisLimiter("redis://localhost", account=account)


async def test_a_key_of_another_program_is_left_alone(redis_server):
    async with Redis.from_url(redis_server.url) as server:
        await server.rpush("veo_async:{a}:slots", "x")
        limiter = RedisLimiter(redis_server.url, account="a")
        with pytest.raises(LimiterError, match="WRONGTYPE"):
            await limiter.reserve("1")
        await server.set("veo_async:{a}:slots", "[]")
        with pytest.raises(LimiterError, match="no ledger"):
            await limiter.reserve("1")
        await limiter.aclose()
        assert await server.get("veo_async:{a}:slots") == b"[]"


async def test_different_totals_are_told_and_the_lower_one_holds(redis_server, caplog):
    one = RedisLimiter(redis_server.url, account="a", total=1, lease=1)
    two = RedisLimiter(redis_server.url, account="a", total=3, lease=1)
    await one.reserve("1")
    waiting = asyncio.create_task(two.reserve("2"))
    async with asyncio.timeout(20):
        while not re.search("counts on 1 slots, this one on 3", caplog.text):
            await asyncio.sleep(0.02)
    assert two.statistics().total == 1
    await one.aclose()
    await waiting
    assert two.statistics().total == 3
    await two.aclose()


class Deaf:
    """A client whose commands are never answered, and lose the first time they are cancelled."""

    async def eval(self, *_: object) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()
        return ""

    async def aclose(self) -> None:
        raise AssertionError("an application's own client is not closed")


async def test_a_command_that_cannot_be_cancelled_holds_nobody_up(caplog):
    limiter = RedisLimiter(cast("Redis", Deaf()), account="a", total=1, lease=LEASE)
    async with asyncio.timeout(60):
        waiting = asyncio.create_task(limiter.reserve("1"))
        while "cannot be reached" not in caplog.text:
            await asyncio.sleep(0.02)
        await limiter.aclose()
        with pytest.raises(LimiterError):
            await waiting
    names = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
    assert not [name for name in names if "RedisStore" in name or "Broker" in name]
