"""When a finish is found, and what that takes: every 5 s, by the usual policy, by the adaptive one.

Tasks one after the other in virtual time, without a network: only the moments of the polls count.
"""

import random
from collections.abc import Callable

import attrs

from veo_async.protocol.timetable import Timetable
from veo_async.settings import PollPolicy

TASKS = 20_000
LEARNING = 200  # tasks that are not counted
EVERY = 5.0  # spec: Integration Notes

SERVICES: dict[str, Callable[[random.Random], tuple[str, float]]] = {
    "60 to 180 s, evenly": lambda draw: ("veo3_fast", draw.uniform(60, 180)),
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


@attrs.frozen
class Seen:
    """Requests per task, and mean seconds from an end to the poll that sees it."""

    polls: float
    delay: float


def watch(
    timetable: Timetable | None, service: Callable[[random.Random], tuple[str, float]]
) -> Seen:
    """Watch many tasks; None asks every 5 s."""
    ends, chance = random.Random(1), random.Random(2)
    polls, delay = 0, 0.0
    for number in range(TASKS + LEARNING):
        kind, end = service(ends)
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
        if number >= LEARNING:
            polls += asked
            delay += age - end
    return Seen(polls / TASKS, delay / TASKS)


def main() -> None:
    """Print requests per task and mean delay, and both as parts of what asking every 5 s takes."""
    print("requests per task, mean delay of a finish (parts of those of every 5 s)")
    for name, service in SERVICES.items():
        fixed = watch(None, service)
        print(f"  {name}")
        for what, seen in {
            "every 5 s": fixed,
            "usual": watch(Timetable(PollPolicy()), service),
            "adaptive": watch(Timetable(PollPolicy.adaptive()), service),
        }.items():
            parts = f"{seen.polls / fixed.polls:.2f}, {seen.delay / fixed.delay:.2f}"
            print(f"    {what:10} {seen.polls:5.1f}  {seen.delay:5.2f} s  ({parts})")


if __name__ == "__main__":
    main()
