"""Films: a video and its extensions, one paid task after the other, each from the one before."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Final

import attrs

from veo_async.api import NO_SUCH_PATH, Api
from veo_async.errors import (
    APIError,
    ClientClosedError,
    NotFoundError,
    SubmitUncertainError,
    TaskTimeoutError,
    VeoError,
)
from veo_async.models import Video
from veo_async.prices import Budget
from veo_async.request import ExtendRequest, PaidRequest, VideoRequest
from veo_async.submit import warn_of_orphan
from veo_async.task import VideoTask

__all__: list[str] = []

_log = logging.getLogger(__name__)


def steps_of(request: VideoRequest) -> int:
    """Return how many paid tasks a request takes."""
    return 1 + len(request.extensions)


def first_of(request: VideoRequest) -> VideoRequest:
    """Return what the first paid task of a request is asked for."""
    return request if request.extend_to is None else request.evolve(extend_to=None)


def step_of(request: VideoRequest, done: int, film_id: str | None) -> PaidRequest:
    """Return what the next paid task of a request is asked for.

    What an extension can be told it is told as well, but for `extra`: those are fields of another
    call, which might refuse them once the first task is paid.

    Args:
        request: The request.
        done: How many of its tasks are done.
        film_id: The last one of those.
    """
    if not done:
        return first_of(request)
    return ExtendRequest(
        film_id or "",  # refused; what is done is not to be paid again
        request.extensions[done - 1],
        model=request.model,
        seed=request.seed,
        callback_url=request.callback_url,
        watermark=request.watermark,
    )


def at_step(error: VeoError, request: VideoRequest, done: int, film_id: str | None) -> VeoError:
    """Return an error that says at which step a film ended, and what there is of it."""
    if not request.extensions or done == steps_of(request):
        return error
    text = f"step {done + 1} of {steps_of(request)} of the film: {error}"
    if film_id is not None:
        text = f"{text.rstrip('.')}. {so_far(film_id, _unless(error, film_id))}"
    told = copy(error).with_traceback(error.__traceback__)  # others may have met the same one
    told.args, told.__cause__ = (text,), error.__cause__
    return told


def so_far(film_id: str, unless: str | None = None) -> str:
    """Return what can be done with a film that is not finished.

    Args:
        film_id: The last task that is done.
        unless: What must be so before its next step may be paid again; None where it is.
    """
    paid = f"The film so far is task {film_id}, which is paid"
    way = f"go on from it with veo.extend({film_id!r}, prompt)"
    return f"{paid}: download it, or {way}" if unless is None else f"{paid}; only {unless}, {way}"


_NO_TASK: Final = "where there is no task of this step"


def _no_video(task_id: str) -> str:
    return f"where task {task_id} comes to nothing"


def _unless(error: VeoError, film_id: str) -> str | None:
    """Return what must be so before the step that ended with an error may be paid again."""
    if isinstance(error, SubmitUncertainError):
        return _NO_TASK
    if isinstance(error, APIError | TaskTimeoutError | ClientClosedError):
        return None if error.task_id in {None, film_id} else _no_video(str(error.task_id))
    return None


async def explained(
    api: Api, request: PaidRequest, error: NotFoundError
) -> tuple[NotFoundError, bool]:
    """Return what a 404 of a create means, and whether it is the call that is unknown.

    The spec's service extends nothing, and the live one says 404 of an original that is not there
    (live document 2.7).
    """
    if not isinstance(request, ExtendRequest) or error.code != NO_SUCH_PATH:
        return error, False
    base = error.task_id = request.task_id
    try:
        await api.repeated("record-info", base, lambda: api.record_info(base))
    except NotFoundError as unknown:
        return unknown, False
    except VeoError:
        return error, False
    if error.http_status != NO_SUCH_PATH:  # a path is missing in HTTP, one original in the envelope
        return error, False
    unable = NotFoundError(
        f"the service knows task {base} and answered 404 to its extension ({error.message}), so it"
        " has no such call, as the spec's has none; use a service that extends videos, or leave the"
        " extensions out",
        message=error.message,
        code=error.code,
        http_status=error.http_status,
        task_id=base,
    )
    return unable, True


@attrs.define
class Share(Budget):
    """A part of a budget that is set aside for one film, so that nothing else ends it halfway.

    Attributes:
        whole: What it was taken from.
        is_open: Whether more may be promised of it.
    """

    whole: Budget = attrs.field(factory=Budget)
    is_open: bool = True

    @classmethod
    def of(cls, whole: Budget, credits_: int) -> "Share":
        """Set a part aside.

        Raises:
            BudgetExceededError: There is not so much left.
        """
        whole.commit(credits_)
        return cls(credits_, whole=whole)

    def release(self, credits_: int) -> None:
        """Take a promise back: nothing was charged."""
        super().release(credits_)
        if not self.is_open:
            self.whole.release(credits_)

    def close(self) -> None:
        """Give back what is not promised, and whatever is taken back later."""
        self.is_open = False
        self.whole.release((self.most or 0) - self.committed)


async def filmed(
    request: VideoRequest, submit: Callable[[PaidRequest], Awaitable[VideoTask]]
) -> Video:
    """Make a video, extend it as far as its request says, and return the last extension's video.

    Raises:
        VeoError: What `submit` and `VideoTask.wait` raise, which says at which step.
    """
    done, film_id = 0, None
    while True:
        task: VideoTask | None = None
        try:
            task = await submit(step_of(request, done, film_id))
            video = await task.wait()
        except VeoError as error:
            told = at_step(error, request, done, film_id)
            raise told from told.__cause__
        except asyncio.CancelledError:
            if task is not None:
                warn_of_orphan(task.id)
            if film_id is not None:
                _log.warning(
                    "the caller left a film at step %d of %d. %s",
                    done + 1,
                    steps_of(request),
                    so_far(film_id, _NO_TASK if task is None else _no_video(task.id)),
                    extra={"task_id": film_id},
                )
            raise
        done, film_id = done + 1, task.id
        if done == steps_of(request):
            ratio = video.aspect_ratio or request.aspect_ratio
            return attrs.evolve(video, aspect_ratio=ratio)
