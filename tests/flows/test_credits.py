"""The account's balance: exact, asked for again after failures that may pass."""

from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from aiohttp import web

from veo_async import (
    AuthenticationError,
    ClientClosedError,
    NotFoundError,
    RetryPolicy,
    ServerError,
    UnexpectedResponseError,
    VeoClient,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("service", ["spec", "live", "jobs"])
@pytest.mark.parametrize("dialect", ["auto", "spec", "live", "jobs"])
async def test_the_balance_is_told_in_every_dialect(world, service, dialect):
    async with world(sim={"dialect": service, "credits": 5916.25}, dialect=dialect) as w:
        balance = await w.veo.credits()
        assert balance == Decimal("5916.25")
        assert type(balance) is Decimal


async def test_the_balance_falls_by_what_is_spent(world):
    async with world(sim={"dialect": "live", "credits": 100.5}) as w:
        await w.veo.generate("a prompt")
        assert await w.veo.credits() == Decimal("40.5")
        assert w.sim.ledger.spent == 60


@pytest.mark.parametrize(
    "fault",
    [
        "credit:status=500",
        "credit:status=429",
        "credit:status=455",
        "credit:html=502",
        "credit:garbage",
        "credit:empty",
        "credit:lose_answer",
    ],
)
async def test_failures_that_may_pass_only_delay_it(world, fault):
    async with world(sim={"faults": [fault + ":times=2"]}) as w:
        assert await w.veo.credits() == 10_000
        # aiohttp itself repeats a GET whose connection broke.
        assert w.veo.statistics().retries in ({1, 2} if "lose" in fault else {2})


@pytest.mark.parametrize(
    ("fault", "kind", "asked"),
    [
        ("credit:status=401", AuthenticationError, 1),
        ("credit:status=505", ServerError, 1),
        ("credit:status=500", ServerError, RetryPolicy().attempts),
        ("credit:html=200", UnexpectedResponseError, RetryPolicy().attempts),
    ],
)
async def test_what_does_not_pass_is_raised(world, fault, kind, asked):
    async with world(sim={"faults": [fault]}) as w:
        with pytest.raises(kind):
            await w.veo.credits()
        assert w.sim.ledger.requests["credit"] == asked


@asynccontextmanager
async def answering(text, status=200):
    """Serve one answer to the question for the balance."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text, status=status, content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/v1/chat/credit", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    retry = RetryPolicy(base=0.001, cap=0.002)
    try:
        async with VeoClient("key", base_url=site.name, retry=retry) as veo:
            yield veo
    finally:
        await runner.cleanup()


async def test_a_decimal_is_what_was_written():
    async with answering('{"code":200,"msg":"success","data":5454.650000000000000001}') as veo:
        assert str(await veo.credits()) == "5454.650000000000000001"


@pytest.mark.parametrize("data", ["NaN", "-1", "null", '"much"', "Infinity"])
async def test_what_is_no_balance_is_not_taken_for_one(data):
    async with answering(f'{{"code":200,"msg":"success","data":{data}}}') as veo:
        with pytest.raises(UnexpectedResponseError):
            await veo.credits()


@pytest.mark.parametrize("text", ['{"code":404,"msg":"Not found","data":null}', "404 page"])
async def test_a_service_without_the_call(text):
    async with answering(text, 404) as veo:
        with pytest.raises(NotFoundError, match=r"no call for the balance.*service's site$"):
            await veo.credits()


async def test_a_closed_client_does_not_ask(world):
    async with world() as w:
        await w.veo.aclose()
        with pytest.raises(ClientClosedError):
            await w.veo.credits()
