"""What the commands about one task do with a client."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, BinaryIO, TypeAlias, Unpack

import attrs

from veo_async.cli.errand import Errand
from veo_async.cli.options import Common
from veo_async.cli.output import Result, found, recorded, saved
from veo_async.cli.progress import Progress
from veo_async.cli.report import Reporter
from veo_async.cli.running import Job, screen_of
from veo_async.cli.session import opened
from veo_async.cli.trail import Film, Submit, Trail
from veo_async.client import VeoClient
from veo_async.errors import TaskTimeoutError
from veo_async.events import Event
from veo_async.models import TaskStatus, Video
from veo_async.request import ExtendFields, VideoRequest

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
        """Submit a request and bring its video, or its film."""
        self.progress.uploading(request)
        if request.extensions:
            made = veo.generate(request)
        else:
            task = await veo.submit(request)
            if not self.errand.is_awaited:
                return self._submitted()
            made = task.wait()
        result = await self._bring(veo, made)
        return result.evolve(seed=result.json["seed"] or request.seed)

    async def extend(self, veo: VeoClient, task_id: str, **fields: Unpack[ExtendFields]) -> Result:
        """Extend a task's video, once or more often, and bring the film."""
        self.progress.waiting(task_id)
        task = veo.task(task_id)
        prompts = self.errand.steps
        if not self.errand.is_awaited:
            await veo.extend(task, prompts[0], **fields)
            return self._submitted()

        async def film() -> Video:
            last = task
            for prompt in prompts:
                last = await veo.extend(last, prompt, **fields)
            return await last.wait()

        return await self._bring(veo, film())

    async def wait(self, veo: VeoClient, task_id: str) -> Result:
        """Wait for a task and bring its video."""
        task = veo.task(task_id)
        self.progress.waiting(task_id)
        return await self._bring(veo, task.wait())

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
        return await self._bring(veo, veo.task(task_id).wait())

    async def status(self, veo: VeoClient, task_id: str) -> Result:
        """Ask for a task once."""
        return recorded(await veo.status(task_id))

    async def balance(self, veo: VeoClient) -> Result:
        """Ask for the account's credits."""
        left = await veo.credits()
        return Result(f"{left.normalize():f}", {"credits": _number(left)})

    async def upload(
        self, veo: VeoClient, source: str | BinaryIO, named: str, name: str | None
    ) -> Result:
        """Upload a file, or what is behind a URL."""
        self.progress.uploading_file(named)
        url = await veo.upload(source, name=name)
        self.progress.uploaded()
        return Result(url, {"url": url, "source": named})

    def _submitted(self) -> Result:
        task_id = self.trail.task_id
        return self._paid(Result(task_id, {"task_id": task_id}))

    def _paid(self, result: Result) -> Result:
        tasks = {} if self.trail.film is None else {"tasks": [*self.trail.tasks]}
        return result.evolve(credits_at_most=self.errand.price, **tasks)

    async def _bring(self, veo: VeoClient, made: Coroutine[Any, Any, Video]) -> Result:
        video = await self._finished(veo, made)
        target = self.errand.target
        if not target.is_wanted:
            return self._paid(found(video))
        self.trail.is_upgrading = False
        self.trail.is_fetching = True
        file = await veo.download(video, target.path, overwrite=target.may_replace)
        return self._paid(saved(video, file))

    async def _finished(self, veo: VeoClient, made: Coroutine[Any, Any, Video]) -> Video:
        limit = asyncio.timeout(self.errand.timeout)
        try:
            async with limit:
                video = await made
                if self.errand.upgrade is None:
                    return video
                self.trail.is_upgrading = True
                self.progress.upgrading(self.errand.upgrade)
                if self.errand.upgrade == "4k":
                    return await veo.upgrade_4k(video)
                return await veo.upgrade_1080p(video)
        except TimeoutError:
            if not limit.expired():
                raise
        raise self._late()

    def _late(self) -> TaskTimeoutError:
        what = f"the {self.errand.upgrade} version of task" if self.trail.is_upgrading else "task"
        task_id = self.trail.task_id or "that was asked for"
        late = f"{what} {task_id} is not finished after {self.errand.timeout:g} s"
        why = self.progress.trouble or "it goes on at the service"
        return TaskTimeoutError(f"{late}: {why}; wait again", task_id=self.trail.task_id or "")


def _number(value: Decimal) -> int | float:
    return int(value) if value == int(value) else float(value)


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
    film = Film([*errand.steps], errand.repeated) if errand.steps else None
    trail = Trail(
        options=(*errand.target.repeated, *common.repeated),
        task_id=errand.task_id,
        upgrade=errand.upgrade,
        film=film,
        is_free=errand.is_free,
        is_simulated=common.is_simulated,
    )
    screen = screen_of(common)
    tasks = len(errand.steps) + (errand.task_id is None)
    steps = tasks if film is not None and tasks > 1 else 0
    progress = Progress(
        screen,
        time.monotonic,
        speed=common.speed,
        is_simulated=common.is_simulated,
        is_awaited=errand.is_awaited,
        steps=steps,
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
        if steps:
            credit = "of play money" if common.is_simulated else "in all"
            screen.say(f"A film in {steps} steps, at most {errand.price} credits {credit}")
        session = opened(
            common,
            job.on_event,
            patience=errand.timeout,
            play_money=errand.price,
            needs_live=errand.needs_live,
        )
        async with session as veo:
            job.result = await work(worker, veo)
        return job.result

    return job.run(with_client)
