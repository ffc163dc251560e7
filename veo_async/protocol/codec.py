"""Requests to bytes-to-be, and answers to a value or one exact error."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast

import attrs

from veo_async.errors import (
    InvalidRequestError,
    NotFoundError,
    ServerError,
    TaskFailedError,
    UnexpectedResponseError,
)
from veo_async.models import (
    JSON,
    JSONObject,
    Model,
    Resolution,
    TaskRecord,
    TaskStatus,
    Video,
)
from veo_async.protocol import dialect, reading, remedies
from veo_async.protocol.dialect import Call, Form
from veo_async.protocol.envelope import (
    LONGEST_WORDS,
    OK,
    Envelope,
    error,
    error_of,
    quoted,
    read_envelope,
    refuses,
    says,
    unexpected,
)
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.request import ExtendRequest, PaidRequest, local_images

__all__: list[str] = []

_STILL_GENERATING = 400  # spec: Error Codes
_FAILURES = frozenset({451, 501})  # image unreachable, generation failed: live document, section 4
_ABOUT_THE_TASK = frozenset({404, 422, 451})  # believed of a paid task from the service only
_FIRST_ERROR = 400
_FIRST_SERVER_ERROR = 500
_NO_ANSWER = 408  # live document, section 4
_MOST_CREDITS: Final = Decimal(10) ** 18  # more is no balance, and long to write out
_MOST_DIGITS: Final = 40
_LINK_ROOTS: Final = frozenset(place[0] for place in dialect.VIDEO_URLS)


# --- what goes out


def encode_create(request: PaidRequest, form: Form = dialect.AUTO) -> HttpRequest:
    """Return the call that creates a paid task.

    Args:
        request: What to make.
        form: The dialect. What it has no name for is not sent.

    Raises:
        InvalidRequestError: `extra` repeats a field that has a name of its own, or an image is a
            path and was not uploaded.
    """
    check(request)
    if isinstance(request, ExtendRequest):
        return _encoded(form.extend, attrs.asdict(request, recurse=False))
    local = local_images(request.image_urls)
    if local:
        raise InvalidRequestError(
            f"image_urls holds {local[0]!r}, which was not uploaded; give the URL that"
            " veo.upload() returned",
            field="image_urls",
        )
    return _encoded(form.generate, attrs.asdict(request, recurse=False))


def check(request: PaidRequest) -> None:
    """Make sure that a request can be sent, in any dialect.

    Raises:
        InvalidRequestError: `extra` repeats a field that has a name of its own.
    """
    own = _EXTEND_NAMES if isinstance(request, ExtendRequest) else _GENERATE_NAMES
    for name in request.extra:
        if name in own:
            raise InvalidRequestError(
                f"extra holds {name!r}, which is a field of its own; set that field instead",
                field="extra",
            )


def _names(*calls: Call) -> frozenset[str]:
    steps = {place[-1] for call in calls for places in call.fields.values() for place in places}
    return frozenset(steps)


_GENERATE_NAMES: Final = _names(*(form.generate for form in dialect.FORMS.values()))
_EXTEND_NAMES: Final = _names(*(form.extend for form in dialect.FORMS.values()))


def _encoded(call: Call, values: Mapping[str, object]) -> HttpRequest:
    said: dict[str, JSON] = {**call.fixed}
    for field, places in call.fields.items():
        value = _as_json(values.get(field), call)
        if value is not None and value != []:
            for place in places:
                _put(said, place, value)
    for name, value in cast("JSONObject", values.get("extra", {})).items():
        _put(said, (*call.extra, call.extra_names.get(name, name)), value)
    if call.method == "GET":
        query = {name: str(value) for name, value in said.items()}
        return HttpRequest(method=call.method, path=call.path, query=query)
    return HttpRequest(method=call.method, path=call.path, body=said)


def _put(body: dict[str, JSON], place: dialect.Place, value: JSON) -> None:
    for step in place[:-1]:
        body = cast("dict[str, JSON]", body.setdefault(step, {}))
    body[place[-1]] = value


def _as_json(value: object, call: Call) -> JSON:
    if isinstance(value, tuple):
        return [*cast("tuple[str, ...]", value)]
    if isinstance(value, Model):
        return call.models.get(value, value)
    return cast("JSON", value)


def encode_record_info(task_id: str, form: Form = dialect.AUTO) -> HttpRequest:
    """Return the call that asks for a task."""
    call = form.record_info
    query = {place[-1]: task_id for place in call.fields["task_id"]}
    return HttpRequest(method=call.method, path=call.path, query=query)


def encode_upgrade(call: Call, task_id: str) -> HttpRequest:
    """Return the call that converts a finished video, in one of its spellings."""
    return _encoded(call, {"task_id": task_id})


def encode_credits() -> HttpRequest:
    """Return the call that asks for the account's balance (live document 2.10)."""
    return _encoded(dialect.CREDITS, {})


def encode_download_url(link: str) -> HttpRequest:
    """Return the call that asks for a temporary link to a file (live document 2.10)."""
    return _encoded(dialect.DOWNLOAD_URL, {"url": link})


# --- what comes back


def read_generate(response: HttpResponse, base_id: str | None = None) -> str:
    """Return the id of the task that a create call made.

    An id counts whatever the code and status beside it: a task that has one can be asked for, and
    only an answer without one is a refusal.

    Args:
        response: The answer.
        base_id: The task whose video it goes on from. A refusal may name that (live document 2.6).

    Raises:
        APIError: The service refused, or answered with something else.
    """
    envelope = read_envelope(response)
    data = reading.as_object(envelope.data)
    task_id = reading.as_id(reading.find(data, dialect.TASK_ID))
    if task_id is not None and (envelope.is_success or task_id != base_id):
        return task_id
    if envelope.code == OK:
        raise unexpected(envelope, f"no task id in the create's answer {quoted(response.body)}")
    if says(envelope, dialect.RUNNING_WORDS) and envelope.code == _STILL_GENERATING:
        # What a 400 means in the spec. It does not say which task is running: it may be this one.
        words = envelope.message.rstrip(".")
        text = f"the service answered 400 to a create: {words}; look for its task"
        raise error(ServerError, text, envelope, None)
    raise error_of(envelope)


def read_record_info(response: HttpResponse, task_id: str) -> TaskRecord:
    """Return what the service says of a task.

    A 400 means "still generating" (spec: Error Codes) unless its words are those of a refusal
    (live document, section 4). Refusals, 451 and 501 in the envelope are a failed task. A 422 may
    also mean that there is nothing to tell yet. A page of something in between tells nothing.

    Raises:
        APIError: The service does not know the task, or did not answer the question.
    """
    envelope = read_envelope(response)
    if envelope.is_success:
        return _record(envelope, task_id)
    if _is_failure(envelope):
        return TaskRecord(
            task_id=task_id,
            status=TaskStatus.FAILED,
            error_code=envelope.code,
            error_message=envelope.message,
        )
    if _is_running(envelope):
        return TaskRecord(task_id=task_id, status=TaskStatus.GENERATING)
    if envelope.is_page and envelope.code in _ABOUT_THE_TASK:
        raise unexpected(envelope, f"HTTP {envelope.code} and no word of the service", task_id)
    raise error_of(envelope, task_id)


def _is_failure(envelope: Envelope) -> bool:
    if envelope.code in _FAILURES:
        return envelope.is_envelope
    return refuses(envelope)


def _is_running(envelope: Envelope) -> bool:
    if envelope.code == _STILL_GENERATING:
        return not says(envelope, dialect.NO_TASK_ID_WORDS)
    return says(envelope, dialect.NOT_READY_WORDS)


def _record(envelope: Envelope, task_id: str) -> TaskRecord:
    data = envelope.data
    if data is None:
        text = f"the service knows no task {task_id}; check the task id"
        raise error(NotFoundError, text, envelope, task_id)
    if not isinstance(data, dict):
        raise unexpected(envelope, f"the record of task {task_id} is not an object", task_id)
    named = reading.as_id(reading.find(data, dialect.TASK_ID))
    if named is not None and named != task_id:
        raise unexpected(envelope, f"asked for task {task_id}, told of {named}", task_id)
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
    # The word first: a record that has it may have a number beside it that nobody documents.
    state = reading.at(data, dialect.STATE)
    if isinstance(state, str) and state in dialect.STATES:
        return dialect.STATES[state]
    is_told = state is not None
    for place in dialect.STATUS:
        flag = reading.at(data, place)
        number = None if flag is None else reading.as_int(flag)
        if number is not None and number in dialect.STATUSES:
            return dialect.STATUSES[number]
        is_told = is_told or flag is not None
    # An unknown status must not end a paid task: it goes on being polled.
    if is_told:
        return TaskStatus.GENERATING
    if urls:
        return TaskStatus.SUCCESS
    has_failed = error_code is not None and error_code >= _FIRST_ERROR
    return TaskStatus.FAILED if has_failed else TaskStatus.GENERATING


def _line(data: JSONObject, places: tuple[dialect.Place, ...]) -> str | None:
    return reading.as_line(reading.find(data, places), LONGEST_WORDS)


def _links(data: JSONObject) -> tuple[str, ...]:
    if not any(map(data.get, _LINK_ROOTS)):
        return ()
    found: dict[str, None] = {}
    for place in dialect.VIDEO_URLS:
        value = reading.at(data, place)
        if value is not None:
            found.update(dict.fromkeys(reading.as_urls(value)))
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
            code=OK,
            http_status=OK,
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


def repeats_request(record: TaskRecord) -> bool:
    """Return whether a record says all that was sent, as the newer form's does."""
    return reading.find(record.raw, dialect.ECHO) is not None


def credits_of(record: TaskRecord) -> int | None:
    """Return what a task cost, where the service says so."""
    told = reading.as_int(reading.find(record.raw, dialect.CREDITS_CONSUMED))
    return None if told is None or told < 0 else told


def failure_of(record: TaskRecord) -> TaskFailedError:
    """Return the error that a failed task stands for."""
    reason = record.error_message or "no reason given"
    code = record.error_code
    is_retryable = may_succeed(code, reason)
    usual = "change the prompt or the images"
    remedy = (
        "the same request may succeed as a new task"
        if is_retryable
        else f"{remedies.step_after(code, reason) or usual} before submitting again"
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
    if remedies.is_refusal(code, reason) or remedies.is_lasting(code, reason):
        return False
    if code is None:
        return any(part in reason.lower() for part in dialect.AGAIN_WORDS)
    return code == _NO_ANSWER or code >= _FIRST_SERVER_ERROR


def read_upgrade(response: HttpResponse, base: Video, resolution: Resolution) -> Video | None:
    """Return the converted video, or None while it is not ready.

    A link counts whatever the code beside it, since the live service sends some with a 422 (live
    document 2.6). Not ready is a 400 (spec), a sentence of the live service, or no link yet.

    Raises:
        APIError: The service refuses to convert, or did not answer the question.
    """
    envelope = read_envelope(response)
    urls = _links_of(envelope.data)
    if urls and response.status < _FIRST_SERVER_ERROR and envelope.is_envelope:
        raw = envelope.data if isinstance(envelope.data, dict) else {}
        return _upgraded(base, urls, resolution, raw)
    if _is_not_ready(envelope):
        return None
    raise error_of(envelope, base.task_id)


def upgraded_by(record: TaskRecord, base: Video, resolution: Resolution) -> Video | None:
    """Return the converted video that a task of its own made, or None while it is not ready.

    Raises:
        TaskFailedError: The conversion failed.
    """
    if record.status is TaskStatus.FAILED:
        raise failure_of(record)
    if record.status is TaskStatus.GENERATING or not record.video_urls:
        return None
    return _upgraded(base, record.video_urls, resolution, record.raw)


def _upgraded(base: Video, urls: tuple[str, ...], resolution: Resolution, raw: JSONObject) -> Video:
    return attrs.evolve(
        base, url=urls[0], urls=urls, resolution=resolution, origin=resolution, raw=raw
    )


def upgrade_task(video: Video) -> str | None:
    """Return the id of the task that converted a video, where it was one of its own."""
    made_by = reading.as_id(reading.find(video.raw, dialect.TASK_ID))
    return None if made_by == video.task_id else made_by


def _links_of(data: JSON) -> tuple[str, ...]:
    return _links(data) if isinstance(data, dict) else reading.as_urls(data)


def _is_not_ready(envelope: Envelope) -> bool:
    if not envelope.is_envelope or refuses(envelope):
        return False
    is_early = envelope.code in {OK, _STILL_GENERATING}
    return is_early or says(envelope, dialect.CONVERTING_WORDS)


def read_credits(response: HttpResponse) -> Decimal:
    """Return the account's balance, as exactly as it was written (live document 2.10).

    Raises:
        APIError: The service refused, or answered with something that is no balance.
    """
    envelope = read_envelope(response)
    if not envelope.is_success:
        raise error_of(envelope)
    balance = reading.exact_number(response.body, "data")
    is_fine = balance is not None and len(balance.as_tuple().digits) <= _MOST_DIGITS
    if balance is not None and is_fine and 0 <= balance < _MOST_CREDITS:
        return balance.copy_abs()  # of a negative zero; abs() would round
    raise unexpected(envelope, f"the balance {quoted(response.body)} is no number of credits")


def read_download_url(response: HttpResponse) -> str:
    """Return a temporary link, which works for 20 minutes (live document 2.10).

    Raises:
        APIError: The service has none, or answered with something that is no link.
    """
    envelope = read_envelope(response)
    if not envelope.is_success:
        raise error_of(envelope)
    links = _links_of(envelope.data)
    if not links:
        raise unexpected(envelope, f"no link in the answer {quoted(response.body)}")
    return links[0]
