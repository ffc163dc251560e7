"""The service's spellings, as data.

"Spec" is the documentation this package was ordered against, "live" what the service documents and
answers today, "jobs" the form that is to replace that (live document 2.13). A request is spelled as
the client's dialect says; answers are read in every spelling.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from veo_async.models import JSON, Dialect, JSONObject, Model, Resolution, TaskStatus

__all__: list[str] = []

Place: TypeAlias = tuple[str, ...]
Places: TypeAlias = tuple[Place, ...]


@attrs.frozen(kw_only=True)
class Call:
    """How one call is spelled.

    Attributes:
        path: Absolute path at the API host.
        method: `GET` or `POST`.
        fields: What is said → its places in the body; in the query, for a `GET`.
        fixed: What the body says whatever is asked for.
        models: What the models are called, where not by their names.
        extra: Where a request's further fields go.
        extra_names: What those are called, where not as in the older form.
        is_paid_task: Whether it makes a paid task, which is asked for by an id of its own.
    """

    path: str
    method: str = "POST"
    fields: Mapping[str, Places] = attrs.field(factory=dict[str, Places])
    fixed: JSONObject = attrs.field(factory=dict[str, JSON])
    models: Mapping[Model, str] = attrs.field(factory=dict[Model, str])
    extra: Place = ()
    extra_names: Mapping[str, str] = attrs.field(factory=dict[str, str])
    is_paid_task: bool = False


@attrs.frozen(kw_only=True)
class Form:
    """How the calls of one dialect are spelled; of several spellings, the first that answers.

    Attributes:
        generate: Makes a video.
        extend: Makes an extension.
        record_info: Asks for a task.
        upgrades: Converts a finished video to a resolution.
    """

    generate: Call
    extend: Call
    record_info: Call
    upgrades: Mapping[Resolution, tuple[Call, ...]]


def _named(**names: str | tuple[str, ...]) -> Mapping[str, Places]:
    """Return places at the top, one for each name of a field."""
    spelled = {f: (name,) if isinstance(name, str) else name for f, name in names.items()}
    return {field: tuple((name,) for name in names_) for field, names_ in spelled.items()}


def _input(**names: str) -> Mapping[str, Places]:
    """Return places inside `input`, as the generic create call has them (live document 2.13)."""
    return {field: (("input", name),) for field, name in names.items()}


_TASK_ID: Final = _named(task_id="taskId")
_SAID_ALIKE: Final = _named(
    prompt="prompt",
    model="model",
    generation_type="generationType",
    image_urls="imageUrls",
    callback_url="callBackUrl",
    enable_translation="enableTranslation",
    watermark="watermark",
    resolution="resolution",  # live only, like the next
    duration="duration",
)
_SPEC_NAMES: Final = {**_SAID_ALIKE, **_named(aspect_ratio="aspectRatio", seed="seed")}
_LIVE_NAMES: Final = {**_SAID_ALIKE, **_named(aspect_ratio="aspect_ratio", seed="seeds")}
_BOTH_NAMES: Final = {
    **_SAID_ALIKE,
    **_named(aspect_ratio=("aspectRatio", "aspect_ratio"), seed=("seed", "seeds")),
}
_GENERATE_PATH: Final = "/api/v1/veo/generate"
_EXTEND: Final = Call(  # live document 2.7; the spec has none
    path="/api/v1/veo/extend",
    fields=_named(
        task_id="taskId",
        prompt="prompt",
        model="model",
        seed="seeds",
        callback_url="callBackUrl",
        watermark="watermark",
    ),
    models={Model.QUALITY: "quality", Model.FAST: "fast", Model.LITE: "lite"},
)
_RECORD_INFO: Final = Call(path="/api/v1/veo/record-info", method="GET", fields=_TASK_ID)
_SPEC_1080P: Final = Call(path="/api/v1/veo/get-veo-3-1080-p-video", method="GET", fields=_TASK_ID)
_LIVE_1080P: Final = Call(path="/api/v1/veo/get-1080p-video", method="GET", fields=_TASK_ID)
_LIVE_4K: Final = Call(path="/api/v1/veo/get-4k-video", fields=_TASK_ID)  # the spec has none


def _veo(names: Mapping[str, Places], *upgrades_1080p: Call) -> Form:
    return Form(
        generate=Call(path=_GENERATE_PATH, fields=names),
        extend=_EXTEND,
        record_info=_RECORD_INFO,
        upgrades={Resolution.HD_1080P: upgrades_1080p, Resolution.UHD_4K: (_LIVE_4K,)},
    )


def _created(model: str, fields: Mapping[str, Places], *, is_paid_task: bool = False) -> Call:
    return Call(
        path="/api/v1/jobs/createTask",
        fields=fields,
        fixed={"model": model},
        extra=("input",),
        extra_names={"enableFallback": "enable_fallback"},
        is_paid_task=is_paid_task,
    )


_JOBS: Final = Form(
    generate=_created(
        "veo-3-1",
        {
            **_named(callback_url="callBackUrl"),
            # A seed is not among them.
            **_input(
                prompt="prompt",
                model="model",
                image_urls="image_urls",
                generation_type="generation_type",
                aspect_ratio="aspect_ratio",
                resolution="resolution",
                duration="duration",
                enable_translation="enable_translation",
                watermark="watermark",
            ),
        },
    ),
    extend=_created(
        "veo/extend",
        {
            **_named(callback_url="callBackUrl"),
            # A model is not among them.
            **_input(task_id="task_id", prompt="prompt", seed="seeds", watermark="watermark"),
        },
    ),
    record_info=Call(path="/api/v1/jobs/recordInfo", method="GET", fields=_TASK_ID),
    upgrades={
        Resolution.HD_1080P: (
            _created("veo/get-1080p-video", _input(task_id="taskId"), is_paid_task=True),
        ),
        Resolution.UHD_4K: (
            _created("veo/get-4k-video", _input(task_id="task_id"), is_paid_task=True),
        ),
    },
)
FORMS: Final[Mapping[Dialect, Form]] = {
    Dialect.AUTO: _veo(_BOTH_NAMES, _SPEC_1080P, _LIVE_1080P),
    Dialect.SPEC: _veo(_SPEC_NAMES, _SPEC_1080P),
    Dialect.LIVE: _veo(_LIVE_NAMES, _LIVE_1080P),
    Dialect.JOBS: _JOBS,
}
AUTO: Final = FORMS[Dialect.AUTO]

# The same in every dialect (live document 2.10); the spec has neither.
CREDITS: Final = Call(path="/api/v1/chat/credit", method="GET")
DOWNLOAD_URL: Final = Call(path="/api/v1/common/download-url", fields=_named(url="url"))

# What an answer's `data` says → where to look, the first that holds something wins.
TASK_ID: Final[Places] = (("taskId",), ("task_id",))
STATUS: Final[Places] = (("status",), ("successFlag",))
STATE: Final[Place] = ("state",)
VIDEO_URLS: Final[Places] = (
    ("response", "fullResultUrls"),  # the whole film after an extension
    ("fullResultUrls",),
    ("resultJson", "fullResultUrls"),
    ("resultJson", "data", "full_result_urls"),
    ("resultJson", "data", "result_urls"),  # at 1080p and 4k, beside the 720p `origin_urls`
    ("videoUrl",),
    ("response", "resultUrls"),
    ("resultUrls",),  # a list, or a list as JSON text
    ("resultUrl",),
    ("result_url",),
    ("result_urls",),
    ("url",),
    ("resultJson", "resultUrls"),
    ("resultJson", "resultUrl"),
)
ERROR_CODE: Final[Places] = (("errorCode",), ("failCode",))
ERROR_MESSAGE: Final[Places] = (("errorMessage",), ("failMsg",))
CREATED_AT: Final[Places] = (("createdAt",), ("createTime",))
COMPLETED_AT: Final[Places] = (("completedAt",), ("completeTime",))
DURATION: Final[Places] = (("duration",), ("response", "duration"))
RESOLUTION: Final[Places] = (
    ("resolution",),
    ("response", "resolution"),
    ("resultJson", "resolution"),
    ("resultJson", "data", "resolution"),
    ("param", "input", "resolution"),
)
ASPECT_RATIO: Final[Places] = (
    ("aspectRatio",),
    ("aspect_ratio",),
    ("paramJson", "aspectRatio"),
    ("paramJson", "aspect_ratio"),
    ("param", "input", "aspect_ratio"),
    ("param", "aspect_ratio"),
)
SEED: Final[Places] = (
    ("seed",),
    ("response", "seeds"),
    ("seeds",),
    ("resultJson", "seeds"),
    ("resultJson", "data", "seeds"),
    ("param", "input", "seeds"),
)
CREDITS_CONSUMED: Final[Places] = (  # live document 2.4 and 2.13: undocumented, or new
    ("creditsConsumed",),
    ("response", "creditsConsumed"),
)
HAS_AUDIO: Final[Places] = (
    ("response", "hasAudioList"),
    ("hasAudioList",),
    ("resultJson", "hasAudioList"),
    ("resultJson", "data", "has_audio_list"),
)
# What a record repeats of its request (live document 2.4 and 2.13).
ECHO: Final[Places] = (("param",),)  # all that was sent; the older form's leaves things out
ECHOED_URL: Final[Places] = (("paramJson", "callBackUrl"), ("param", "callBackUrl"))
ECHOED_PROMPT: Final[Places] = (
    ("paramJson", "prompt"),
    ("param", "input", "prompt"),
    ("param", "prompt"),
)

# spec: Status Codes 0 to 2; live document 2.4 adds 3, "created, but upstream failed".
STATUSES: Final[Mapping[int, TaskStatus]] = {
    0: TaskStatus.GENERATING,
    1: TaskStatus.SUCCESS,
    2: TaskStatus.FAILED,
    3: TaskStatus.FAILED,
}
STATES: Final[Mapping[str, TaskStatus]] = {  # live document 2.13
    "waiting": TaskStatus.GENERATING,
    "queuing": TaskStatus.GENERATING,
    "generating": TaskStatus.GENERATING,
    "success": TaskStatus.SUCCESS,
    "fail": TaskStatus.FAILED,
}

# Parts of the service's sentences, in lower case (live document, section 4). Two codes do not tell
# their meanings apart: 400 is "still generating" in the spec and a refusal in the live service, and
# the live 422 says six different things. Beside other codes these words mean nothing.
WORDED_CODES: Final = frozenset({400, 422})
UNKNOWN_TASK_WORDS: Final = (
    "record is null",
    "recordinfo is null",
    "record not found for taskid",  # seen of the live service, like the next, for record-info
    "record does not exist",  # and for the conversions
    "within 14 days",
)
NO_TASK_ID_WORDS: Final = ("taskid parameter is required",)
NOT_READY_WORDS: Final = (
    "is processing",
    "generating",
    "being generated",
    "status is not success",
    "result data is blank",
    "result data not exist",
    "result data is empty",
)
CONVERTING_WORDS: Final = (*NOT_READY_WORDS, "generate")  # live document 2.5, a 422
RUNNING_WORDS: Final = ("processing", "generating")  # spec: Error Codes, 400
AGAIN_WORDS: Final = ("try again", "timeout", "internal error")
