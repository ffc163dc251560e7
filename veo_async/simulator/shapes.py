"""The JSON of the two dialects. That of the newer calls of the live service is in `jobs.py`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, TypeAlias

import attrs

from veo_async.simulator.problems import (
    AT_THE_DOOR,
    CONVERTING_TEXTS,
    LIVE_PROBLEMS,
    RECORD_IS_NULL,
    SPEC_PROBLEMS,
    Problem,
)
from veo_async.simulator.records import Dialect, Kind, Reply, State, TaskView
from veo_async.simulator.settings import Settings

# Literal texts of the live document, 2.6 and 2.8.
_CONVERTING_4K: Final = (
    "4k is processing. It should be ready in 5-10 minutes. Please check back shortly."
)
_CONVERTED_4K: Final = "The video has been generated successfully"
_GENERATED: Final = "Veo3.1 video generated successfully"
_EXTENDED: Final = "Veo3.1 video extension successful"

# `unknown_task` "null": asking about a task is answered so, asking something of it is not.
_POLLED: Final = frozenset({Problem.UNKNOWN_RECORD, Problem.UNKNOWN_JOB})
_NO_RECORD: Final = frozenset({Problem.UNKNOWN_RECORD, Problem.UNKNOWN_TASK})


def envelope(code: int, msg: str, data: object) -> dict[str, object]:
    """Spec: Response; live document 2.1."""
    return {"code": code, "msg": msg, "data": data}


def iso(moment: float | None) -> str | None:
    """Epoch seconds as the spec's samples write times."""
    if moment is None:
        return None
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def millis(moment: float | None) -> int | None:
    """Epoch seconds as the live service writes times: ms of a whole second (2.4)."""
    return None if moment is None else int(moment) * 1000


class SpecShapes:
    """Bodies of the spec. The HTTP status equals the code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def problem(self, problem: Problem, text: str | None = None, *, task_id: str = "") -> Reply:
        """Spec: Error Codes; its words name no task."""
        _ = task_id
        code, words = SPEC_PROBLEMS[problem]
        return self.refusal(code, text or words)

    def refusal(self, code: int, text: str) -> Reply:
        """An error envelope of any code."""
        after = self._settings.retry_after if code == HTTPStatus.TOO_MANY_REQUESTS else None
        return Reply(envelope(code, text, None), http=_http(code), retry_after=after)

    def created(self, task_id: str) -> Reply:
        """Spec: Create Task, Response."""
        return Reply(envelope(200, "success", {"taskId": task_id}))

    def record(self, view: TaskView) -> Reply:
        """Spec: Check Status, Response; running tasks have null where there is nothing yet."""
        if view.state is State.GENERATING and self._settings.running_as == "code":
            return self.problem(Problem.GENERATING)
        return Reply(envelope(200, "success", self._record(view)))

    def upgraded(self, view: TaskView) -> Reply:
        """The spec gives no body for the 1080P call: the status answer, with the new file."""
        return Reply(envelope(200, "success", self._record(view)))

    def callback(self, view: TaskView) -> dict[str, object]:
        """Spec: Webhook Callback; it has no failure body, so a failure is status 2 and no URL."""
        return {
            "taskId": view.task_id,
            "status": int(_spec_state(view.state)),
            "videoUrl": view.url,
            "duration": view.order.duration,
            "completedAt": iso(view.completed),
        }

    @staticmethod
    def _record(view: TaskView) -> dict[str, object]:
        return {
            "taskId": view.task_id,
            "status": int(_spec_state(view.state)),
            "videoUrl": view.url,
            "duration": view.order.duration,
            "resolution": view.resolution,
            "aspectRatio": view.order.shape,
            "createdAt": iso(view.created),
            "completedAt": iso(view.completed),
        }


class LiveShapes:
    """Bodies of the live service. The verdict is in the body, usually under HTTP 200 (2.1)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def problem(self, problem: Problem, text: str | None = None, *, task_id: str = "") -> Reply:
        """Live document, section 4."""
        settings = self._settings
        if problem in _POLLED and settings.unknown_task == "null":
            return Reply(envelope(200, "success", None))
        code, words = LIVE_PROBLEMS[problem]
        if problem is Problem.CONVERTING and settings.converting_code in CONVERTING_TEXTS:
            code, words = settings.converting_code, CONVERTING_TEXTS[settings.converting_code]
        if problem in _NO_RECORD and settings.unknown_task == "record is null":
            code, words = RECORD_IS_NULL
        reply = self.refusal(code, text or words.replace("{task_id}", task_id))
        return attrs.evolve(reply, http=code) if problem in AT_THE_DOOR else reply

    def refusal(self, code: int, text: str, data: object = None) -> Reply:
        """An error envelope of any code; section 2.12 documents HTTP 429."""
        limited = code == HTTPStatus.TOO_MANY_REQUESTS
        real = limited or self._settings.error_status == "http"
        return Reply(
            envelope(code, text, data),
            http=_http(code) if real else 200,
            retry_after=self._settings.retry_after if limited else None,
        )

    def created(self, task_id: str) -> Reply:
        """Live document 2.2, 2.7."""
        return Reply(envelope(200, "success", {"taskId": task_id}))

    def record(self, view: TaskView) -> Reply:
        """Live document 2.4; `failure_in` "envelope" is the older way it lists for failures."""
        failure = view.failure
        if failure is not None and self._settings.failure_in == "envelope":
            return self.refusal(failure.code, failure.text)
        data: dict[str, object] = {
            "taskId": view.task_id,
            "paramJson": param_json(view),
            "completeTime": self._moment(view.completed),
            "response": self._response(view),
            "successFlag": int(view.state),
            "fallbackFlag": view.order.is_fallback,
            "createTime": self._moment(view.created),
            "errorCode": None if failure is None else failure.code,
            "errorMessage": _message(view),
        }
        if view.order.kind is Kind.UPGRADE_4K:
            del data["fallbackFlag"]
        if self._settings.result_urls == "text":
            del data["response"]
            data.update(self._urls(view) if view.state is State.SUCCESS else {})
        return Reply(envelope(200, "success", data))

    def upgraded(self, view: TaskView) -> Reply:
        """Live document 2.5."""
        return Reply(envelope(200, "success", {"resultUrl": view.url}))

    def upgrading_4k(self, task_id: str, *, is_new: bool) -> Reply:
        """Live document 2.6: the answer to the first call, and to others until it is ready."""
        data = {"taskId": task_id, "resultUrls": None, "imageUrls": None}
        if is_new:
            return Reply(envelope(200, "success", data))
        return self.refusal(422, _CONVERTING_4K, data)

    def upgraded_4k(self, view: TaskView) -> Reply:
        """Live document 2.6: the files come with a code 422."""
        if view.failure is not None:
            return self.refusal(view.failure.code, view.failure.text)
        data = {
            "taskId": view.task_id,
            "resultUrls": _listed(view.url),
            "imageUrls": _listed(view.image_url),
        }
        return self.refusal(422, _CONVERTED_4K, data)

    def callback(self, view: TaskView) -> dict[str, object]:
        """Live document 2.8, as the copy in `callbacks` has it."""
        if view.order.kind is Kind.UPGRADE_4K:
            return self._callback_4k(view)
        copy, fallback = self._settings.callbacks, view.order.is_fallback
        data: dict[str, object] = {"taskId": view.task_id, "fallbackFlag": fallback}
        if view.failure is not None:
            return envelope(view.failure.code, view.failure.text, data)
        data["info"] = {
            "resultUrls": self._told(_listed(view.url)),
            "originUrls": self._told(_listed(view.origin_url)),
            "resolution": view.resolution,
        }
        if copy != "D2":
            text = param_json(view)
            data["promptJson"] = json.loads(text) if copy == "D3" else text
        if copy == "D6":
            data["creditsConsumed"] = view.credits
        done = _EXTENDED if view.order.kind is Kind.EXTEND else _GENERATED
        msg = f"{done}{' (using fallback model)' if fallback else ''}."
        return envelope(200, msg, data)

    def _callback_4k(self, view: TaskView) -> dict[str, object]:
        copy, failure = self._settings.callbacks, view.failure
        if failure is not None:
            return envelope(
                failure.code, failure.text, None if copy == "schema" else {"taskId": view.task_id}
            )
        urls, images = _listed(view.url), _listed(view.image_url)
        data: dict[str, object]
        if copy == "schema":
            data = {
                "task_id": view.task_id,
                "result_urls": urls,
                "media_ids": [view.task_id],
                "image_urls": images,
            }
        else:
            data = {"taskId": view.task_id, "info": {"resultUrls": urls, "imageUrls": images}}
        if copy == "D6":
            data["creditsConsumed"] = view.credits
        return envelope(200, "4K Video generated successfully.", data)

    def _told(self, urls: Sequence[str] | None) -> object:
        """Links of a callback: a list, JSON text, or what the schema of 2.8 has for an example."""
        if urls is not None and self._settings.callbacks == "schema":
            return f"[{', '.join(urls)}]"
        if urls is not None and self._settings.result_urls == "text":
            return json.dumps(urls)
        return urls

    def _moment(self, moment: float | None) -> int | str | None:
        if moment is None or self._settings.times == "millis":
            return millis(moment)
        shape = iso(moment)
        if shape is None or self._settings.times == "iso":
            return shape
        return shape.replace("T", " ").removesuffix("Z")

    def _urls(self, view: TaskView) -> dict[str, object]:
        """Links at data level, as JSON text: the older shape (2.4)."""
        every = {
            "resultUrls": view.url,
            "originUrls": view.origin_url,
            "fullResultUrls": view.whole_url,
        }
        return {name: json.dumps([url]) for name, url in every.items() if url is not None}

    def _response(self, view: TaskView) -> dict[str, object] | None:
        if view.state is not State.SUCCESS:
            return None
        response: dict[str, object] = {
            "taskId": view.task_id,
            "resolution": view.resolution,
            "originUrls": _listed(view.origin_url),
            "resultUrls": [view.url],
            "fullResultUrls": _listed(view.whole_url),
            "hasAudioList": [True],
            "seeds": [view.seed],
        }
        if self._settings.origin_urls == "absent":
            response = {
                name: value
                for name, value in response.items()
                if value is not None or not name.endswith("Urls")
            }
        if view.order.kind is Kind.UPGRADE_4K:
            response["mediaIds"] = [view.task_id]
        return response


Shapes: TypeAlias = SpecShapes | LiveShapes


def shapes_for(settings: Settings) -> Shapes:
    """Return the shapes of the dialect in `settings`."""
    return SpecShapes(settings) if settings.dialect is Dialect.SPEC else LiveShapes(settings)


def param_json(view: TaskView) -> str:
    """The request in the service's internal names, as JSON text (live document 2.4)."""
    order = view.order
    echo: dict[str, object] = {"model": order.model, "prompt": order.prompt}
    if order.kind is Kind.GENERATE:
        echo["aspectRatio"] = order.ratio
        echo["enableFallback"] = order.is_fallback
        echo["enableTranslation"] = order.enable_translation
    else:
        echo["taskId"] = order.base_id
    optional: dict[str, tuple[str, object]] = {
        "callBackUrl": ("callBackUrl", order.callback_url),
        "duration": ("duration", order.duration),
        "generationType": ("generationType", order.generation_type),
        "imageUrls": ("imageUrls", list(order.image_urls)),
        "resolution": ("resolution", order.resolution),
        "seed": ("seeds", order.seed),
        "seeds": ("seeds", order.seed),
        "watermark": ("waterMark", order.watermark),
        "waterMark": ("waterMark", order.watermark),
    }
    echo.update(echoed for name, echoed in optional.items() if name in order.named)
    return json.dumps(echo, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _http(code: int) -> int:
    """Return `code` as far as HTTP can carry it."""
    return code if 200 <= code <= 599 else 200  # noqa: PLR2004


def _listed(url: str | None) -> list[str] | None:
    return None if url is None else [url]


def _message(view: TaskView) -> str | None:
    """The live `errorMessage`: recorded as an empty text while a task runs."""
    if view.state is State.GENERATING:
        return ""
    return None if view.failure is None else view.failure.text


def _spec_state(state: State) -> State:
    return State.FAILED if state is State.FAILED_UPSTREAM else state
