"""The simulator, served until a signal."""

import asyncio
from typing import cast

from veo_async.cli import output
from veo_async.cli.errand import SimulatorSettings
from veo_async.cli.options import Common
from veo_async.cli.output import Result
from veo_async.cli.report import Reporter
from veo_async.cli.running import Job, screen_of
from veo_async.cli.trail import Trail
from veo_async.errors import ConfigurationError
from veo_async.settings import BASE_URL_VARIABLE, KEY_VARIABLE
from veo_async.simulator import Dialect, Simulator
from veo_async.simulator.settings import DEFAULT_KEY

__all__: list[str] = []


def serve(common: Common, settings: SimulatorSettings) -> int:
    """Serve a simulator, and return the exit code once a signal has ended it.

    Raises:
        ConfigurationError: The settings make no sense.
    """
    simulator = _made(settings)
    screen = screen_of(common)
    reporter = Reporter(common=common, screen=screen, trail=Trail())
    job = Job(common=common, screen=screen, reporter=reporter)

    async def until_stopped() -> Result | None:
        try:
            async with simulator:
                _announce(job, simulator, settings["dialect"])
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            job.screen.say(_bill(simulator))
        return None

    return job.run(until_stopped)


def _made(settings: SimulatorSettings) -> Simulator:
    try:
        simulator = Simulator(
            dialect=cast("Dialect", settings["dialect"]),
            time_scale=settings["time_scale"],
            credits=settings["money"],
            faults=settings["faults"],
            port=settings["port"],
            host=settings["host"],
            api_key=settings["key"] or DEFAULT_KEY,
            webhook_key=settings["webhook_key"] or None,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return simulator


def _announce(job: Job, simulator: Simulator, dialect: str) -> None:
    job.screen.say("Serving until Ctrl-C. Put these lines into another terminal:")
    if job.common.is_json:
        text = output.dumped({"api_key": simulator.api_key, "base_url": simulator.base_url})
    else:
        text = (
            f"export {KEY_VARIABLE}={simulator.api_key}\n"
            f"export {BASE_URL_VARIABLE}={simulator.base_url}"
        )
    output.write(text)
    speed = simulator.time_scale
    more = "" if speed in {0, 1} else f" --time-scale {speed:g}"
    more += " --dialect jobs" if dialect == Dialect.JOBS else ""
    job.screen.say(f'and then, for instance: veo-async generate "A paper boat on a river"{more}')


def _bill(simulator: Simulator) -> str:
    ledger = simulator.ledger
    films = ("generate", "extend")
    videos = sum(post.outcome == "accepted" and post.kind in films for post in ledger.posts)
    return f"Stopped. Videos made: {videos}, play money spent: {ledger.spent} credits"
