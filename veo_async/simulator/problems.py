"""What the service refuses, what can go wrong with a task, and the words for it."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from veo_async.simulator.records import Failure, State


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
    UNKNOWN_RECORD = auto()
    UNKNOWN_JOB = auto()
    UNKNOWN_TASK = auto()
    NO_ORIGINAL = auto()
    TOO_OLD = auto()
    GENERATING = auto()
    BASE_RUNNING = auto()
    BASE_FAILED = auto()
    BASE_CONVERTED = auto()
    BASE_FALLBACK = auto()
    CONVERTING = auto()
    FOREIGN_URL = auto()
    NO_ENDPOINT = auto()
    NO_METHOD = auto()


class Refused(Exception):  # noqa: N818  it is an answer, not an error of this program
    """The service says no.

    Args:
        problem: Why.
        text: Words to use in place of the dialect's.
        task_id: The task it is about, for words that name it.
    """

    def __init__(self, problem: Problem, text: str | None = None, *, task_id: str = "") -> None:
        super().__init__(problem, text)
        self.problem: Problem = problem
        self.text: str | None = text
        self.task_id: str = task_id


# Codes from the spec (Error Codes); its texts are prose, so these are ours. 404, 405 and 413 are
# not in its table: they are what HTTP has for these cases.
SPEC_PROBLEMS: Final[Mapping[Problem, tuple[int, str]]] = {
    Problem.UNAUTHORIZED: (401, "Unauthorized: invalid API key"),
    Problem.NOT_JSON: (400, "Request body must be a JSON object"),
    Problem.TOO_LARGE: (413, "Request body is too large"),
    Problem.INVALID: (422, "Validation error"),
    Problem.NO_CREDITS: (402, "Insufficient credits"),
    Problem.RATE: (429, "Rate limited: too many requests"),
    Problem.BUSY: (429, "Rate limited: too many concurrent tasks"),
    Problem.NO_TASK_ID: (422, "taskId is required"),
    Problem.UNKNOWN_RECORD: (404, "Task not found"),
    Problem.UNKNOWN_JOB: (404, "Task not found"),
    Problem.UNKNOWN_TASK: (404, "Task not found"),
    Problem.NO_ORIGINAL: (404, "The original task was not found"),
    Problem.TOO_OLD: (404, "Task not found"),
    Problem.GENERATING: (400, "Processing: task still generating"),
    Problem.BASE_RUNNING: (400, "Processing: task still generating"),
    Problem.BASE_FAILED: (422, "Task failed: there is no video to convert"),
    Problem.BASE_CONVERTED: (422, "A video that was converted to 1080P cannot be extended"),
    Problem.BASE_FALLBACK: (422, "A video of the fallback model cannot be converted to 1080P"),
    Problem.CONVERTING: (400, "Processing: 1080P conversion in progress"),
    Problem.FOREIGN_URL: (422, "url is not a file of this service"),
    Problem.NO_ENDPOINT: (404, "Not found"),
    Problem.NO_METHOD: (405, "Method not allowed"),
}

# Literal texts of the live document, section 4, unless noted.
LIVE_PROBLEMS: Final[Mapping[Problem, tuple[int, str]]] = {
    **SPEC_PROBLEMS,
    Problem.UNAUTHORIZED: (401, "You do not have access permissions"),
    Problem.NO_CREDITS: (402, "The current credits are insufficient. Please top up."),
    Problem.RATE: (429, "Rate limit exceeded"),  # section 5: the generic page's words
    Problem.BUSY: (429, "Rate limit exceeded"),
    Problem.NO_TASK_ID: (400, "taskId parameter is required"),
    # Recorded in September 2026; section 4 has the documented text, `RECORD_IS_NULL`.
    Problem.UNKNOWN_RECORD: (422, "Record not found for taskId: {task_id}"),
    Problem.UNKNOWN_JOB: (422, "recordInfo is null"),  # section 2.13
    Problem.UNKNOWN_TASK: (422, "Record does not exist"),
    Problem.TOO_OLD: (422, "Temporarily supports records within 14 days."),
    Problem.BASE_RUNNING: (422, "record status is not success"),
    Problem.BASE_FAILED: (422, "record status is not success"),
    Problem.CONVERTING: (
        400,
        "1080P is processing. It should be ready in 1-2 minutes. Please check back shortly.",
    ),
    Problem.FOREIGN_URL: (422, "url is wrong"),
}

RECORD_IS_NULL: Final = (422, "record is null")
"""Section 4: what the documents list for an unknown id."""

CONVERTING_TEXTS: Final[Mapping[int, str]] = {
    # Section 2.5 knows only that this 422 "contains 'generate'"; the sentence is ours.
    422: "The 1080P record is being generated, please try again later.",
    # The same section: a 500 "early in processing". The words were recorded on another call.
    500: "Server exception, please try again later",
}
"""What else than the 400 of the table is said while a video is converted."""

RATIO_ERROR: Final = "Ratio error"
"""What the live service says to an aspect ratio there is not."""

REFERENCE_DURATION: Final = (
    "Invalid duration. Veo 3.1 reference-to-video currently only supports 8-second generation."
)
"""What the live service says to 4 and 6 s in reference mode."""

AT_THE_DOOR: Final = frozenset({Problem.TOO_LARGE, Problem.NO_ENDPOINT, Problem.NO_METHOD})
"""Found before the service looks at the request: these keep their HTTP status in any dialect."""

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

NO_IMAGE: Final = MARKERS["[image]"]

STUCK_MARKER: Final = "[stuck]"
"""A prompt that contains this is accepted and never finishes."""

NO_4K_MARKER: Final = "[no4k]"
"""The video of a prompt that contains this cannot be converted to 4K."""

NO_4K: Final = Failure(
    500, "The 4K version of this video is unavailable. Please try a different video."
)
"""Live document 2.8."""


def failure_for(prompt: str) -> Failure | None:
    """Return the failure that `prompt` asks for."""
    return next((failure for marker, failure in MARKERS.items() if marker in prompt), None)
