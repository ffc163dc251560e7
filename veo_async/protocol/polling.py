"""When to ask for a task next, and when to believe a bad answer."""

from veo_async.errors import AuthenticationError, NotFoundError, ValidationError, VeoError
from veo_async.settings import POLL_JITTER, UNKNOWN_ID_GRACE, PollPolicy

__all__: list[str] = []


def first_poll(policy: PollPolicy, age: float | None) -> float:
    """Return the seconds until a task's first poll.

    Args:
        policy: The intervals.
        age: Seconds since its submit; None for a task of an earlier process, asked for at once.
    """
    return 0.0 if age is None else max(0.0, policy.first_after - age)


def next_poll(interval: float, wait: float, chance: float) -> float:
    """Return the seconds until the next poll.

    Args:
        interval: Seconds between two polls.
        wait: Seconds that a failed poll asks for; the longer of the two counts.
        chance: A random number from 0 to 1, spread to a tenth either way.
    """
    jittered = interval * (1 - POLL_JITTER + 2 * POLL_JITTER * chance)
    return max(jittered, wait)


def is_final(error: VeoError, *, in_a_row: int, believed_after: int, age: float | None) -> bool:
    """Return whether a failed poll ends the watching of a task.

    One bad answer never does: a definite refusal counts only when it repeats, and an unknown id
    only when the task is old enough for the service to know it. Credits that ran out say nothing of
    a task that is paid already.

    Args:
        error: What the poll raised.
        in_a_row: How many definite refusals came in a row, this one included.
        believed_after: How many make it final.
        age: Seconds since the submit; None for a task of an earlier process.
    """
    if not isinstance(error, AuthenticationError | NotFoundError | ValidationError):
        return False
    if isinstance(error, NotFoundError) and age is not None and age < UNKNOWN_ID_GRACE:
        return False
    return in_a_row >= believed_after
