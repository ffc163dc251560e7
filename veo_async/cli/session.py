"""The client of one command: of the service, or of a simulator that lasts as long as the command.

Loaded when a command runs, since it loads the client.
"""

import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from veo_async.cli.options import Common
from veo_async.client import VeoClient
from veo_async.events import Observer
from veo_async.models import Dialect
from veo_async.settings import MAX_TASKS, RetryPolicy, Timeouts, at_speed

if TYPE_CHECKING:
    from veo_async.simulator import Simulator

__all__: list[str] = []

_PLAY_MONEY: Final = 10_000  # as much as `simulate` gives
_SHORTEST_TASK: Final = 30.0  # seconds: a simulator has to be scheduled, too


@asynccontextmanager
async def opened(
    common: Common,
    on_event: Observer,
    *,
    patience: float | None = None,
    max_tasks: int = MAX_TASKS,
    play_money: int = 0,
    needs_live: bool = False,
) -> AsyncGenerator[VeoClient]:
    """Open the client that a command's options ask for.

    Args:
        common: The options.
        on_event: Who listens to the client.
        patience: Seconds that the command may wait, if they are limited.
        max_tasks: Tasks that may run at once.
        play_money: Credits that a simulated account must have at least.
        needs_live: Whether a simulator of the spec would not do.

    Raises:
        ConfigurationError: The key or the host cannot be used.
    """
    async with AsyncExitStack() as stack:
        key, base_url, upload_url = common.api_key, common.base_url, common.upload_url
        if common.is_simulated:
            simulator = _simulator(common, play_money, needs_live=needs_live)
            await stack.enter_async_context(simulator)
            key, base_url, upload_url = simulator.api_key, simulator.base_url, None
        poll, pace = at_speed(common.speed)
        veo = VeoClient(
            key,
            base_url=base_url,
            upload_url=upload_url,
            dialect=common.dialect,
            max_tasks=max_tasks,
            poll=poll,
            pace=pace,
            retry=_retry(patience),
            timeouts=_timeouts(patience, common.speed),
            on_event=on_event,
        )
        yield await stack.enter_async_context(veo)


def _simulator(common: Common, play_money: int, *, needs_live: bool) -> "Simulator":
    from veo_async.simulator import Dialect as Served  # noqa: PLC0415
    from veo_async.simulator import Simulator  # noqa: PLC0415  # only where it is wanted

    usual = Served.LIVE if needs_live else Served.SPEC
    return Simulator(
        dialect=usual if common.dialect is Dialect.AUTO else Served(common.dialect),
        time_scale=common.speed,
        # Ids of its own each time, or one run would overwrite the file of the one before.
        seed=secrets.randbelow(2**32),
        credits=max(play_money, _PLAY_MONEY),
    )


def _retry(patience: float | None) -> RetryPolicy:
    """Return a policy that is not more patient than its user, should submits be turned away."""
    usual = RetryPolicy()
    return RetryPolicy(refused_for=min(usual.refused_for, patience or usual.refused_for))


def _timeouts(patience: float | None, speed: float) -> Timeouts:
    """Return limits that do not stop who is ready to wait longer.

    A task's ages are the service's time, which may run faster; a connection's are ours.
    """
    usual = Timeouts()
    task = max(usual.task / speed, _SHORTEST_TASK)
    return Timeouts(task=max(task, patience or task), uncertain=usual.uncertain / speed)
