"""Every row of the live document's table of errors, section 4: class, whether to repeat, a step.

The same sentence may be an answer to a call, and the reason of a task that failed.
"""

import json
from collections.abc import Callable

import pytest

from veo_async.errors import (
    APIError,
    AuthenticationError,
    InsufficientCreditsError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.models import Resolution, TaskRecord, TaskStatus, Video
from veo_async.protocol import codec
from veo_async.protocol.http import HttpResponse
from veo_async.protocol.remedies import is_lasting, is_refusal, step_after
from veo_async.protocol.retry import is_transient

ID = "0123456789abcdef0123456789abcdef"
BASE = Video(task_id=ID, url="https://tempfile.aiquickdraw.com/v/1.mp4")

POLICY = "Your prompt was flagged by Website as violating content policies."
LANGUAGE = "Only English prompts are supported at this time."
IMAGE = (
    "Failed to fetch the image. Kindly verify any access limits set by you or your service"
    " provider."
)
UNSAFE = "public error unsafe image upload."
AUDIO = "The Google model was unable to generate audio for this request."
FLOW = (
    "Your request was rejected by Flow(<original error>). You may consider using our other"
    " fallback channels, which are likely to succeed. Please refer to the documentation."
)
NO_4K = "The 4K version of this video is unavailable. Please try a different video."
SPENT = "The current number of points used by apiKey has exceeded the {} limit"
KEY_2026 = (
    "Unauthorized \N{EN DASH} Authentication failed. Please check that your Authorization and"
    " Content-Type headers are correctly set."
)

REWORD = "reword the prompt"
ENGLISH = "write the prompt in English, or leave enable_translation on"
PUBLIC = "make the image's URL public, or upload the image with veo.upload()"
OTHER_IMAGE = "use another image"
SOUND = "change what is heard in the prompt"
PEOPLE = "take the names of real people out of the prompt"
CHANGE = "change the prompt or the images"
GONE = "make the video again: records and files are kept for 14 days"
NOT_4K = "upgrade another video, or take this one in 1080p"
OFF = "do without it: it is switched off, and not available"
SAYS = "change the request as it says"
KEY = "check the key, at https://kie.ai/api-key, and where it is set"
UNKNOWN = "check the task id; records are kept for 14 days"
LATER = "try again later"
EARLY = "ask again in a minute: the video that it is made from is not ready"

READERS: dict[str, Callable[[HttpResponse], object]] = {
    "create": codec.read_generate,
    "record-info": lambda response: codec.read_record_info(response, ID),
    "1080p": lambda response: codec.read_upgrade(response, BASE, Resolution.HD_1080P),
    "4k": lambda response: codec.read_upgrade(response, BASE, Resolution.UHD_4K),
    "download-url": codec.read_download_url,
    "credits": codec.read_credits,
}
ALL = tuple(READERS)
COPIES = ("1080p", "4k")

# Calls, HTTP statuses, code, words → class, whether a free call is repeated, what to do.
ROWS: list[tuple[tuple[str, ...], tuple[int, ...], int, str, type[APIError], bool, str]] = [
    (("create", *COPIES), (200, 400), 400, POLICY, ValidationError, False, REWORD),
    (("create", *COPIES), (200, 400), 400, LANGUAGE, ValidationError, False, ENGLISH),
    (("create", *COPIES), (200, 400), 400, IMAGE, ValidationError, False, PUBLIC),
    (("create", *COPIES), (200, 400), 400, UNSAFE, ValidationError, False, OTHER_IMAGE),
    (("create", *COPIES), (200, 400), 400, AUDIO, ValidationError, False, SOUND),
    (("create",), (200, 400), 400, "taskId parameter is required", ValidationError, False, SAYS),
    (ALL, (200, 401), 401, "You do not have access permissions", AuthenticationError, False, KEY),
    (ALL, (200, 401), 401, KEY_2026, AuthenticationError, False, KEY),
    (
        ALL,
        (401,),
        401,
        "Authentication failed: Invalid API Key",
        AuthenticationError,
        False,
        KEY,
    ),
    (
        ALL,
        (200, 402),
        402,
        "The current credits are insufficient. Please top up.",
        InsufficientCreditsError,
        False,
        "top up the account and submit again",
    ),
    (
        ALL,
        (200, 404),
        404,
        "Not found",
        NotFoundError,
        False,
        "check the task id and the base URL",
    ),
    (ALL, (405,), 405, "Method not allowed", ValidationError, False, SAYS),
    (ALL, (200, 408), 408, "Timeout", ServerError, True, "ask again later"),
    (("create",), (200, 422), 422, "Please enter prompt.", ValidationError, False, SAYS),
    *(
        (("create",), (200, 422), 422, words, ValidationError, False, EARLY)
        for words in (
            "record status is not success",
            "record result data is blank",
            "record result data not exist",
            "record result data is empty",
        )
    ),
    (("create", *COPIES), (200, 422), 422, FLOW, ValidationError, False, CHANGE),
    (
        ("record-info", *COPIES),
        (200, 422),
        422,
        "record is null",
        NotFoundError,
        False,
        UNKNOWN,
    ),
    (("record-info",), (200, 422), 422, "recordInfo is null", NotFoundError, False, UNKNOWN),
    (
        ("record-info",),
        (200, 422),
        422,
        f"Record not found for taskId: {ID}",
        NotFoundError,
        False,
        UNKNOWN,
    ),
    (COPIES, (200, 422), 422, "Record does not exist", NotFoundError, False, UNKNOWN),
    (
        ("create",),
        (200,),
        500,
        "Server exception, please try again later",
        ServerError,
        True,
        LATER,
    ),
    (
        ("record-info", *COPIES),
        (200, 422),
        422,
        "Temporarily supports records within 14 days.",
        NotFoundError,
        False,
        GONE,
    ),
    (("create", *COPIES), (200, 422), 422, "failed", ValidationError, False, PEOPLE),
    (("download-url",), (200, 422), 422, "url is wrong", ValidationError, False, SAYS),
    (
        ALL,
        (200, 429),
        429,
        "Rate limit exceeded",
        RateLimitError,
        True,
        "wait and try again",
    ),
    *(
        (
            ALL,
            (200, 433),
            433,
            SPENT.format(period),
            QuotaExceededError,
            False,
            f"raise the {period} cap of the key in the account's settings{wait}",
        )
        for period, wait in [
            ("hourly", ", or wait until it resets"),
            ("daily", ", or wait until it resets"),
            ("total", ""),
        ]
    ),
    (
        ALL,
        (200, 433),
        433,
        "something new",
        QuotaExceededError,
        False,
        "raise the key's cap in the account's settings, or wait",
    ),
    (("create", *COPIES), (200, 451), 451, IMAGE, ValidationError, False, PUBLIC),
    (("create", *COPIES), (200, 451), 451, "something new", ValidationError, False, PUBLIC),
    (
        ALL,
        (200, 455),
        455,
        "Service Unavailable",
        ServiceUnavailableError,
        True,
        "try again in some minutes",
    ),
    *(
        (ALL, (200, 500), 500, words, ServerError, True, LATER)
        for words in (
            "Server Error",
            "Internal Error, Please try again later.",
            "Internal Error - Timeout",
            "Timeout",
        )
    ),
    (("create", *COPIES), (200, 500), 500, NO_4K, ServerError, False, NOT_4K),
    (("create", *COPIES), (200, 501), 501, "Generation failed.", ServerError, True, LATER),
    (ALL, (200, 505), 505, "Feature Disabled", ServerError, False, OFF),
    # Beside another code, the words of a refusal are no refusal.
    (ALL, (200, 500), 500, POLICY, ServerError, True, LATER),
    (ALL, (200, 429), 429, FLOW, RateLimitError, True, "wait and try again"),
    # The bare word is the whole sentence, or it is none.
    (("create",), (200, 422), 422, "prompt check failed", ValidationError, False, SAYS),
]


@pytest.mark.parametrize(
    ("call", "status", "said", "meant"),
    [
        pytest.param(call, status, (code, words), meant, id=f"{call}-{status}-{code}-{words[:30]}")
        for calls, statuses, code, words, *meant in ROWS
        for call in calls
        for status in statuses
    ],
)
def test_every_refusal_of_a_call(
    call: str, status: int, said: tuple[int, str], meant: tuple[type[APIError], bool, str]
) -> None:
    (code, words), (kind, passes, step) = said, meant
    body = json.dumps({"code": code, "msg": words, "data": None}).encode()
    with pytest.raises(APIError) as caught:
        READERS[call](HttpResponse(status=status, body=body))
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.http_status, error.message) == (code, status, words)
    assert is_transient(error) is passes
    assert str(error).endswith(f": {words.rstrip('.')}; {step}")


@pytest.mark.parametrize("call", ALL)
def test_a_user_agent_that_was_stripped_on_the_way(call: str) -> None:
    with pytest.raises(APIError) as caught:
        READERS[call](HttpResponse(status=403, body=b"error code: 1010"))
    error = caught.value
    assert type(error) is UnexpectedResponseError
    assert not is_transient(error), "it is stripped the next time as well"
    assert str(error).endswith("; let the User-Agent header pass, which a proxy in between strips")


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"<html>flagged as violating content policies, unsafe image</html>"),
        (403, b"<html>Just a moment...</html>"),
        (500, b"<html>error code: 1010</html>"),
    ],
)
def test_a_page_is_no_word_of_the_service(call: str, status: int, body: bytes) -> None:
    if (call, status) == ("record-info", 400):
        return  # HTTP 400 alone is "still generating" there (spec: Error Codes)
    with pytest.raises(APIError) as caught:
        READERS[call](HttpResponse(status=status, body=body))
    assert is_transient(caught.value)
    steps = (LATER, "check the base URL and any proxy in between")
    assert str(caught.value).endswith(steps)


AGAIN = "the same request may succeed as a new task"

# The `errorCode`, or `failCode`, and the words of a failed task.
FAILURES: list[tuple[int | None, str | None, bool, str]] = [
    (400, POLICY, False, REWORD),
    (400, LANGUAGE, False, ENGLISH),
    (400, IMAGE, False, PUBLIC),
    (400, UNSAFE, False, OTHER_IMAGE),
    (400, AUDIO, False, SOUND),
    (400, AUDIO + " Please try again with a different prompt.", False, SOUND),
    (422, FLOW, False, CHANGE),
    (422, "failed", False, PEOPLE),
    (422, "Failed.", False, PEOPLE),
    (451, IMAGE, False, PUBLIC),
    (451, None, False, PUBLIC),
    (505, "switched off", False, OFF),
    (500, NO_4K, False, NOT_4K),
    (400, "something new", False, CHANGE),
    (None, "something new", False, CHANGE),
    # Without a code, the sentence decides.
    (None, POLICY, False, REWORD),
    (None, AUDIO + " Please try again.", False, SOUND),
    (None, NO_4K, False, NOT_4K),
    (None, "failed", False, PEOPLE),
    (408, "Timeout", True, AGAIN),
    (500, "Server Error", True, AGAIN),
    (500, "Internal Error, Please try again later.", True, AGAIN),
    (500, "Internal Error - Timeout", True, AGAIN),
    (501, "Generation failed.", True, AGAIN),
    (501, "failed", True, AGAIN),
    (500, POLICY, True, AGAIN),
    (None, "Internal Error, Please try again later.", True, AGAIN),
]


@pytest.mark.parametrize(("code", "words", "again", "step"), FAILURES, ids=str)
def test_every_reason_of_a_task_that_failed(
    code: int | None, words: str | None, again: bool, step: str
) -> None:
    for data in (
        {"taskId": ID, "successFlag": 3, "errorCode": code, "errorMessage": words},
        {"taskId": ID, "state": "fail", "failCode": code and str(code), "failMsg": words},
    ):
        body = json.dumps({"code": 200, "msg": "success", "data": data}).encode()
        record = codec.read_record_info(HttpResponse(status=200, body=body), ID)
        assert record.status is TaskStatus.FAILED
        error = codec.failure_of(record)
        assert (error.code, error.is_retryable, error.task_id) == (code, again, ID)
        assert error.reason == (words or "no reason given")
        ending = step if again else f"{step} before submitting again"
        assert str(error).endswith(f"; {ending}")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, POLICY),
        (400, LANGUAGE),
        (400, IMAGE),
        (422, FLOW),
        (422, "failed"),
        (451, IMAGE),
        (500, NO_4K),
    ],
)
def test_a_refusal_in_the_envelope_tells_the_same_step(code: int, words: str) -> None:
    body = json.dumps({"code": code, "msg": words, "data": None}).encode()
    record = codec.read_record_info(HttpResponse(status=200, body=body), ID)
    assert record == TaskRecord(
        task_id=ID, status=TaskStatus.FAILED, error_code=code, error_message=words
    )
    assert not codec.failure_of(record).is_retryable
    step = step_after(code, words)
    assert step is not None
    assert str(codec.failure_of(record)).endswith(f"{step} before submitting again")


@pytest.mark.parametrize("code", [None, -1, 0, 200, 400, 401, 422, 500, 10**17])
@pytest.mark.parametrize("words", ["", "what?", "\x1b[31m"])
def test_what_is_not_known_is_left_to_the_code(code: int | None, words: str) -> None:
    assert step_after(code, words) is None
    assert not is_refusal(code, words)
    assert not is_lasting(code, words)
