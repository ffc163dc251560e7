"""The values that a journal keeps, and how an input gets its identity."""

import hashlib
import json
from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from veo_async.errors import InvalidRequestError
from veo_async.films import first_of, step_of, steps_of
from veo_async.protocol.jobs import JobState
from veo_async.request import PaidRequest, RequestFields, VideoRequest

if TYPE_CHECKING:
    from veo_async.models import JSON

__all__ = ["Attempt", "Job", "JobState"]

KEY_FIELD: Final = "key"
SUCCESS: Final = "success"  # ends of attempts, like the next two
REPLACED: Final = "replaced"
NOT_CREATED: Final = "not_created"
LONGEST_KEY: Final = 200  # characters
_DIGITS: Final = 16  # hex; a million different requests share one with a chance of 1 in 10^7
_LONGEST_SOURCE: Final = 1000  # characters of an invalid input that are kept


@attrs.frozen(kw_only=True)
class Attempt:
    """One paid task of a job, from the moment before its request left.

    Attributes:
        number: Its number within the job, from 1.
        token: What names its submit, and its callback.
        task_id: The service's id, once it is known.
        credits: What the price list says that it costs.
        charged: What it costs as far as that is known: `credits`, or 0 for what failed.
        intent_at: When the request left, epoch seconds.
        submitted_at: When the id came, epoch seconds.
        ended_at: When its end was seen, epoch seconds.
        end: `success`, `failed`, `not_created`; `replaced` for a success that is not wanted any
            more, since the request is another one; None while it goes on or is unknown.
        error_code: The service's code for a failure.
        error: The service's words for it.
    """

    number: int
    token: str = attrs.field(repr=False)  # whoever knows it may call back
    task_id: str | None = None
    credits: int
    charged: int
    intent_at: float
    submitted_at: float | None = None
    ended_at: float | None = None
    end: str | None = None
    error_code: int | None = None
    error: str | None = None


@attrs.frozen(kw_only=True)
class Job:
    """One item of a batch as its journal knows it.

    Attributes:
        key: What names it; unique in the journal.
        position: Its place in the input when it was first seen, from 1.
        request_text: The request as JSON; None where the input was invalid.
        source: The beginning of an invalid input.
        state: Where it stands.
        file: Name of its file, in the folder of the batch.
        size: Bytes of the file.
        sha256: Digest of the file, in hex.
        seed: The seed that the service used, where it said so.
        url: The newest link to the video.
        url_at: When that link was received, epoch seconds.
        error_kind: Name of the error's class.
        error_code: The service's code.
        error: What went wrong, in words.
        created_at: Epoch seconds.
        stored_at: When the file was whole, epoch seconds.
        attempts: Its paid tasks, the first one first.
    """

    key: str
    position: int
    request_text: str | None = attrs.field(default=None, repr=False)
    source: str | None = attrs.field(default=None, repr=False)
    state: JobState = JobState.NEW
    file: str | None = None
    size: int | None = None
    sha256: str | None = None
    seed: int | None = None
    url: str | None = None
    url_at: float | None = None
    error_kind: str | None = None
    error_code: int | None = None
    error: str | None = None
    created_at: float = 0.0
    stored_at: float | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def request(self) -> VideoRequest | None:
        """What was asked for; None where the input was invalid."""
        return None if self.request_text is None else request_from(self.request_text)

    @property
    def attempt(self) -> Attempt | None:
        """The newest paid task."""
        return self.attempts[-1] if self.attempts else None

    @property
    def task_id(self) -> str | None:
        """The newest task's id."""
        return None if self.attempt is None else self.attempt.task_id

    @property
    def steps(self) -> tuple[Attempt, ...]:
        """The tasks that are done: for a film, the first one and its extensions so far."""
        return tuple(attempt for attempt in self.attempts if attempt.end == SUCCESS)

    @property
    def film_id(self) -> str | None:
        """The task that the film has come to so far; None where no task is done."""
        steps = self.steps
        return steps[-1].task_id if steps else None

    @property
    def charged(self) -> int:
        """What all its tasks cost, as far as that is known."""
        return sum(attempt.charged for attempt in self.attempts)


def request_text(request: VideoRequest) -> str:
    """Return a request as JSON that is equal for equal requests: those that take the same tasks."""
    values = attrs.asdict(request, recurse=False) | {"extend_to": request.extensions}
    told = {name: value for name, value in values.items() if value not in (None, ())}
    told["extra"] = {**request.extra}
    return json.dumps(told, ensure_ascii=False, sort_keys=True)


def step_at(job: Job, request: VideoRequest) -> PaidRequest:
    """Return the request of the paid task that a job is at, or that it needs next."""
    steps = job.steps
    if steps and steps[-1] is job.attempt and job.state is not JobState.NEW:
        steps = steps[:-1]  # that one is asked for once more
    return step_of(request, len(steps), steps[-1].task_id if steps else None)


def kept_of(job: Job, wanted: str) -> int:
    """Return how many of the first tasks of a job are those of another request too."""
    try:
        old, new = job.request, request_from(wanted)
    except ValueError:
        return 0
    if old is None or not is_same(first_of(new), request_text(first_of(old))):
        return 0
    pairs = zip(old.extensions, new.extensions, strict=False)
    alike = 1 + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return min(alike, len(job.steps))


def is_past(job: Job, request: VideoRequest) -> bool:
    """Return whether all that another request asks for is done already, on the way to more."""
    return kept_of(job, request_text(request)) >= steps_of(request)


def not_to_be_changed(job: Job, request: VideoRequest) -> InvalidRequestError:
    """Return why a job cannot have another request."""
    if is_past(job, request):
        there = job.steps[steps_of(request) - 1].task_id
        text = f"what key {job.key!r} stands for now is task {there} already; download that, or"
    else:
        text = f"key {job.key!r} stands for another request, which is {job.state};"
    return InvalidRequestError(f"{text} give the new one a key of its own", field=KEY_FIELD)


def request_from(text: str) -> VideoRequest:
    """Return the request that `request_text` wrote."""
    values: dict[str, Any] = json.loads(text)
    return VideoRequest(**values)


@attrs.frozen(kw_only=True)
class Draft:
    """An input that was pulled, before the journal was asked.

    Attributes:
        position: Its place in the input, from 1.
        source: The input, as it was given.
        request: What it asks for; None where it is invalid.
        error: Why it is invalid.
        key: The key that it carries, if it does.
        identity: Equal for equal inputs.
    """

    position: int
    source: object
    request: VideoRequest | None = None
    error: InvalidRequestError | None = None
    key: str | None = None
    identity: str

    @property
    def source_text(self) -> str:
        """The beginning of the input, for a journal."""
        source = self.source
        return (source if isinstance(source, str) else _shown(source))[:_LONGEST_SOURCE]


def draft_of(source: object, position: int, defaults: RequestFields) -> Draft:
    """Read an input: a request, a prompt, or a mapping of a request's fields and perhaps a `key`.

    An `InvalidRequestError` is an input too: whoever read it may know already what is wrong.

    Args:
        source: What was pulled.
        position: Its place in the input, from 1.
        defaults: Fields for inputs that do not have them.
    """
    key: str | None = None
    try:
        key = _key_of(source)
        request = _read(source, defaults)
    except InvalidRequestError as error:
        identity = _digest(f"invalid {_shown(source)}") if key is None else key
        return Draft(position=position, source=source, error=error, key=key, identity=identity)
    return Draft(
        position=position,
        source=source,
        request=request,
        key=key,
        identity=_digest(_sameness(request_text(request))) if key is None else key,
    )


def _read(source: object, defaults: RequestFields) -> VideoRequest:
    if isinstance(source, VideoRequest):
        return source
    if isinstance(source, str):
        return VideoRequest(source, **defaults)
    if isinstance(source, InvalidRequestError):
        raise source
    if not isinstance(source, Mapping):
        raise InvalidRequestError(
            f"an item of the batch is a {type(source).__name__}; give a VideoRequest, a prompt, or"
            " a mapping of a request's fields",
            field="requests",
        )
    fields: dict[Any, Any] = {**defaults, **cast("Mapping[str, Any]", source)}
    fields.pop(KEY_FIELD, None)
    if "prompt" not in fields:
        raise InvalidRequestError("prompt is missing; describe the video", field="prompt")
    for name in fields:
        # Neither can be a keyword; csv.DictReader puts cells that are too many under None.
        if not isinstance(name, str) or name == "self":
            raise InvalidRequestError(
                f"{_shown(name):.80} is not a field of a request; leave it out",
                field=name if isinstance(name, str) else _shown(name),
            )
    return VideoRequest(**fields)


def _key_of(source: object) -> str | None:
    is_mapping = isinstance(source, Mapping)
    value = cast("Mapping[str, object]", source).get(KEY_FIELD) if is_mapping else None
    return None if value is None else checked_key(value)


def checked_key(value: object) -> str:
    """Return a key that can name a job.

    Raises:
        InvalidRequestError: It cannot.
    """
    if isinstance(value, str) and 0 < len(value) <= LONGEST_KEY and value.isprintable():
        return value
    raise InvalidRequestError(
        f"key is {_shown(value):.80}; give 1 to {LONGEST_KEY} printable characters, or leave it"
        " out",
        field=KEY_FIELD,
    )


def _shown(source: object) -> str:
    try:
        return repr(source)
    except Exception:  # noqa: BLE001  # anybody's object
        return type(source).__name__


def is_same(request: VideoRequest, text: str) -> bool:
    """Return whether a request that was written down asks for the same video."""
    try:
        return _sameness(request_text(request)) == _sameness(text)
    except ValueError:  # a damaged one asks for nothing
        return False


def _sameness(text: str) -> str:
    # Where the service reports to changes between runs, and does not change the video.
    values: dict[str, JSON] = json.loads(text)
    values.pop("callback_url", None)
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
