"""The JSON of the two dialects, and the words of their errors."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

from veo_async.simulator.records import Dialect, Failure, Reply, State, TaskView
from veo_async.simulator.settings import Settings


class Problem(Enum):
    """Everything the service refuses, whatever the dialect calls it."""

    UNAUTHORIZED = auto()
    NOT_JSON = auto()
    TOO_LARGE = auto()
    INVALID = auto()
    NO_CREDITS = auto()
    RATE = auto()
    BUSY = auto()
    NO_TASK_ID = auto()
    UNKNOWN_TASK = auto()
    TOO_OLD = auto()
    GENERATING = auto()
    BASE_RUNNING = auto()
    BASE_FAILED = auto()
    CONVERTING = auto()
    FOREIGN_URL = auto()
    NO_ENDPOINT = auto()
    NO_METHOD = auto()


# Codes from the spec (Error Codes); its texts are prose, so these are ours. 404, 405 and 413 are
# not in its table: they are what HTTP has for these cases.
_SPEC_PROBLEMS: Final[Mapping[Problem, tuple[int, str]]] = {
    Problem.UNAUTHORIZED: (401, "Unauthorized: invalid API key"),
    Problem.NOT_JSON: (400, "Request body must be a JSON object"),
    Problem.TOO_LARGE: (413, "Request body is too large"),
    Problem.INVALID: (422, "Validation error"),
    Problem.NO_CREDITS: (402, "Insufficient credits"),
    Problem.RATE: (429, "Rate limited: too many requests"),
    Problem.BUSY: (429, "Rate limited: too many concurrent tasks"),
    Problem.NO_TASK_ID: (422, "taskId is required"),
    Problem.UNKNOWN_TASK: (404, "Task not found"),
    Problem.TOO_OLD: (404, "Task not found"),
    Problem.GENERATING: (400, "Processing: task still generating"),
    Problem.BASE_RUNNING: (400, "Processing: task still generating"),
    Problem.BASE_FAILED: (422, "Task failed: there is no video to convert"),
    Problem.CONVERTING: (400, "Processing: 1080P conversion in progress"),
    Problem.FOREIGN_URL: (422, "url is not a file of this service"),
    Problem.NO_ENDPOINT: (404, "Not found"),
    Problem.NO_METHOD: (405, "Method not allowed"),
}

# Literal texts of the live document, section 4, unless noted.
_LIVE_PROBLEMS: Final[Mapping[Problem, tuple[int, str]]] = {
    **_SPEC_PROBLEMS,
    Problem.UNAUTHORIZED: (401, "You do not have access permissions"),
    Problem.NO_CREDITS: (402, "The current credits are insufficient. Please top up."),
    Problem.RATE: (429, "Rate limit exceeded"),  # section 5: the generic page's words
    Problem.BUSY: (429, "Rate limit exceeded"),
    Problem.NO_TASK_ID: (400, "taskId parameter is required"),
    Problem.UNKNOWN_TASK: (422, "record is null"),
    Problem.TOO_OLD: (422, "Temporarily supports records within 14 days."),
    Problem.BASE_RUNNING: (422, "record status is not success"),
    Problem.BASE_FAILED: (422, "record status is not success"),
    Problem.CONVERTING: (
        400,
        "1080P is processing. It should be ready in 1-2 minutes. Please check back shortly.",
    ),
    Problem.FOREIGN_URL: (422, "url is wrong"),
}

# Section 2.5 knows only that the 422 "contains 'generate'"; the sentence is ours.
_CONVERTING_422: Final = (422, "The 1080P record is being generated, please try again later.")

# What fails before the service looks at the request keeps its HTTP status in either dialect:
# section 2.12 documents HTTP 429, and the rest is plain HTTP.
_ALWAYS_HTTP: Final = frozenset({404, 405, 413, 429})

MARKERS: Final[Mapping[str, Failure]] = {
    # Live document, section 4: rows about `errorCode`; 501 has no literal text there.
    "[fail]": Failure(501, "Generation failed."),
    "[early]": Failure(501, "Generation failed before it started.", State.FAILED),
    "[error]": Failure(500, "Internal Error, Please try again later."),
    "[timeout]": Failure(500, "Internal Error - Timeout"),
    "[policy]": Failure(400, "Your prompt was flagged by Website as violating content policies."),
    "[language]": Failure(400, "Only English prompts are supported at this time."),
    "[image]": Failure(
        400,
        "Failed to fetch the image. Kindly verify any access limits set by you or your service "
        "provider.",
    ),
    "[unsafe]": Failure(400, "public error unsafe image upload."),
    "[audio]": Failure(400, "The Google model was unable to generate audio for this request."),
    "[person]": Failure(422, "failed"),
    "[rejected]": Failure(
        422,
        "Your request was rejected by Flow(<original error>). You may consider using our other "
        "fallback channels, which are likely to succeed. Please refer to the documentation.",
    ),
}
"""Prompts that contain one of these fail, free of charge, once their generation time is over."""

STUCK_MARKER: Final = "[stuck]"
"""A prompt that contains this is accepted and never finishes."""


def failure_for(prompt: str) -> Failure | None:
    """Return the failure that `prompt` asks for."""
    return next((failure for marker, failure in MARKERS.items() if marker in prompt), None)


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

    def problem(self, problem: Problem, text: str | None = None) -> Reply:
        """Spec: Error Codes."""
        code, words = _SPEC_PROBLEMS[problem]
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

    def problem(self, problem: Problem, text: str | None = None) -> Reply:
        """Live document, section 4."""
        code, words = _LIVE_PROBLEMS[problem]
        if problem is Problem.CONVERTING and self._settings.converting_code == _CONVERTING_422[0]:
            code, words = _CONVERTING_422
        return self.refusal(code, text or words)

    def refusal(self, code: int, text: str) -> Reply:
        """An error envelope of any code."""
        real = self._settings.error_status == "http" or code in _ALWAYS_HTTP
        after = self._settings.retry_after if code == HTTPStatus.TOO_MANY_REQUESTS else None
        return Reply(
            envelope(code, text, None), http=_http(code) if real else 200, retry_after=after
        )

    def created(self, task_id: str) -> Reply:
        """Live document 2.2."""
        return Reply(envelope(200, "success", {"taskId": task_id}))

    def record(self, view: TaskView) -> Reply:
        """Live document 2.4; `failure_in` "envelope" is the older way it lists for failures."""
        failure = view.failure
        if failure is not None and self._settings.failure_in == "envelope":
            return self.refusal(failure.code, failure.text)
        return Reply(
            envelope(
                200,
                "success",
                {
                    "taskId": view.task_id,
                    "paramJson": param_json(view),
                    "completeTime": millis(view.completed),
                    "response": self._response(view),
                    "successFlag": int(view.state),
                    "fallbackFlag": False,
                    "createTime": millis(view.created),
                    "errorCode": None if failure is None else failure.code,
                    "errorMessage": None if failure is None else failure.text,
                },
            )
        )

    def upgraded(self, view: TaskView) -> Reply:
        """Live document 2.5."""
        return Reply(envelope(200, "success", {"resultUrl": view.url}))

    def callback(self, view: TaskView) -> dict[str, object]:
        """Live document 2.8."""
        if view.failure is not None:
            data: dict[str, object] = {"taskId": view.task_id, "fallbackFlag": False}
            return envelope(view.failure.code, view.failure.text, data)
        data = {
            "taskId": view.task_id,
            "promptJson": param_json(view),
            "info": {
                "resultUrls": [view.url],
                "originUrls": _listed(view.origin_url),
                "resolution": view.resolution,
            },
            "fallbackFlag": False,
            "creditsConsumed": view.credits,
        }
        return envelope(200, "Veo3.1 video generated successfully.", data)

    @staticmethod
    def _response(view: TaskView) -> dict[str, object] | None:
        if view.state is not State.SUCCESS:
            return None
        return {
            "taskId": view.task_id,
            "resolution": view.resolution,
            "originUrls": _listed(view.origin_url),
            "resultUrls": [view.url],
            "fullResultUrls": None,
            "hasAudioList": [True],
            "seeds": [view.seed],
        }


Shapes = SpecShapes | LiveShapes


def shapes_for(settings: Settings) -> Shapes:
    """Return the shapes of the dialect in `settings`."""
    return SpecShapes(settings) if settings.dialect is Dialect.SPEC else LiveShapes(settings)


def param_json(view: TaskView) -> str:
    """The request in the service's internal names, as JSON text (live document 2.4)."""
    order = view.order
    echo: dict[str, object] = {
        "aspectRatio": order.ratio,
        "enableFallback": False,
        "enableTranslation": order.enable_translation,
        "model": order.model,
        "prompt": order.prompt,
    }
    optional: dict[str, tuple[str, object]] = {
        "callBackUrl": ("callBackUrl", order.callback_url),
        "duration": ("duration", order.duration),
        "generationType": ("generationType", order.generation_type),
        "imageUrls": ("imageUrls", list(order.image_urls)),
        "resolution": ("resolution", order.resolution),
        "seed": ("seeds", order.seed),
        "seeds": ("seeds", order.seed),
        "watermark": ("waterMark", order.watermark),
    }
    echo.update(echoed for name, echoed in optional.items() if name in order.named)
    return json.dumps(echo, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _http(code: int) -> int:
    """Return `code` as far as HTTP can carry it."""
    return code if 200 <= code <= 599 else 200  # noqa: PLR2004


def _listed(url: str | None) -> list[str] | None:
    return None if url is None else [url]


def _spec_state(state: State) -> State:
    return State.FAILED if state is State.FAILED_UPSTREAM else state
