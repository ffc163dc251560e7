"""Requests to bytes-to-be, and answers to a value or one exact error.

Errors come in three layers, read in this order: the HTTP status, the envelope's `code`, and the
flags of the task itself (live document, section 4).
"""

from collections.abc import Mapping
from typing import Final

import attrs

from veo_async.errors import (
    APIError,
    AuthenticationError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TaskFailedError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.models import (
    JSON,
    JSONObject,
    TaskRecord,
    TaskStatus,
    Video,
)
from veo_async.protocol import dialect, reading
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.request import ExtendRequest, PaidRequest, VideoRequest, local_images

__all__: list[str] = []

_OK = 200
_STILL_GENERATING = 400  # spec: Error Codes
_FORBIDDEN = 403  # without an envelope the edge's own, live document 2.1
_FAILURES = frozenset({451, 501})  # image unreachable, generation failed: live document, section 4
_ABOUT_THE_TASK = frozenset({404, 422, 451})  # believed of a paid task from the service only
_FIRST_ERROR = 400
_FIRST_SERVER_ERROR = 500
_NO_ANSWER = 408  # live document, section 4
_SWITCHED_OFF = 505  # live document, section 4: of the 5xx, the one that does not pass
_LONGEST_WORDS = 1000
_LONGEST_QUOTE = 200  # of a body that is not the service's

# Code → class and what to do next. Codes not listed fall to their hundred.
_ERRORS: Final[Mapping[int, tuple[type[APIError], str]]] = {
    401: (AuthenticationError, "check the key, at https://kie.ai/api-key, and where it is set"),
    402: (InsufficientCreditsError, "top up the account and submit again"),
    403: (AuthenticationError, "check what the key may do and from which addresses"),
    404: (NotFoundError, "check the task id and the base URL"),
    408: (ServerError, "ask again later"),
    422: (ValidationError, "change the request as it says"),
    429: (RateLimitError, "wait and try again"),
    433: (QuotaExceededError, "raise the key's cap in the account's settings, or wait"),
    451: (ValidationError, "make the image reachable for the service"),
    455: (ServiceUnavailableError, "try again in some minutes"),
}


@attrs.frozen
class Envelope:
    """What every answer is wrapped in (spec: Response).

    Attributes:
        http_status: The HTTP status.
        code: The verdict: `code` where the HTTP status is below 400, else the HTTP status.
        message: The service's words, as one line.
        data: The content.
        retry_after: Seconds that the service asked to wait.
        is_envelope: Whether the body was an envelope at all.
        is_page: Whether it was not even a JSON object, but a page of something in between.
    """

    http_status: int
    code: int
    message: str
    data: JSON
    retry_after: float | None
    is_envelope: bool
    is_page: bool


def read_envelope(response: HttpResponse) -> Envelope:
    """Read an answer's envelope; a body that is none keeps its HTTP status as the verdict."""
    body = reading.parse(response.body)
    fields: JSONObject = body if isinstance(body, dict) else {}
    code = reading.as_int(fields.get("code"))
    verdict = response.status
    if code is not None and response.status < _FIRST_ERROR:
        verdict = code
    return Envelope(
        http_status=response.status,
        code=verdict,
        message=_words(fields, response.body),
        data=fields.get("data"),
        retry_after=response.retry_after,
        is_envelope=code is not None,
        is_page=not isinstance(body, dict),
    )


def _words(fields: JSONObject, body: bytes) -> str:
    for name in ("msg", "message", "error"):
        words = reading.as_line(fields.get(name), _LONGEST_WORDS)
        if words is not None:
            return words
    return _quoted(body)


def _quoted(body: bytes) -> str:
    text = body[: 4 * _LONGEST_QUOTE].decode(errors="replace")
    return reading.as_line(text, _LONGEST_QUOTE) or "an empty body"


def _says(envelope: Envelope, words: tuple[str, ...]) -> bool:
    message = envelope.message.lower()
    counts = envelope.is_envelope and envelope.code in dialect.WORDED_CODES
    return counts and any(part in message for part in words)


def error_of(envelope: Envelope, task_id: str | None = None) -> APIError:
    """Return the error that an answer other than success stands for."""
    kind, remedy = _kind_of(envelope)
    about = f" (task {task_id})" if task_id else ""
    status = f", HTTP {envelope.http_status}" if envelope.http_status != envelope.code else ""
    text = f"the service answered {envelope.code}{status}{about}: {envelope.message}; {remedy}"
    return _made(kind, text, envelope, task_id)


def _unexpected(envelope: Envelope, what: str, task_id: str | None = None) -> APIError:
    text = f"{what}; check the base URL and any proxy in between"
    return _made(UnexpectedResponseError, text, envelope, task_id)


def _made(kind: type[APIError], text: str, envelope: Envelope, task_id: str | None) -> APIError:
    return kind(
        text,
        message=envelope.message,
        code=envelope.code,
        http_status=envelope.http_status,
        task_id=task_id,
        retry_after=envelope.retry_after,
    )


def _kind_of(envelope: Envelope) -> tuple[type[APIError], str]:
    if _says(envelope, dialect.UNKNOWN_TASK_WORDS):
        return NotFoundError, "check the task id; records are kept for 14 days"
    if envelope.code in _ERRORS and (envelope.is_envelope or envelope.code != _FORBIDDEN):
        return _ERRORS[envelope.code]
    if envelope.code >= _FIRST_SERVER_ERROR:
        return ServerError, "try again later"
    if envelope.code >= _FIRST_ERROR and envelope.is_envelope:
        return ValidationError, "change the request as it says"
    return UnexpectedResponseError, "check the base URL and any proxy in between"


def encode_create(request: PaidRequest) -> HttpRequest:
    """Return the call that creates a paid task.

    Raises:
        InvalidRequestError: `extra` repeats a field that has a name of its own, or an image is a
            path and was not uploaded.
    """
    if isinstance(request, ExtendRequest):
        return encode_extend(request)
    return encode_generate(request)


def encode_generate(request: VideoRequest) -> HttpRequest:
    """Return the call that makes a new video, with both spellings where they differ.

    Raises:
        InvalidRequestError: `extra` repeats a field that has a name of its own, or an image is a
            path and was not uploaded.
    """
    check(request)
    local = local_images(request.image_urls)
    if local:
        raise InvalidRequestError(
            f"image_urls holds {local[0]!r}, which was not uploaded; give the URL that"
            " veo.upload() returned",
            field="image_urls",
        )
    body = _body(request, dialect.REQUEST_NAMES)
    return HttpRequest(method="POST", path=dialect.GENERATE_PATH, body=body)


def encode_extend(request: ExtendRequest) -> HttpRequest:
    """Return the call that extends a video (live document 2.7).

    Raises:
        InvalidRequestError: `extra` repeats a field that has a name of its own.
    """
    check(request)
    body = _body(request, dialect.EXTEND_NAMES)
    body["model"] = dialect.EXTEND_MODELS[request.model]
    return HttpRequest(method="POST", path=dialect.EXTEND_PATH, body=body)


def check(request: PaidRequest) -> None:
    """Make sure that a request can be sent.

    Raises:
        InvalidRequestError: `extra` repeats a field that has a name of its own.
    """
    is_extension = isinstance(request, ExtendRequest)
    names = dialect.EXTEND_NAMES if is_extension else dialect.REQUEST_NAMES
    own = {name for spelled in names.values() for name in spelled}
    for name in request.extra:
        if name in own:
            raise InvalidRequestError(
                f"extra holds {name!r}, which is a field of its own; set that field instead",
                field="extra",
            )


def _body(request: PaidRequest, names: Mapping[str, tuple[str, ...]]) -> dict[str, JSON]:
    body: dict[str, JSON] = {}
    for field, spelled in names.items():
        value = _as_json(getattr(request, field))
        if value is not None and value != []:
            body.update(dict.fromkeys(spelled, value))
    body.update(request.extra)
    return body


def _as_json(value: str | int | tuple[str, ...] | None) -> JSON:
    return [*value] if isinstance(value, tuple) else value


def read_generate(response: HttpResponse) -> str:
    """Return the id of the task that a create call made.

    An id counts whatever the code and status beside it: a task that has one can be asked for, and
    only an answer without one is a refusal.

    Raises:
        APIError: The service refused, or answered with something else.
    """
    envelope = read_envelope(response)
    data = reading.as_object(envelope.data)
    task_id = reading.as_id(reading.find(data, dialect.TASK_ID))
    if task_id is not None:
        return task_id
    if envelope.code == _OK:
        raise _unexpected(envelope, f"no task id in the create's answer {_quoted(response.body)}")
    if _says(envelope, dialect.RUNNING_WORDS) and envelope.code == _STILL_GENERATING:
        # What a 400 means in the spec. It does not say which task is running: it may be this one.
        text = f"the service answered 400 to a create: {envelope.message}; look for its task"
        raise _made(ServerError, text, envelope, None)
    raise error_of(envelope)


def encode_record_info(task_id: str) -> HttpRequest:
    """Return the call that asks for a task."""
    return HttpRequest(method="GET", path=dialect.RECORD_INFO_PATH, query={"taskId": task_id})


def read_record_info(response: HttpResponse, task_id: str) -> TaskRecord:
    """Return what the service says of a task.

    A 400 means "still generating" (spec: Error Codes) unless its words are those of a refusal
    (live document, section 4). Refusals, 451 and 501 in the envelope are a failed task. A 422 may
    also mean that there is nothing to tell yet. A page of something in between tells nothing.

    Raises:
        APIError: The service does not know the task, or did not answer the question.
    """
    envelope = read_envelope(response)
    if envelope.code == _OK and envelope.is_envelope:
        return _record(envelope, task_id)
    if _is_failure(envelope):
        return TaskRecord(
            task_id=task_id,
            status=TaskStatus.FAILED,
            error_code=envelope.code,
            error_message=envelope.message,
        )
    if envelope.code == _STILL_GENERATING or _says(envelope, dialect.NOT_READY_WORDS):
        return TaskRecord(task_id=task_id, status=TaskStatus.GENERATING)
    if envelope.is_page and envelope.code in _ABOUT_THE_TASK:
        raise _unexpected(envelope, f"HTTP {envelope.code} and no word of the service", task_id)
    raise error_of(envelope, task_id)


def _is_failure(envelope: Envelope) -> bool:
    if envelope.code in _FAILURES:
        return envelope.is_envelope
    is_bare = envelope.message.lower() == dialect.FAILED_WORD
    return _says(envelope, (dialect.FAILED_WORD,) if is_bare else dialect.REFUSAL_WORDS)


def _record(envelope: Envelope, task_id: str) -> TaskRecord:
    data = envelope.data
    if data is None:
        text = f"the service knows no task {task_id}; check the task id"
        raise _made(NotFoundError, text, envelope, task_id)
    if not isinstance(data, dict):
        raise _unexpected(envelope, f"the record of task {task_id} is not an object", task_id)
    named = reading.as_id(reading.find(data, dialect.TASK_ID))
    if named is not None and named != task_id:
        raise _unexpected(envelope, f"asked for task {task_id}, told of {named}", task_id)
    return record_of(data, task_id)


def record_of(data: JSONObject, task_id: str) -> TaskRecord:
    """Read a task's record out of an answer's `data`, in either spelling."""
    urls = _links(data)
    error_code = reading.as_int(reading.find(data, dialect.ERROR_CODE))
    return TaskRecord(
        task_id=task_id,
        status=_status(data, urls, error_code),
        video_url=urls[0] if urls else None,
        video_urls=urls,
        error_code=error_code,
        error_message=_line(data, dialect.ERROR_MESSAGE),
        created_at=reading.as_time(reading.find(data, dialect.CREATED_AT)),
        completed_at=reading.as_time(reading.find(data, dialect.COMPLETED_AT)),
        raw=data,
    )


def _status(data: JSONObject, urls: tuple[str, ...], error_code: int | None) -> TaskStatus:
    flags = [reading.find(data, (place,)) for place in dialect.STATUS]
    for number in map(reading.as_int, flags):
        if number is not None and number in dialect.STATUSES:
            return dialect.STATUSES[number]
    # An unknown status must not end a paid task: it goes on being polled.
    if any(flag is not None for flag in flags):
        return TaskStatus.GENERATING
    if urls:
        return TaskStatus.SUCCESS
    has_failed = error_code is not None and error_code >= _FIRST_ERROR
    return TaskStatus.FAILED if has_failed else TaskStatus.GENERATING


def _line(data: JSONObject, places: tuple[dialect.Place, ...]) -> str | None:
    return reading.as_line(reading.find(data, places), _LONGEST_WORDS)


def _links(data: JSONObject) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for place in dialect.VIDEO_URLS:
        found.update(dict.fromkeys(reading.as_urls(reading.find(data, (place,)))))
    return tuple(found)


def video_of(record: TaskRecord) -> Video:
    """Return the video of a task that succeeded.

    Raises:
        TaskFailedError: The task failed.
        UnexpectedResponseError: It is not finished, or is so without a link.
    """
    if record.status is TaskStatus.FAILED:
        raise failure_of(record)
    if record.video_url is None:
        raise UnexpectedResponseError(
            f"task {record.task_id} is {record.status} and has no link to its video; ask for it"
            f" later with veo.task({record.task_id!r})",
            code=_OK,
            http_status=_OK,
            task_id=record.task_id,
        )
    return Video(
        task_id=record.task_id,
        url=record.video_url,
        urls=record.video_urls,
        duration=reading.as_float(reading.find(record.raw, dialect.DURATION)),
        resolution=_line(record.raw, dialect.RESOLUTION),
        aspect_ratio=_line(record.raw, dialect.ASPECT_RATIO),
        seed=reading.as_int(reading.first(reading.find(record.raw, dialect.SEED))),
        has_audio=reading.as_bool(reading.first(reading.find(record.raw, dialect.HAS_AUDIO))),
        created_at=record.created_at,
        completed_at=record.completed_at,
        raw=record.raw,
    )


def credits_of(record: TaskRecord) -> int | None:
    """Return what a task cost, where the service says so."""
    told = reading.as_int(reading.find(record.raw, dialect.CREDITS))
    return None if told is None or told < 0 else told


def failure_of(record: TaskRecord) -> TaskFailedError:
    """Return the error that a failed task stands for."""
    reason = record.error_message or "no reason given"
    code = record.error_code
    is_retryable = may_succeed(code, reason)
    remedy = (
        "the same request may succeed as a new task"
        if is_retryable
        else "change the prompt or the images before submitting again"
    )
    return TaskFailedError(
        f"task {record.task_id} failed ({code or 'no code'}): {reason.rstrip('.')}; {remedy}",
        task_id=record.task_id,
        code=code,
        reason=reason,
        is_retryable=is_retryable,
    )


def may_succeed(code: int | None, reason: str) -> bool:
    """Return whether a request that failed like this may succeed as a new task."""
    if code is None:
        return any(part in reason.lower() for part in dialect.AGAIN_WORDS)
    return code == _NO_ANSWER or (code >= _FIRST_SERVER_ERROR and code != _SWITCHED_OFF)


def encode_upgrade_1080p(task_id: str, path: str) -> HttpRequest:
    """Return the call that converts a finished video to 1080P, at one of the two paths."""
    return HttpRequest(method="GET", path=path, query={"taskId": task_id})


def read_upgrade(response: HttpResponse, base: Video, resolution: str) -> Video | None:
    """Return the converted video, or None while it is not ready.

    A link counts whatever the code beside it, since the live service sends some with a 422 (live
    document 2.6). Not ready is a 400 (spec), a sentence of the live service, or no link yet.

    Raises:
        APIError: The service refuses to convert, or did not answer the question.
    """
    envelope = read_envelope(response)
    urls = _upgrade_links(envelope.data)
    if urls and response.status < _FIRST_SERVER_ERROR and envelope.is_envelope:
        return attrs.evolve(
            base,
            url=urls[0],
            urls=urls,
            resolution=resolution,
            origin=resolution,
            raw=envelope.data if isinstance(envelope.data, dict) else {},
        )
    if _is_not_ready(envelope):
        return None
    raise error_of(envelope, base.task_id)


def _upgrade_links(data: JSON) -> tuple[str, ...]:
    return _links(data) if isinstance(data, dict) else reading.as_urls(data)


def _is_not_ready(envelope: Envelope) -> bool:
    if not envelope.is_envelope or _says(envelope, dialect.REFUSAL_WORDS):
        return False
    is_early = envelope.code in {_OK, _STILL_GENERATING}
    return is_early or _says(envelope, dialect.CONVERTING_WORDS)
