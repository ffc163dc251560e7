"""When tasks have finished so far, and so when it is worth asking for the next one.

Tasks of one kind (model, resolution) take about as long as each other. What is known of the last
ones says before which age there is nothing to be found, and, for those who want the result sooner
at the same number of requests, where a finish is likely.
"""

import math
from array import array
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Final

import attrs

from veo_async.protocol import polling
from veo_async.settings import PollPolicy

__all__: list[str] = []

REMEMBERED: Final = 400  # ends of one kind: a change of the service's speed is learned within them
KINDS: Final = 64  # of tasks; there are about ten
ENOUGH: Final = 20  # ends, before anything is concluded from them
_EARLY: Final = 0.02  # of all tasks may be seen late because none was expected so soon
_MARGIN: Final = 0.9  # of the age before which so few ended, for those who want no finish later
_CLOSE_MARGIN: Final = 0.95  # for those who spend what that saves where a finish is likely
_GROUPS: Final = 14  # of ends, between which the likelihood of a finish may differ
_BOUNDS: Final = (0.1, 6.0)  # of the usual interval: the live document suggests 30 s (2.4)
_SPENT: Final = 0.98  # of the usual interval's requests, so that there are never more in the end


@attrs.frozen
class _Stretch:
    """Ages at which tasks are asked for equally often.

    Attributes:
        until: Its end, in seconds since the submit.
        interval: Seconds between two polls.
    """

    until: float
    interval: float


@attrs.frozen
class _Plan:
    """When to ask for a task of one kind.

    Attributes:
        earliest: The age before which there is nothing to be found.
        stretches: How often it is asked for from then on; the usual interval after the last one.
    """

    earliest: float
    stretches: tuple[_Stretch, ...] = ()


def _seconds() -> "array[float]":
    return array("d")  # a quarter of the memory of a list


@attrs.define
class _Kind:
    """What the last tasks of one kind took.

    Attributes:
        last_seen: The age at which each was last seen to run.
        ended: The age at which its end was seen.
        plan: What follows from that, once somebody asked.
    """

    last_seen: "array[float]" = attrs.field(factory=_seconds)
    ended: "array[float]" = attrs.field(factory=_seconds)
    plan: _Plan | None = None

    def note(self, last_seen: float, ended: float) -> None:
        """Take in one more."""
        for ages, age in ((self.last_seen, last_seen), (self.ended, ended)):
            ages.append(age)
            del ages[:-REMEMBERED]
        self.plan = None


class Timetable:
    """Says when to ask for tasks, and learns from their ends.

    Args:
        policy: The intervals.
    """

    def __init__(self, policy: PollPolicy) -> None:
        self._policy = policy
        self._kinds: dict[Hashable, _Kind] = {}

    def first(self, kind: Hashable, age: float | None) -> float:
        """Return the seconds until a task's first poll.

        Args:
            kind: What tasks that take equally long have in common.
            age: Seconds since its submit; None for a task of an earlier process, asked for at once.
        """
        wait = polling.first_poll(self._policy, age)
        plan = self._plan_of(kind)
        if age is None or plan is None:
            return wait
        return max(wait, plan.earliest - age)

    def next(self, kind: Hashable, age: float | None, wait: float, chance: float) -> float:
        """Return the seconds until the next poll.

        Args:
            kind: What tasks that take equally long have in common.
            age: Seconds since its submit, if that is known.
            wait: Seconds that a failed poll asks for; the longer of the two counts.
            chance: A random number from 0 to 1.
        """
        return polling.next_poll(self._interval(kind, age), wait, chance)

    def _interval(self, kind: Hashable, age: float | None) -> float:
        plan = self._plan_of(kind)
        if age is not None and plan is not None:
            for stretch in plan.stretches:
                if age < stretch.until:
                    return stretch.interval
        return self._policy.interval

    def note(self, kind: Hashable, last_seen: float, ended: float) -> None:
        """Learn from the end of a task.

        Args:
            kind: What tasks that take equally long have in common.
            last_seen: Its age when it was last seen to run, in seconds since its submit.
            ended: Its age when its end was seen.
        """
        known = self._kinds.setdefault(kind, _Kind())
        known.note(last_seen, ended)
        while len(self._kinds) > KINDS:
            del self._kinds[next(iter(self._kinds))]

    def _plan_of(self, kind: Hashable) -> _Plan | None:
        known = self._kinds.get(kind)
        if known is None or len(known.ended) < ENOUGH:
            return None
        if known.plan is None:
            known.plan = self._planned(known)
        return known.plan

    def _planned(self, kind: _Kind) -> _Plan:
        # It ended after it was last seen to run: that age is certain, the other one is late.
        seen = sorted(kind.last_seen)
        expected = seen[int(_EARLY * len(seen))]
        if not self._policy.is_adaptive:
            return _Plan(_MARGIN * expected)
        ages = sorted(
            (one + other) / 2 for one, other in zip(kind.last_seen, kind.ended, strict=True)
        )
        earliest = _CLOSE_MARGIN * expected
        return _Plan(earliest, self._stretches(earliest, ages))

    def _stretches(self, earliest: float, ages: Sequence[float]) -> tuple[_Stretch, ...]:
        """Return how often to ask, so that the end is found soonest at the same cost.

        Asking every d seconds while a share S of the tasks still runs costs S/d requests a second,
        and finds the share f that ends in that second after d/2. The sum of delays is least where d
        goes with the root of S/f.
        """
        groups = min(_GROUPS, len(ages) // 5)
        ends = [ages[len(ages) * group // groups - 1] for group in range(1, groups + 1)]
        widths = [max(end - start, 0.0) for start, end in pairwise([earliest, *ends])]
        running = [1 - (group + 0.5) / groups for group in range(groups)]
        roots = [
            math.sqrt(width * share * groups) for width, share in zip(widths, running, strict=True)
        ]
        cost = sum(
            share * width / root
            for width, share, root in zip(widths, running, roots, strict=True)
            if root
        )
        # Half a poll more is the last one, which both have; one more goes to the earliest age.
        budget = _SPENT * sum(ages) / len(ages) / self._policy.interval - 0.5
        scale = cost / max(budget, 1.0)
        least, most = (share * self._policy.interval for share in _BOUNDS)
        return tuple(
            _Stretch(until, min(max(scale * root, least), most))
            for until, root in zip(ends, roots, strict=True)
        )
