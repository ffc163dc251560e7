"""The JSON of `/api/v1/jobs`, the newer form of the live service (live document 2.13)."""

import json
from collections.abc import Mapping
from typing import Final

from veo_async.simulator.orders import JOB_MODEL_OF, JOB_NAMES
from veo_async.simulator.records import Kind, Reply, State, TaskView
from veo_async.simulator.shapes import envelope, millis

_WAITING_BELOW: Final = 5  # percent of the way, ours
_QUEUING_BELOW: Final = 10


def created(task_id: str) -> Reply:
    """`POST /api/v1/jobs/createTask`; `recordId` was recorded (live document 2.2)."""
    return Reply(envelope(200, "success", {"taskId": task_id, "recordId": task_id}))


def record(view: TaskView) -> dict[str, object]:
    """The `data` of `GET /api/v1/jobs/recordInfo`, and of a callback.

    What there is nothing for yet is an empty text, as the `resultJson` of a running task was
    recorded to be. `costTime` is in seconds, as recorded, not in the documents' milliseconds.
    """
    failure, is_over = view.failure, view.completed is not None
    return {
        "taskId": view.task_id,
        "model": JOB_MODEL_OF[view.order.kind],
        "state": _state(view),
        "param": _dumped(_param(view)),
        "resultJson": _dumped(_result(view)) if view.state is State.SUCCESS else "",
        "failCode": "" if failure is None else str(failure.code),
        "failMsg": "" if failure is None else failure.text,
        "costTime": None if view.completed is None else int(view.completed - view.created),
        "completeTime": millis(view.completed),
        "createTime": millis(view.created),
        "updateTime": millis(view.completed if is_over else view.now),
        "progress": view.progress,
        "creditsConsumed": 0 if failure is not None else view.credits,
    }


def callback(view: TaskView) -> dict[str, object]:
    """The envelope with the record in it."""
    if view.failure is not None:
        return envelope(view.failure.code, view.failure.text, record(view))
    return envelope(200, "success", record(view))


def _state(view: TaskView) -> str:
    if view.state is not State.GENERATING:
        return "success" if view.state is State.SUCCESS else "fail"
    if view.progress < _WAITING_BELOW:
        return "waiting"
    return "queuing" if view.progress < _QUEUING_BELOW else "generating"


def _result(view: TaskView) -> dict[str, object]:
    if view.resolution != "720p":
        files: dict[str, object] = {"result_urls": [view.url]}
        if view.origin_url is not None:
            files["origin_urls"] = [view.origin_url]
        if view.image_url is not None:
            files["image_urls"] = [view.image_url]
        return {"data": files}
    result: dict[str, object] = {"resultUrls": [view.url]}
    if view.whole_url is not None:
        result["fullResultUrls"] = [view.whole_url]
    return result


def _param(view: TaskView) -> Mapping[str, object]:
    """The request as it would have been in this form."""
    order = view.order
    values: Mapping[str, object] = {
        "taskId": order.base_id,
        "prompt": order.prompt,
        "model": order.model,
        "imageUrls": list(order.image_urls),
        "generationType": order.generation_type,
        "aspectRatio": order.ratio,
        "resolution": order.resolution,
        "duration": order.duration,
        "enableTranslation": order.enable_translation,
        "enableFallback": order.is_fallback,
        "seeds": order.seed,
        "watermark": order.watermark,
    }
    named = {"aspectRatio" if name == "aspect_ratio" else name for name in order.named}
    if order.kind.is_conversion:
        named = {"taskId"}
    names = {**JOB_NAMES, "taskId": "taskId"} if order.kind is Kind.UPGRADE else JOB_NAMES
    given = {
        names.get(name, name): value
        for name, value in values.items()
        if name in named or (name == "model" and order.kind is Kind.GENERATE)
    }
    param: dict[str, object] = {"model": JOB_MODEL_OF[order.kind], "input": given}
    if order.callback_url is not None:
        param["callBackUrl"] = order.callback_url
    return param


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
