"""When a finish is found, and what that takes: every 5 s, by the usual policy, by the adaptive one.

Tasks one after the other in virtual time, without a network: only the moments of the polls count.
"""

import random
from collections.abc import Callable, Mapping, Sequence

import attrs

from benchmarks import results
from benchmarks.results import Bound, Plot, Results, Table
from veo_async.protocol.timetable import Timetable
from veo_async.settings import PollPolicy

TASKS = 60_000
LEARNING = 200  # tasks that are not counted
EVERY = 5.0  # spec: Integration Notes
LEARNED = (10, 30, 100, 300, 1_000, 10_000)  # completions
CLIENTS = 200  # that learn, or fewer where that would be more tasks than BUDGET
BUDGET = 20_000
COUNTED = 4_000  # tasks of all of them together, after that

Service = Callable[[random.Random], tuple[str, float]]
EVENLY = "60 to 180 s, evenly"

SERVICES: dict[str, Service] = {
    EVENLY: lambda draw: ("veo3_fast", draw.uniform(60, 180)),
    "fast 60 to 90 s, quality 120 to 240 s": lambda draw: (
        ("veo3_fast", draw.uniform(60, 90))
        if draw.random() < 0.5
        else ("veo3", draw.uniform(120, 240))
    ),
    "60 s and a long tail": lambda draw: ("veo3_fast", 60 + draw.lognormvariate(3.4, 0.6)),
    "the first, 5 % fail within 20 s": lambda draw: (
        "veo3_fast",
        draw.uniform(5, 20) if draw.random() < 0.05 else draw.uniform(60, 180),
    ),
}
POLICIES: dict[str, PollPolicy | None] = {
    "every 5 s": None,
    "usual": PollPolicy(),
    "adaptive": PollPolicy.adaptive(),
}


@attrs.frozen
class Seen:
    """Requests per task, and mean seconds from an end to the poll that sees it."""

    polls: float
    delay: float


def one_task(
    timetable: Timetable | None, kind: str, end: float, chance: random.Random
) -> tuple[int, float]:
    """Watch a task; return the requests, and the seconds from its end to the last of them."""
    age = last_seen = 0.0
    asked = 0
    wait = EVERY if timetable is None else timetable.first(kind, 0.0)
    while True:
        age += wait
        asked += 1
        if age >= end:
            break
        last_seen = age
        wait = EVERY if timetable is None else timetable.next(kind, age, 0.0, chance.random())
    if timetable is not None:
        timetable.note(kind, last_seen, age)
    return asked, age - end


def watch(
    policy: PollPolicy | None, service: Service, learning: int, counted: int, seed: int = 1
) -> Seen:
    """Watch many tasks, and count all but the first ones; None asks every 5 s."""
    timetable = None if policy is None else Timetable(policy)
    ends, chance = random.Random(seed), random.Random(seed + 1)
    polls, delay = 0, 0.0
    for number in range(learning + counted):
        asked, late = one_task(timetable, *service(ends), chance)
        if number >= learning:
            polls += asked
            delay += late
    return Seen(polls / counted, delay / counted)


def after(policy: PollPolicy | None, learned: int) -> Seen:
    """Watch tasks of clients that have seen so many ends."""
    clients = max(2, min(CLIENTS, BUDGET // learned))
    seen = [
        watch(policy, SERVICES[EVENLY], learned, COUNTED // clients, seed)
        for seed in range(1, clients + 1)
    ]
    return Seen(sum(one.polls for one in seen) / clients, sum(one.delay for one in seen) / clients)


# --- the figures


def rows(found: Mapping[str, Mapping[str, Seen]]) -> list[tuple[str, ...]]:
    """Return what each policy takes for each service, and as a part of what every 5 s takes."""
    return [
        (
            service,
            name,
            f"{seen.polls:.1f}",
            f"{seen.polls / by['every 5 s'].polls:.2f}",
            f"{seen.delay:.2f} s",
            f"{seen.delay / by['every 5 s'].delay:.2f}",
        )
        for service, by in found.items()
        for name, seen in by.items()
    ]


def bounds(by: Mapping[str, Seen]) -> list[Bound]:
    """Return what is promised for the service that takes 60 to 180 s."""
    fixed, usual, adaptive = by["every 5 s"], by["usual"], by["adaptive"]
    where = f"of every 5 s, {EVENLY}"
    requests, delay = "requests, part", "mean delay of an end, part"
    return [
        Bound(f"default polling: {requests} {where}", usual.polls / fixed.polls, 0.65),
        # To two decimals: the two are equal but for chance.
        Bound(f"default polling: {delay} {where}", round(usual.delay / fixed.delay, 2), 1.0),
        Bound(f"adaptive polling: {requests} {where}", adaptive.polls / fixed.polls, 1.0),
        Bound(f"adaptive polling: {delay} {where}", adaptive.delay / fixed.delay, 0.5),
    ]


def growth() -> list[Plot]:
    """Return how delay and requests go with what was learned."""
    curves = {name: [after(policy, n) for n in LEARNED] for name, policy in POLICIES.items()}

    def lines(figure: Callable[[Seen], float]) -> dict[str, Sequence[tuple[float, float]]]:
        return {
            name: [(float(n), figure(seen)) for n, seen in zip(LEARNED, curve, strict=True)]
            for name, curve in curves.items()
        }

    learned = "ends seen before"
    return [
        Plot("Delay of an end", learned, "mean delay, s", lines(lambda seen: seen.delay)),
        Plot("Requests", learned, "requests per task", lines(lambda seen: seen.polls)),
    ]


def measure() -> Results:
    """Watch tasks of all services by all policies."""
    found = {
        service: {name: watch(policy, draw, LEARNING, TASKS) for name, policy in POLICIES.items()}
        for service, draw in SERVICES.items()
    }
    head = ("a task takes", "asked", "requests per task", "part", "mean delay of an end", "part")
    return Results(
        title="Polling",
        text=(
            f"{TASKS:,} tasks one after the other in virtual time, without a network: only the"
            " moments of the polls count. The parts are those of what asking every 5 s takes. The"
            f" first {LEARNING} tasks of each are for learning, and are not counted. The plots are"
            f" of tasks that take {EVENLY}, {COUNTED:,} for each point, watched by up to"
            f" {CLIENTS} clients that have seen so many ends before."
        ),
        tables=[Table(head, rows(found))],
        bounds=bounds(found[EVENLY]),
        plots=growth(),
    )


if __name__ == "__main__":
    results.run(measure)
