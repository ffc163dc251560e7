"""The JSON of `/api/v1/jobs`, the newer form of the live service (live document 2.13)."""

from collections.abc import Mapping
from typing import Final

from veo_async.simulator.orders import JOB_MODEL_OF, JOB_NAMES, packed
from veo_async.simulator.records import Kind, Reply, State, TaskView
from veo_async.simulator.settings import Settings
from veo_async.simulator.shapes import envelope, millis

_WAITING_BELOW: Final = 5  # percent of the way, ours
_QUEUING_BELOW: Final = 10

# Documented for other models of this form, whose failures have a `failCode` of their own.
_COMPLETED: Final = (200, "Playground task completed successfully.")
_FAILED: Final = (501, "Playground task failed.")

# What a field is called in a request → what it is called here.
_SYNONYMS: Final[Mapping[str, str]] = {"aspect_ratio": "aspectRatio", "waterMark": "watermark"}


class JobShapes:
    """Bodies of `/api/v1/jobs`, with the fields of `record_fields`."""

    def __init__(self, settings: Settings) -> None:
        self._data = _recorded if settings.record_fields == "recorded" else _documented

    @staticmethod
    def created(task_id: str) -> Reply:
        """`POST /api/v1/jobs/createTask`; `recordId` was recorded (live document 2.2)."""
        return Reply(envelope(200, "success", {"taskId": task_id, "recordId": task_id}))

    def record(self, view: TaskView) -> Reply:
        """`GET /api/v1/jobs/recordInfo`."""
        return Reply(envelope(200, "success", self._data(view)))

    def callback(self, view: TaskView) -> dict[str, object]:
        """The record in an envelope that says no more than whether it went well."""
        if view.failure is None:
            return envelope(*_COMPLETED, self._data(view))
        return envelope(*_FAILED, {**self._data(view), "resultJson": None})


def _recorded(view: TaskView) -> dict[str, object]:
    """The record as it was recorded of another model in September 2026.

    No failed task was among the recordings: its `resultJson` is that of the documented callbacks,
    and its `successFlag` that of `/api/v1/veo`.
    """
    failure, model = view.failure, JOB_MODEL_OF[view.order.kind]
    param = view.order.sent or packed({**_param(view), "input": packed(_input(view))})
    data: dict[str, object] = {
        "taskId": view.task_id,
        "model": model,
        "state": "waiting" if view.state is State.GENERATING else _state(view),
        "param": param,
        "resultJson": None if failure is not None else _result_json(view),
        "failCode": None if failure is None else str(failure.code),
        "failMsg": None if failure is None else failure.text,
        "costTime": _cost_time(view),
        "completeTime": None if view.completed is None else round(view.completed * 1000),
        "createTime": round(view.created * 1000),
        "creditsConsumed": 0.0 if failure is not None else float(view.credits),
        "operationType": model,
        "successFlag": int(view.state),
        "paramJson": param,
    }
    if view.state is State.SUCCESS:
        data["response"] = _links(view)
    return data


def _documented(view: TaskView) -> dict[str, object]:
    """The record as documented; what there is nothing for yet is an empty text.

    `costTime` is in seconds, as recorded, not in the documents' milliseconds.
    """
    failure, is_over = view.failure, view.completed is not None
    return {
        "taskId": view.task_id,
        "model": JOB_MODEL_OF[view.order.kind],
        "state": _state(view),
        "param": packed({**_param(view), "input": _input(view)}),
        "resultJson": _result_json(view),
        "failCode": "" if failure is None else str(failure.code),
        "failMsg": "" if failure is None else failure.text,
        "costTime": _cost_time(view),
        "completeTime": millis(view.completed),
        "createTime": millis(view.created),
        "updateTime": millis(view.completed if is_over else view.now),
        "progress": view.progress,
        "creditsConsumed": 0 if failure is not None else view.credits,
    }


def _state(view: TaskView) -> str:
    if view.state is not State.GENERATING:
        return "success" if view.state is State.SUCCESS else "fail"
    if view.progress < _WAITING_BELOW:
        return "waiting"
    return "queuing" if view.progress < _QUEUING_BELOW else "generating"


def _cost_time(view: TaskView) -> int | None:
    return None if view.completed is None else int(view.completed - view.created)


def _result_json(view: TaskView) -> str:
    """Recorded: empty while there is none (live document 2.13)."""
    return packed(_result(view)) if view.state is State.SUCCESS else ""


def _result(view: TaskView) -> dict[str, object]:
    if view.resolution == "720p":
        return _links(view)
    files: dict[str, object] = {"result_urls": [view.url]}
    if view.origin_url is not None:
        files["origin_urls"] = [view.origin_url]
    if view.image_url is not None:
        files["image_urls"] = [view.image_url]
    return {"data": files}


def _links(view: TaskView) -> dict[str, object]:
    links: dict[str, object] = {"resultUrls": [view.url]}
    if view.whole_url is not None:
        links["fullResultUrls"] = [view.whole_url]
    return links


def _param(view: TaskView) -> dict[str, object]:
    """What was sent beside the input, had it been sent in this form."""
    param: dict[str, object] = {"model": JOB_MODEL_OF[view.order.kind]}
    if view.order.callback_url is not None:
        param["callBackUrl"] = view.order.callback_url
    return param


def _input(view: TaskView) -> dict[str, object]:
    """The input of a request, in the documented names."""
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
    named = {_SYNONYMS.get(name, name) for name in order.named}
    if order.kind.is_conversion:
        named = {"taskId"}
    names = {**JOB_NAMES, "taskId": "taskId"} if order.kind is Kind.UPGRADE else JOB_NAMES
    return {
        names.get(name, name): value
        for name, value in values.items()
        if name in named or (name == "model" and order.kind is Kind.GENERATE)
    }
