"""What the commands about one task do with a client."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import attrs

from veo_async.cli.errand import Errand
from veo_async.cli.options import Common
from veo_async.cli.output import Result, found, recorded, saved
from veo_async.cli.progress import Progress
from veo_async.cli.report import Reporter
from veo_async.cli.running import Job, screen_of
from veo_async.cli.session import opened
from veo_async.cli.trail import Submit, Trail
from veo_async.client import VeoClient
from veo_async.errors import TaskTimeoutError
from veo_async.events import Event
from veo_async.models import TaskStatus, Video
from veo_async.prices import DEARER
from veo_async.request import VideoRequest
from veo_async.task import VideoTask

__all__: list[str] = []


@attrs.frozen(kw_only=True)
class Worker:
    """Does a command's work, and leaves a trail of it.

    Attributes:
        errand: What is wanted.
        progress: What is shown.
        trail: What is known of it.
    """

    errand: Errand
    progress: Progress
    trail: Trail

    async def generate(self, veo: VeoClient, request: VideoRequest) -> Result:
        """Submit a request and bring its video."""
        task = await veo.submit(request)
        result = await self._bring(veo, task)
        paid = DEARER.of(request) + (DEARER.upgrade_1080p if self.errand.upgrade else 0)
        return result.evolve(seed=result.json["seed"] or request.seed, credits_at_most=paid)

    async def wait(self, veo: VeoClient, task_id: str) -> Result:
        """Wait for a task and bring its video."""
        task = veo.task(task_id)
        self.progress.waiting(task_id)
        result = await self._bring(veo, task)
        paid = DEARER.upgrade_1080p if self.errand.upgrade else 0
        return result.evolve(credits_at_most=paid)

    async def download(self, veo: VeoClient, task_id: str) -> Result:
        """Bring the video of a task that is finished.

        Raises:
            TaskTimeoutError: It is not finished.
        """
        record = await veo.status(task_id)
        if record.status is TaskStatus.GENERATING:
            raise TaskTimeoutError(
                f"task {task_id} is not finished yet; wait for it instead", task_id=task_id
            )
        result = await self._bring(veo, veo.task(task_id))
        return result.evolve(credits_at_most=0)

    async def status(self, veo: VeoClient, task_id: str) -> Result:
        """Ask for a task once."""
        return recorded(await veo.status(task_id))

    async def _bring(self, veo: VeoClient, task: VideoTask) -> Result:
        video = await self._finished(veo, task)
        target = self.errand.target
        if not target.is_wanted:
            return found(video)
        self.trail.is_upgrading = False
        self.trail.is_fetching = True
        return saved(video, await veo.download(video, target.path, overwrite=target.may_replace))

    async def _finished(self, veo: VeoClient, task: VideoTask) -> Video:
        limit = asyncio.timeout(self.errand.timeout)
        try:
            async with limit:
                video = await task.wait()
                if self.errand.upgrade is None:
                    return video
                self.trail.is_upgrading = True
                self.progress.upgrading()
                return await veo.upgrade_1080p(video)
        except TimeoutError:
            if not limit.expired():
                raise
        raise self._late(task)

    def _late(self, task: VideoTask) -> TaskTimeoutError:
        what = "the 1080p version of task" if self.trail.is_upgrading else "task"
        late = f"{what} {task.id} is not finished after {self.errand.timeout:g} s"
        why = self.progress.trouble or "it goes on at the service"
        return TaskTimeoutError(f"{late}: {why}; wait again", task_id=task.id)


@attrs.define(kw_only=True)
class TaskJob(Job):
    """A command about one task on its way.

    Attributes:
        trail: What is known of the work.
        progress: What is shown of it.
    """

    trail: Trail
    progress: Progress

    def on_event(self, event: Event) -> None:
        """Take an event of the client."""
        self.trail.note(event)
        self.progress(event)

    def say_stopping(self) -> None:
        """Say that the answer to the submit is waited for, if it is on the wire."""
        if self.trail.submit is Submit.LEAVING:
            self.progress.stopping()


Work: TypeAlias = Callable[[Worker, VeoClient], Coroutine[Any, Any, Result]]


def run(common: Common, errand: Errand, work: Work) -> int:
    """Do the work of a command with a client of its own, and return the exit code."""
    trail = Trail(
        options=(*errand.target.repeated, *common.repeated),
        task_id=errand.task_id,
        upgrade=errand.upgrade,
        is_simulated=common.is_simulated,
    )
    screen = screen_of(common)
    progress = Progress(
        screen, time.monotonic, speed=common.speed, is_simulated=common.is_simulated
    )
    job = TaskJob(
        common=common,
        screen=screen,
        reporter=Reporter(common=common, screen=screen, trail=trail),
        trail=trail,
        progress=progress,
    )
    worker = Worker(errand=errand, progress=progress, trail=trail)

    async def with_client() -> Result:
        if common.is_simulated:
            job.screen.say(
                f"Simulated: nothing is sent or paid, time runs {common.speed:g} times faster"
            )
        async with opened(common, job.on_event, patience=errand.timeout) as veo:
            job.result = await work(worker, veo)
        return job.result

    return job.run(with_client)
