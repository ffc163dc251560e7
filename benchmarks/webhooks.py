"""Callbacks: how long they take to the waiter's hands, and what forged ones achieve.

`python -m benchmarks.webhooks COUNT` sends so many forged ones (100,000). The receiver and the
client that waits are in a process of their own, the service and whoever calls back in this one.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from benchmarks import measuring, results
from benchmarks.results import Bound, Results, Table
from tests.flows.receivers import enveloped, flat, on_aiohttp, post
from veo_async import PollPolicy, TaskSubmitted, VeoClient, WebhookReceiver
from veo_async.protocol.callbacks import sign
from veo_async.simulator import Simulator

KEY = "webhook-hmac-key"
TASKS = 10
NEVER = PollPolicy(interval=3600.0, first=3600.0)
ROUNDS = 200
CALLERS = 8
COUNT = 100_000


# --- the process under test


async def held(job: dict[str, Any]) -> None:
    """Serve a receiver, and wait for ten tasks that never end, until stdin closes."""
    receiver = WebhookReceiver(KEY, inbox=job["inbox"])
    events: list[object] = []
    async with (
        on_aiohttp(receiver) as prefix,
        VeoClient(
            job["api_key"],
            base_url=job["base_url"],
            webhooks=receiver,
            callback_url=prefix,
            poll=NEVER,
            pace=None,
            on_event=events.append,
        ) as veo,
    ):
        for number in range(TASKS):
            await veo.submit(f"boat {number}")
        known = [(event.task_id, event.key) for event in events if isinstance(event, TaskSubmitted)]
        before = len(events)
        print(json.dumps({"prefix": prefix, "known": known}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        told = {
            "events": len(events) - before,
            "slots": veo.statistics().slots_in_use,
            "ended": sum(task.done for task in veo.tasks),
        }
        print(json.dumps(told), flush=True)


async def served(job: dict[str, Any]) -> None:
    """Serve a receiver without a client, until stdin closes."""
    receiver = WebhookReceiver(inbox=job["inbox"])
    async with on_aiohttp(receiver) as prefix:
        print(json.dumps({"prefix": prefix}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await receiver.aclose()


@contextmanager
def child(name: str, **job: str) -> Generator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    program = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.webhooks", name, json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        yield program, json.loads(program.stdout.readline())
    finally:
        program.stdin.close()
        program.wait(30)
        program.stdout.close()


# --- forged callbacks


def forged(
    known: list[tuple[str, str]], dice: random.Random, now: int
) -> tuple[str, bytes, dict[str, str]]:
    """Return one forged callback: its path, body and headers."""
    task_id, token = dice.choice(known)
    other_id, _ = dice.choice(known)
    right = sign(task_id, now, KEY)
    guess = dice.randbytes(32).hex()
    body = dice.choice((flat, enveloped))(task_id)
    return dice.choice(
        (
            (token, body, {}),
            (token, body, sign(task_id, now, guess)),
            (token, body, sign(task_id, now - 400, KEY)),  # replayed too late
            (token, body, sign(task_id, now + 400, KEY)),
            (token, body, right | {"x-webhook-signature": "ÿ" * 44}),
            (token, body, sign(other_id, now, KEY) if other_id != task_id else {}),
            (guess, flat(guess), sign(guess, now, KEY)),
            (guess, body, right),
            (token[:-1] + ("0" if token[-1] != "0" else "1"), body, right),
            (token, flat(guess), sign(guess, now, KEY)),  # edited: another id
            (token, body[:-3], right),
            (token, b"[" * 60_000, right),
            (token, b'{"taskId": "\xff"}', right),
            (token, b'{"taskId": "a", "n": ' + b"9" * 5000 + b"}", right),
            (token, body + b" " * 66_000, right),
            ("%F0%9F%90%99", body, right),
        )
    )


async def attack(
    prefix: str, known: list[tuple[str, str]], count: int
) -> tuple[Counter[int], list[float]]:
    """Send them from several connections; return the statuses and the times."""
    statuses: Counter[int] = Counter()
    times: list[float] = []
    left = iter(range(count))
    dice = random.Random(1)

    async def caller(session: aiohttp.ClientSession) -> None:
        for _ in left:
            path, body, headers = forged(known, dice, int(datetime.now(UTC).timestamp()))
            headers = {"Content-Type": "application/json", **headers}
            began = time.perf_counter()
            async with session.post(f"{prefix}/{path}", data=body, headers=headers) as answer:
                await answer.read()
            times.append(time.perf_counter() - began)
            statuses[answer.status] += 1

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller(session))
    return statuses, times


@attrs.frozen
class Attack:
    """What forged callbacks achieved.

    Attributes:
        statuses: How often each status was the answer.
        times: Seconds to each answer.
        seconds: All of them took this long.
        caused: Requests to the service.
        events: What the client told its observer meanwhile.
        ended: How many of its tasks ended.
        slots: How many slots were still in use afterwards.
    """

    statuses: Counter[int]
    times: list[float]
    seconds: float
    caused: int
    events: int
    ended: int
    slots: int


def forge(count: int) -> Attack:
    """Return what an attack achieves."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulator(generation_seconds=10**6, create_rate=None) as sim,
        child(
            "held",
            inbox=f"{folder}/inbox.db",
            api_key=sim.api_key,
            base_url=sim.base_url,
        ) as (program, told),
    ):
        began = time.perf_counter()
        statuses, times = asyncio.run(attack(told["prefix"], told["known"], count))
        seconds = time.perf_counter() - began
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("\n")
        program.stdin.flush()
        after: dict[str, int] = json.loads(program.stdout.readline())
        outbound = sim.ledger.requests["record-info"]
    return Attack(statuses, times, seconds, outbound, **after)


def attacked(count: int) -> tuple[Table, list[Bound]]:
    """Return the figures of an attack."""
    found = forge(count)
    statuses = ", ".join(f"{status}: {n:,}" for status, n in sorted(found.statuses.items()))
    rows = [
        (f"sent by {CALLERS} callers in", f"{found.seconds:.0f} s"),
        ("answered with", statuses),
        ("time to the answer, median, p99, longest", ", ".join(milliseconds(found.times))),
        ("requests to the service that they caused", f"**{found.caused}**"),
        ("events, and tasks that they ended", f"**{found.events}**, **{found.ended}**"),
        (f"slots in use afterwards, of {TASKS} tasks", f"{found.slots}"),
    ]
    caption = f"{count:,} forged, edited, late, replayed and oversized callbacks."
    return Table(("figure", "value"), rows, caption), [
        Bound("requests that forged callbacks caused", found.caused, 0),
        Bound("events that forged callbacks caused", found.events, 0),
        Bound("tasks that forged callbacks ended", found.ended, 0),
    ]


# --- the way to the waiter's hands


async def woken(prefix: str | None, inbox: Path | None) -> tuple[list[float], list[float]]:
    """Return the times from a callback to the waiter's hands, and those of `record-info`."""
    receiver = WebhookReceiver(inbox=inbox)
    keys: dict[str, str] = {}

    def note(event: object) -> None:
        if isinstance(event, TaskSubmitted):
            keys[event.task_id] = event.key

    ways: list[float] = []
    trips: list[float] = []
    async with on_aiohttp(receiver) as own:
        with Simulator(
            time_scale=10**6,
            generation_seconds=1,
            create_rate=None,
            credits=10**6,
            faults=["webhook:drop"],
        ) as sim:
            async with (
                VeoClient(
                    sim.api_key,
                    base_url=sim.base_url,
                    webhooks=receiver,
                    callback_url=prefix or own,
                    poll=NEVER,
                    pace=None,
                    on_event=note,
                ) as veo,
                aiohttp.ClientSession() as session,
            ):
                for number in range(ROUNDS):
                    task = await veo.submit(f"boat {number}")
                    waiting = asyncio.get_running_loop().create_task(task.wait(60))
                    while (await veo.status(task.id)).video_url is None:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                    began = time.perf_counter()
                    await veo.status(task.id)
                    trips.append(time.perf_counter() - began)
                    began = time.perf_counter()
                    url = f"{prefix or own}/{keys[task.id]}"
                    called = asyncio.get_running_loop().create_task(
                        post(session, url, flat(task.id))
                    )
                    await waiting
                    ways.append(time.perf_counter() - began)
                    assert await called == 200
    return ways, trips


def wake() -> Table:
    """Return the figures of waking."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inbox.db"
        found = {
            "same process": asyncio.run(woken(None, None)),
            "same process, with an inbox": asyncio.run(woken(None, path)),
        }
        with child("served", inbox=str(path)) as (_, told):
            found["another process, through the inbox"] = asyncio.run(woken(told["prefix"], path))
    rows = [
        (
            name,
            *milliseconds(ways),
            f"{1000 * statistics.median(trips):.1f} ms",
            f"{1000 * (statistics.median(ways) - statistics.median(trips)):.1f} ms",
        )
        for name, (ways, trips) in found.items()
    ]
    head = (
        *("way to the one who waits", "median", "p99", "longest"),
        *("`record-info` alone, median", "beside it"),
    )
    return Table(head, rows, f"{ROUNDS} callbacks each.")


def milliseconds(times: Sequence[float]) -> tuple[str, str, str]:
    """Return median, 99th percentile and longest."""
    figures = statistics.median(times), measuring.percentile(times, 0.99), max(times)
    median, late, longest = (f"{1000 * figure:.1f} ms" for figure in figures)
    return median, late, longest


def measure(count: int = COUNT) -> Results:
    """Measure with so many forged callbacks."""
    table, bounds = attacked(count)
    return Results(
        title="Callbacks",
        text=(
            "From a callback that leaves the service to the result in the hands of whoever waits"
            " for it, the poll that confirms it included; and what bad callbacks achieve. These are"
            " sent to a receiver and a client with ten waiting tasks in a process of their own."
        ),
        tables=[wake(), table],
        bounds=bounds,
    )


def main() -> None:
    """Measure as many as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    given, others = parser.parse_known_args()
    results.run(lambda: measure(given.count), others)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["held", job]:
            asyncio.run(held(json.loads(job)))
        case ["served", job]:
            asyncio.run(served(json.loads(job)))
        case _:
            main()
