"""The service's two spellings, as data.

"Spec" is the documentation this package was ordered against, "live" what the service documents and
answers today. Requests carry both spellings where they differ, and answers are read in either.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from veo_async.models import Model, TaskStatus

__all__: list[str] = []

Place: TypeAlias = tuple[str, ...]

GENERATE_PATH: Final = "/api/v1/veo/generate"
EXTEND_PATH: Final = "/api/v1/veo/extend"  # live, like the next
UPGRADE_4K_PATH: Final = "/api/v1/veo/get-4k-video"
RECORD_INFO_PATH: Final = "/api/v1/veo/record-info"
UPGRADE_1080P_PATHS: Final = (
    "/api/v1/veo/get-veo-3-1080-p-video",  # spec
    "/api/v1/veo/get-1080p-video",  # live
)

# Field of a VideoRequest → its names in the JSON body.
REQUEST_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": ("prompt",),
    "model": ("model",),
    "generation_type": ("generationType",),
    "image_urls": ("imageUrls",),
    "aspect_ratio": ("aspectRatio", "aspect_ratio"),  # spec, live
    "seed": ("seed", "seeds"),  # spec, live
    "callback_url": ("callBackUrl",),
    "enable_translation": ("enableTranslation",),
    "watermark": ("watermark",),
    "resolution": ("resolution",),  # live only, like the next
    "duration": ("duration",),
}

# Field of an ExtendRequest → its name in the JSON body (live document 2.7).
EXTEND_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "task_id": ("taskId",),
    "prompt": ("prompt",),
    "model": ("model",),
    "seed": ("seeds",),
    "callback_url": ("callBackUrl",),
    "watermark": ("watermark",),
}
EXTEND_MODELS: Final[Mapping[Model, str]] = {
    Model.QUALITY: "quality",
    Model.FAST: "fast",
    Model.LITE: "lite",
}

# What an answer's `data` says → where to look, the first that holds something wins.
TASK_ID: Final[tuple[Place, ...]] = (("taskId",), ("task_id",))
STATUS: Final[tuple[Place, ...]] = (("status",), ("successFlag",))
VIDEO_URLS: Final[tuple[Place, ...]] = (
    ("response", "fullResultUrls"),  # the whole film after an extension
    ("fullResultUrls",),
    ("videoUrl",),
    ("response", "resultUrls"),
    ("resultUrls",),  # a list, or a list as JSON text
    ("resultUrl",),
    ("result_url",),
    ("url",),
)
ERROR_CODE: Final[tuple[Place, ...]] = (("errorCode",),)
ERROR_MESSAGE: Final[tuple[Place, ...]] = (("errorMessage",),)
CREATED_AT: Final[tuple[Place, ...]] = (("createdAt",), ("createTime",))
COMPLETED_AT: Final[tuple[Place, ...]] = (("completedAt",), ("completeTime",))
DURATION: Final[tuple[Place, ...]] = (("duration",), ("response", "duration"))
RESOLUTION: Final[tuple[Place, ...]] = (("resolution",), ("response", "resolution"))
ASPECT_RATIO: Final[tuple[Place, ...]] = (
    ("aspectRatio",),
    ("aspect_ratio",),
    ("paramJson", "aspectRatio"),
    ("paramJson", "aspect_ratio"),
)
SEED: Final[tuple[Place, ...]] = (("seed",), ("response", "seeds"), ("seeds",))
CREDITS: Final[tuple[Place, ...]] = (  # live document 2.4 and 2.13: undocumented, or new
    ("creditsConsumed",),
    ("response", "creditsConsumed"),
)
HAS_AUDIO: Final[tuple[Place, ...]] = (("response", "hasAudioList"), ("hasAudioList",))

# spec: Status Codes 0 to 2; live document 2.4 adds 3, "created, but upstream failed".
STATUSES: Final[Mapping[int, TaskStatus]] = {
    0: TaskStatus.GENERATING,
    1: TaskStatus.SUCCESS,
    2: TaskStatus.FAILED,
    3: TaskStatus.FAILED,
}

# Parts of the service's sentences, in lower case (live document, section 4). Two codes do not tell
# their meanings apart: 400 is "still generating" in the spec and a refusal in the live service, and
# the live 422 says six different things. Beside other codes these words mean nothing.
WORDED_CODES: Final = frozenset({400, 422})
REFUSAL_WORDS: Final = (
    "flagged",
    "content polic",
    "rejected by flow",
    "only english prompts",
    "unsafe image",
    "fetch the image",
    "unable to generate audio",
)
FAILED_WORD: Final = "failed"  # all that a 422 says of a prompt with the name of a real person
UNKNOWN_TASK_WORDS: Final = ("record is null", "recordinfo is null", "within 14 days")
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
