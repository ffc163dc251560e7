"""One paid request of a caller, from its promise in the budget to its task."""

import asyncio

from veo_async.errors import ClientClosedError, NotFoundError, SubmitUncertainError
from veo_async.films import explained
from veo_async.prices import DEARER, Budget
from veo_async.protocol import codec
from veo_async.request import PaidRequest
from veo_async.runtime import Runtime
from veo_async.submit import Submission, uncertain, warn_of_orphan, with_token
from veo_async.task import VideoTask

__all__: list[str] = []


async def paid(runtime: Runtime, request: PaidRequest, budget: Budget) -> VideoTask:
    """Submit a request, once it has a slot, and return its task.

    Args:
        runtime: The client's parts.
        request: What is asked for.
        budget: What its price is promised from.

    Raises:
        VeoError: What `VeoClient.submit` raises.
    """
    settings = runtime.settings
    key = settings.new_token()
    if request.callback_url is None and settings.callback_url is not None:
        request = request.evolve(callback_url=with_token(settings.callback_url, key))
    codec.check(request)
    job = Submission(key=key, request=request)
    budget.commit(DEARER.of(request))
    try:
        return await runtime.owned.call(
            _sent(runtime, job, budget), may_be_withdrawn=lambda: job.may_be_withdrawn
        )
    except NotFoundError as error:
        why, _ = await explained(runtime.api, request, error)
        if why is error:
            raise
        raise why from error
    except ClientClosedError:
        if job.task_id is not None:
            return runtime.watcher.attach(job.task_id)
        if job.may_be_withdrawn:
            raise
        raise uncertain(job, "the client was closed before it came") from None
    except asyncio.CancelledError:
        job.is_orphan = True
        if job.task_id is not None:
            warn_of_orphan(job.task_id)
        raise


async def _sent(runtime: Runtime, job: Submission, budget: Budget) -> VideoTask:
    """Carry a submit to its task, in a task that outlives whoever waits."""

    def begin(task_id: str) -> VideoTask:
        return runtime.watcher.begin(task_id, job.key, job.request)

    try:
        job.request = await runtime.images.uploaded(job.request)
        return await runtime.submitter.run(job, begin)
    except SubmitUncertainError:
        runtime.listen_for(job)
        raise
    finally:
        if job.may_be_withdrawn:
            budget.release(DEARER.of(job.request))
