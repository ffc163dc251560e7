"""The jobs of queues: one key is one task and one payment, however often and wherever it comes."""

import asyncio
from pathlib import Path

import anyio

from veo_async.journal import JournalPlace
from veo_async.results import JobResult
from veo_async.runtime import Runtime
from veo_async.workshop import Wanted, Workshop, closed

__all__: list[str] = []


class Keyed:
    """The jobs of one client, in all journals that it was given."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._workshops: dict[tuple[object, Path], asyncio.Task[Workshop]] = {}

    async def run(self, wanted: Wanted, *, folder: Path, place: JournalPlace) -> JobResult:
        """Bring a job to where it is wanted; `VeoClient.run_job` describes it."""
        workshop = await self._workshop(folder, place)
        return await workshop.run(wanted)

    async def _workshop(self, folder: Path, place: JournalPlace) -> Workshop:
        known = (place, folder)
        opening = self._workshops.get(known)
        if opening is None:
            opening = self._runtime.owned.spawn(Workshop.open(self._runtime, folder, place))
            self._workshops[known] = opening
        await asyncio.wait({opening})
        if opening.cancelled():
            raise closed()
        try:
            return opening.result()
        except BaseException:
            if self._workshops.get(known) is opening:
                del self._workshops[known]  # the next one tries again
            raise

    async def aclose(self) -> None:
        """Let go of the journals, once nothing is under way any more."""
        opened = [
            opening.result()
            for opening in self._workshops.values()
            if opening.done() and not opening.cancelled() and opening.exception() is None
        ]
        self._workshops.clear()
        async with anyio.create_task_group() as closing:
            for workshop in opened:
                closing.start_soon(workshop.aclose)
